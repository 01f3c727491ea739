from __future__ import annotations

import pytest
import torch

from macrec_core.recommender.augmentation import thinned
from macrec_core.recommender.packing import Sequences
from macrec_core.runtime import generator

END, PROMPT = 1, 2


def sequences(rows):
    lengths = torch.tensor([len(row) for row in rows])
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    return Sequences(torch.tensor([t for row in rows for t in row]).int(), offsets)


def rows_of(found):
    return [part.tolist() for part in found.flat.split(found.lengths.tolist())]


def history(items, width, prompt=False):
    """Tokens 10 * item + place, so that an item torn apart or moved would show."""
    tokens = [10 * item + place for item in items for place in range(width)]
    return [PROMPT] * prompt + tokens + [END]


def thin(rows, chosen, width, share, seed=0, prompts=()):
    leads = torch.tensor([int(place in prompts) for place in range(len(rows))])
    draws = generator(seed, "test")
    return rows_of(thinned(sequences(rows), leads, width, torch.tensor(chosen), share, draws))


@pytest.mark.parametrize("width", [1, 2, 4])
def test_without_a_share_the_rows_are_those_asked_for(width):
    rows = [history([1, 2, 3], width), history([4], width, True), history([5, 6], width)]
    assert thin(rows, [2, 0, 1], width, 0.0, prompts=(1,)) == [rows[2], rows[0], rows[1]]


@pytest.mark.parametrize("width", [1, 2, 4])
def test_with_nearly_everything_left_out_prompt_last_item_and_end_stay(width):
    rows = [history([1, 2, 3], width), history([4, 5], width, True), history([6], width)]
    found = thin(rows, [0, 1, 2], width, 1 - 1e-9, prompts=(1,))
    assert found == [history([3], width), history([5], width, True), history([6], width)]


def test_items_go_as_a_whole_and_keep_their_order():
    rows = [history(range(1, 13), 3), history(range(20, 30), 3, True)]
    seen = set()
    for seed in range(20):
        for row, prompted in zip(thin(rows, [0, 1], 3, 0.5, seed, (1,)), (0, 1), strict=True):
            items = [token // 10 for token in row[prompted:-1:3]]
            assert row == history(items, 3, bool(prompted))
            assert items == sorted(set(items))
            seen.add(tuple(items))
    assert len(seen) > 30  # of 40: each draw is another one


def test_as_many_are_left_out_as_the_share_says():
    count, length = 500, 11
    rows = [history(range(1, length + 1), 2)] * count
    found = thin(rows, list(range(count)), 2, 0.3)
    left_out = sum(len(rows[0]) - len(row) for row in found) / 2
    # Binomial over the items that may go: 5,000, deviation 32.
    assert abs(left_out - 0.3 * count * (length - 1)) < 5 * 32.4


def test_a_seed_decides():
    rows = [history(range(1, 9), 2)] * 3
    assert thin(rows, [0, 1], 2, 0.5, seed=3) == thin(rows, [0, 1], 2, 0.5, seed=3)
    assert thin(rows, [0, 1], 2, 0.5, seed=3) != thin(rows, [0, 1], 2, 0.5, seed=4)
