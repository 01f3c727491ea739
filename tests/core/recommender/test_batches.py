from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from macrec_core.recommender.batches import epoch_batches, micro_batches


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=60),
    st.integers(1, 20),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_an_epoch_meets_every_example_once(lengths, batch_size, length_pool, seed, epoch):
    batches = epoch_batches(torch.tensor(lengths), batch_size, length_pool, seed, epoch)
    assert sorted(torch.cat(batches).tolist()) == list(range(len(lengths)))
    # As many updates as the schedule counts: one batch at most is smaller.
    assert len(batches) == -(-len(lengths) // batch_size)
    assert sum(len(batch) < batch_size for batch in batches) <= 1


@pytest.mark.parametrize("length_pool", [1, 3])
def test_the_order_is_a_function_of_seed_and_epoch_alone(length_pool):
    lengths = torch.randint(1, 9, (200,), generator=torch.Generator().manual_seed(1))

    def order(seed, epoch):
        torch.manual_seed(torch.seed() % 1000)  # whatever the global generator holds
        return torch.cat(epoch_batches(lengths, 30, length_pool, seed, epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_a_pool_makes_the_lengths_of_a_batch_alike_and_keeps_their_order_random():
    lengths = torch.arange(120)[torch.randperm(120, generator=torch.Generator().manual_seed(1))]
    # One pool of the whole epoch: every batch is a run of neighbours in length.
    batches = [lengths[rows] for rows in epoch_batches(lengths, 10, 12, seed=0, epoch=0)]
    assert all(int(b.max() - b.min()) == 9 for b in batches)
    shortest = [int(b.min()) for b in batches]
    assert shortest != sorted(shortest)
    mixed = [lengths[rows] for rows in epoch_batches(lengths, 10, 1, seed=0, epoch=0)]
    assert min(int(b.max() - b.min()) for b in mixed) > 30


def test_micro_batches_hold_the_batch_longest_first_within_their_budget():
    lengths = torch.tensor([9, 2, 7, 2, 5, 1])
    parts = micro_batches(torch.tensor([0, 2, 3, 4, 1]), lengths, 15)
    assert [part.tolist() for part in parts] == [[0], [2, 4], [3, 1]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 80))
def test_micro_batches_lose_nothing_and_keep_to_the_budget(lengths, budget):
    sizes = torch.tensor(lengths)
    parts = micro_batches(torch.arange(len(lengths)), sizes, budget)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(lengths)))
    for part in parts:
        # One example longer than the budget stands alone rather than being dropped.
        assert len(part) == 1 or len(part) * int(sizes[part].max()) <= budget
