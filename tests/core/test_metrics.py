"""Every metric against a value worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from macrec_core.metrics import (
    code_entropy,
    codebook_use,
    collision_rate,
    expected_random_metrics,
    hit_rate,
    id_keys,
    mean_and_std,
    ndcg,
    num_distinct,
    ranking_metrics,
    sorted_code_counts,
)

# Five users: first, third, tenth, eleventh place, and a miss.
RANKS = np.array([1, 3, 10, 11, 0])
# IDs (0,0) twice, (0,1), (2,1).
CODES = np.array([[0, 0], [0, 0], [0, 1], [2, 1]], dtype=np.int32)


@pytest.mark.parametrize(("k", "expected"), [(1, 0.2), (3, 0.4), (5, 0.4), (10, 0.6), (11, 0.8)])
def test_hit_rate_counts_every_user(k, expected):
    assert hit_rate(RANKS, k) == pytest.approx(expected)


def test_ndcg_by_hand():
    # 1/log2(2) = 1, 1/log2(4) = 1/2, 1/log2(11).
    assert ndcg(RANKS, 1) == pytest.approx(1 / 5)
    assert ndcg(RANKS, 5) == pytest.approx(1.5 / 5)
    assert ndcg(RANKS, 10) == pytest.approx((1.5 + 1 / math.log2(11)) / 5)


def test_ranking_metrics_names_them_all():
    found = ranking_metrics(RANKS)
    assert list(found) == ["hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10"]
    assert found["hr@10"] == pytest.approx(0.6)
    assert found["ndcg@5"] == pytest.approx(0.3)


def test_all_first_is_one_and_all_missed_is_zero():
    assert set(ranking_metrics(np.ones(3, dtype=int)).values()) == {1.0}
    assert set(ranking_metrics(np.zeros(3, dtype=int)).values()) == {0.0}


@pytest.mark.parametrize("num_items", [3, 10, 50])
def test_random_ranking_is_the_mean_over_all_places(num_items):
    every_place = ranking_metrics(np.arange(1, num_items + 1))
    assert expected_random_metrics(np.full(4, num_items)) == pytest.approx(every_place)


def test_random_ranking_averages_over_users_and_an_unreachable_target_is_a_miss():
    few, many = (expected_random_metrics(np.array([n])) for n in (3, 50))
    found = expected_random_metrics(np.array([3, 50, np.inf]))
    assert found == pytest.approx({name: (few[name] + many[name]) / 3 for name in few})


def test_collision_rate_by_hand():
    assert collision_rate(CODES) == pytest.approx(1 / 4)
    assert collision_rate(CODES[1:]) == 0.0
    assert collision_rate(np.zeros((5, 3), np.int32)) == pytest.approx(4 / 5)
    # Three in one group and two in another: five items, two IDs.
    assert collision_rate(np.array([[1], [1], [1], [2], [2]], np.int32)) == pytest.approx(3 / 5)


@pytest.mark.parametrize(("levels", "size"), [(1, 9), (4, 5), (9, 128), (15, 256)])
def test_distinct_ids_are_counted_whatever_their_length(levels, size):
    codes = np.random.default_rng(4).integers(0, size, (200, levels)).astype(np.int32)
    codes[120:] = codes[:80]
    assert num_distinct(codes) == len(set(map(tuple, codes.tolist())))
    assert num_distinct(codes[:0]) == 0


@pytest.mark.parametrize(("levels", "size"), [(3, 4), (7, 256), (8, 256), (15, 256), (9, 128)])
def test_keys_are_equal_for_equal_ids_and_in_their_order(levels, size):
    rng = np.random.default_rng(3)
    codes = rng.integers(0, size, (300, levels)).astype(np.int32)
    codes[150:, : levels - 1] = codes[:150, : levels - 1]
    codes[:20] = size - 1
    keys = id_keys(codes, size)
    paths = list(map(tuple, codes.tolist()))
    order = np.argsort(keys, kind="stable")
    assert [paths[i] for i in order] == sorted(paths)
    assert len(set(keys.tolist())) == len(set(paths))


def test_codebook_use_by_hand():
    assert codebook_use(CODES, 4) == [0.5, 0.5]
    assert codebook_use(CODES[:1], 4) == [0.25, 0.25]


def test_code_entropy_by_hand():
    # Frequencies 3/4 and 1/4; 1/2 and 1/2; both over log 4.
    first = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(4)
    assert code_entropy(CODES, 4) == pytest.approx([first, 0.5])


def test_code_entropy_is_one_for_even_use_and_zero_for_one_code():
    even = np.array([[0, 2], [1, 2], [2, 2]], np.int32)
    assert code_entropy(even, 3) == pytest.approx([1.0, 0.0])


def test_sorted_code_counts_by_hand():
    assert sorted_code_counts(CODES, 3).tolist() == [[3, 1, 0], [2, 2, 0]]


def test_mean_and_sample_standard_deviation():
    assert mean_and_std([1.0, 2.0, 6.0]) == pytest.approx((3.0, math.sqrt(7.0)))
    assert mean_and_std([4.0]) == (4.0, None)
