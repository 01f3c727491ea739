from __future__ import annotations

import numpy as np
import torch

from macrec_core.baselines.histories import (
    held_out_histories,
    training_histories,
    whole_sequences,
)
from macrec_core.cases import cases_of, training_sequences

SEQUENCES = [[3, 1, 4, 1, 5, 9, 2], [6, 5, 3], [5, 8, 9, 7], [9]]


def rows(histories):
    """Histories and targets as lists."""
    batch = histories.batch(torch.arange(len(histories)))
    lists = [row[:n].tolist() for row, n in zip(batch.items, batch.lengths, strict=True)]
    return list(zip(lists, batch.targets.tolist(), strict=True))


def test_every_training_item_but_the_first_follows_what_came_before(make_interactions):
    table = make_interactions(SEQUENCES)
    found = training_histories(*training_sequences(table), 10, 20)
    # The last two items of a user are held out.
    assert rows(found) == [
        ([3], 1), ([3, 1], 4), ([3, 1, 4], 1), ([3, 1, 4, 1], 5), ([5], 8),
    ]  # fmt: skip


def test_a_history_keeps_its_latest_items(make_interactions):
    table = make_interactions(SEQUENCES)
    found = training_histories(*training_sequences(table), 10, 2)
    assert rows(found) == [([3], 1), ([3, 1], 4), ([1, 4], 1), ([4, 1], 5), ([5], 8)]


def test_held_out_cases_have_everything_before_their_target(make_interactions):
    table = make_interactions(SEQUENCES)
    for split, expected in (
        ("valid", [([1, 4, 1, 5], 9), ([6], 5), ([5, 8], 9)]),
        ("test", [([4, 1, 5, 9], 2), ([6, 5], 3), ([5, 8, 9], 7)]),
    ):
        assert rows(held_out_histories(cases_of(table, split, None), 10, 4)) == expected


def test_a_batch_is_as_wide_as_its_longest_history_and_filled_at_the_end(make_interactions):
    histories = training_histories(*training_sequences(make_interactions(SEQUENCES)), 10, 20)
    batch = histories.batch(torch.tensor([4, 1, 0]))
    assert batch.items.tolist() == [[5, 10], [3, 1], [3, 10]]
    assert batch.lengths.tolist() == [1, 2, 1]
    assert batch.targets.tolist() == [8, 4, 1]
    assert batch.inside().tolist() == [[True, False], [True, True], [True, False]]
    states = torch.arange(6.0).view(3, 2, 1)
    assert batch.last(states)[:, 0].tolist() == [0.0, 3.0, 4.0]


def test_histories_share_one_row_of_items(make_interactions):
    histories = training_histories(*training_sequences(make_interactions(SEQUENCES)), 10, 20)
    assert np.array_equal(histories.items, [3, 1, 4, 1, 5, 6, 5, 8, 10])


def test_whole_sequences_are_the_latest_training_items_of_each_user(make_interactions):
    table = make_interactions(SEQUENCES)
    found = whole_sequences(*training_sequences(table), 10, 3)
    # The last two items of a user are held out, the first two of user 0 lie too far back.
    assert np.array_equal(found.items, [4, 1, 5, 6, 5, 8, 10])
    assert rows(found) == [([4, 1, 5], 10), ([6], 10), ([5, 8], 10)]
    assert [r for r, _ in rows(whole_sequences(*training_sequences(table), 10, 20))] == [
        [3, 1, 4, 1, 5], [6], [5, 8],
    ]  # fmt: skip
