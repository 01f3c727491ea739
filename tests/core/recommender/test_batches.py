from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from macrec_core.recommender.batches import epoch_batches, micro_batches


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_meets_every_example_once(count, batch_size, seed, epoch):
    batches = epoch_batches(count, batch_size, seed, epoch)
    assert sorted(torch.cat(batches).tolist()) == list(range(count))
    # As many updates as the schedule counts: the last batch alone is smaller.
    assert len(batches) == -(-count // batch_size)
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    def order(seed, epoch):
        torch.manual_seed(torch.seed() % 1000)  # whatever the global generator holds
        return torch.cat(epoch_batches(200, 30, seed, epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert order(1, 2) != sorted(order(1, 2))


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
