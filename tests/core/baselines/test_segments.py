from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from macrec_core.baselines.histories import whole_sequences
from macrec_core.baselines.segments import draw_masks, draw_negatives, draw_segments
from macrec_core.errors import MacrecError

from .conftest import batch_of


def test_a_share_of_the_items_is_masked_and_always_one():
    lengths = torch.tensor([1, 2, 5, 9] * 1000)
    masked = draw_masks(lengths, 9, 0.2, torch.Generator().manual_seed(0))
    assert not masked[torch.arange(9) >= lengths[:, None]].any()
    assert masked.any(dim=1).all()
    # A fifth of nine items, and where chance masks nothing (0.8 ** 9), the last one.
    assert masked[lengths == 9].float().mean() == pytest.approx(0.2 + 0.8**9 / 9, abs=0.01)
    assert masked[lengths == 9, 0].float().mean() == pytest.approx(0.2, abs=0.03)


def test_negatives_are_all_other_items_with_equal_chances():
    items = batch_of([[1, 3, 1, 6], [0]], [0, 0], 8).items.repeat(1500, 1)
    found = draw_negatives(items, 8, torch.Generator().manual_seed(0))
    for row, others in ((0, {0, 2, 4, 5, 7}), (1, set(range(1, 8)))):
        counts = Counter(found[row::2].flatten().tolist())
        assert set(counts) == others
        expected = 6000 / len(others)
        assert max(abs(count - expected) for count in counts.values()) < 5 * expected**0.5


def test_a_sequence_of_the_whole_catalogue_has_no_negative():
    with pytest.raises(MacrecError, match=r"holds all 3 items.*lower sequential\.max_history"):
        draw_negatives(batch_of([[2, 0, 1], [1]], [0, 0], 3).items, 3, torch.Generator())


def test_segments_lie_in_their_sequence_and_negatives_in_others():
    # Item ids tell whose they are: 10 * user + place.
    sizes = [1, 2, 5, 7]
    users = np.repeat(np.arange(4), sizes)
    flat = np.concatenate([10 * user + np.arange(size) for user, size in enumerate(sizes)])
    sequences = whole_sequences(users, flat, 99, 20)
    rows = torch.arange(4).repeat(800)
    found = draw_segments(sequences, rows, 7, torch.Generator().manual_seed(0))
    seen = Counter()
    for row, inside, negative, valid in zip(
        rows.tolist(), found.inside, found.negative, found.valid.tolist(), strict=True
    ):
        assert valid == (sizes[row] > 1)
        places = inside.nonzero()[:, 0].tolist()
        assert places == list(range(places[0], places[0] + len(places)))
        assert places[-1] < sizes[row]
        assert len(places) <= max(sizes[row] // 2, 1)
        taken = negative[inside].tolist()
        first = flat.tolist().index(taken[0])
        assert taken == flat[first : first + len(taken)].tolist()
        if valid:
            assert all(item // 10 != row for item in taken)
        seen[row, places[0], len(places)] += 1
    # Each length, and in it each place, with equal chances: of seven items six places for two.
    assert {key[1:] for key in seen if key[0] == 2} == {
        *((place, 1) for place in range(5)), *((place, 2) for place in range(4)),
    }  # fmt: skip
    for place in range(6):
        assert seen[3, place, 2] == pytest.approx(800 / 3 / 6, abs=25)
    negatives = found.negative[3::4][found.inside[3::4]]
    assert set((negatives // 10).tolist()) == {0, 1, 2}


def test_where_no_other_stretch_of_the_length_exists_a_sequence_has_no_segment():
    sequences = whole_sequences(np.zeros(6, dtype=int), np.arange(6), 9, 20)
    found = draw_segments(sequences, torch.zeros(5, dtype=torch.long), 6, torch.Generator())
    assert not found.valid.any()
