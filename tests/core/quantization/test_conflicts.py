"""Conflict reassignment: examples by hand, two oracles, and properties.

The oracles are a search over the list of all IDs, and the walk over the tree item by item
(`benchmarks.plain_conflicts`), which also larger catalogues are compared with.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.plain_conflicts import make_unique_plainly
from macrec_core.errors import MacrecError
from macrec_core.quantization import conflicts
from macrec_core.quantization.conflicts import make_unique


def nearest_codes(latents, codebooks):
    residual, codes = latents.astype(np.float64), []
    for codebook in codebooks:
        codes.append(np.square(residual[:, None] - codebook).sum(axis=2).argmin(axis=1))
        residual = residual - codebook[codes[-1]]
    return np.stack(codes, axis=1).astype(np.int32)


def left_over(latents, codebooks, codes):
    """Squared distance of each item to its last-level code."""
    vectors = sum(codebooks[k].astype(np.float64)[codes[:, k]] for k in range(len(codebooks)))
    return np.square(latents - vectors).sum(axis=1)


@st.composite
def cases(draw, crowded=False):
    """Latents [N, d], codebooks [L, M, d] and codes [N, L], with or without ties."""
    levels, size, dim = draw(st.integers(1, 4)), draw(st.integers(2, 4)), draw(st.integers(1, 3))
    room = size**levels
    count = room if crowded else draw(st.integers(1, min(room, 60)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    latents = rng.normal(size=(count, dim)).astype(np.float32)
    codebooks = rng.normal(size=(levels, size, dim)).astype(np.float32)
    if draw(st.booleans()):  # a coarse grid has many ties
        latents, codebooks = np.round(latents), np.round(codebooks)
    kind = draw(st.sampled_from(["nearest", "random", "all equal"]))
    if kind == "nearest":
        codes = nearest_codes(latents, codebooks)
    elif kind == "random":
        codes = rng.integers(0, size, (count, levels)).astype(np.int32)
    else:
        codes = np.tile(rng.integers(0, size, levels), (count, 1)).astype(np.int32)
    return latents, codebooks, codes


def by_brute_force(latents, codebooks, nearest):
    """The rule over the list of all IDs: leave one's path late, then descend to the nearest."""
    size, levels = codebooks.shape[1], nearest.shape[1]
    distance = left_over(latents, codebooks, nearest)
    keeper = {}
    for item in np.lexsort((np.arange(len(nearest)), distance)).tolist():
        keeper.setdefault(tuple(nearest[item].tolist()), item)
    codes = nearest.copy()
    free = set(product(range(size), repeat=levels)) - keeper.keys()
    moving = set(range(len(nearest))) - set(keeper.values())
    for item in sorted(moving, key=lambda i: (distance[i], i)):
        own = tuple(nearest[item].tolist())
        for depth in reversed(range(levels)):
            candidates = [path for path in free if path[:depth] == own[:depth]]
            if candidates:
                break
        residual = latents[item].astype(np.float64)
        for level in range(levels):
            reach = {path[level] for path in candidates}
            away = {c: np.square(residual - codebooks[level, c]).sum() for c in reach}
            code = min(reach, key=lambda c: (away[c], c))
            candidates = [path for path in candidates if path[level] == code]
            residual = residual - codebooks[level, code]
        codes[item] = candidates[0]
        free.remove(candidates[0])
    return codes


CHECKED = settings(deadline=None, max_examples=150, derandomize=True)


@CHECKED
@given(cases())
def test_ids_are_unique_and_valid(case):
    latents, codebooks, codes = case
    before = [array.copy() for array in case]
    found = make_unique(latents, codebooks, codes)
    assert found.codes.shape == codes.shape
    assert found.codes.dtype == np.int32
    assert len({tuple(row) for row in found.codes.tolist()}) == len(codes)
    assert found.codes.min() >= 0
    assert found.codes.max() < codebooks.shape[1]
    # The arguments stay as they were.
    assert all(np.array_equal(a, b) for a, b in zip(before, case, strict=True))


@CHECKED
@given(cases())
def test_exactly_the_closest_of_each_group_keeps_its_id(case):
    latents, codebooks, codes = case
    found = make_unique(latents, codebooks, codes)
    kept = (found.codes == codes).all(axis=1)
    distance = left_over(latents, codebooks, codes)
    groups = {}
    for item, path in enumerate(codes.tolist()):
        groups.setdefault(tuple(path), []).append(item)
    for members in groups.values():
        closest = min(members, key=lambda i: (distance[i], i))
        # Rounding may decide between items that are as good as equally close.
        keepers = [i for i in members if kept[i]]
        assert len(keepers) == 1
        assert distance[keepers[0]] == pytest.approx(distance[closest], rel=1e-9, abs=1e-9)
        if len(members) == 1:
            assert kept[members[0]]
    assert found.num_moved == len(codes) - len(groups)


@CHECKED
@given(cases())
def test_moved_above_counts_those_that_leave_their_last_prefix(case):
    latents, codebooks, codes = case
    found = make_unique(latents, codebooks, codes)
    left = (found.codes[:, :-1] != codes[:, :-1]).any(axis=1)
    assert found.num_moved_above == left.sum()
    # Nobody leaves a prefix that still has room.
    taken = [tuple(row) for row in found.codes[:, :-1].tolist()]
    for item in np.flatnonzero(left):
        assert taken.count(tuple(codes[item, :-1].tolist())) == codebooks.shape[1]


@CHECKED
@given(cases())
def test_result_is_that_of_a_search_over_all_ids(case):
    latents, codebooks, codes = case
    found = make_unique(latents, codebooks, codes).codes
    assert np.array_equal(found, by_brute_force(latents, codebooks, codes))


def check_against_the_walk(latents, codebooks, codes):
    with np.errstate(invalid="ignore"):
        expected, moved, moved_above = make_unique_plainly(latents, codebooks, codes)
        found = make_unique(latents, codebooks, codes)
    assert np.array_equal(found.codes, expected)
    assert (found.num_moved, found.num_moved_above) == (moved, moved_above)
    return found


@CHECKED
@given(cases())
def test_result_is_that_of_the_walk_item_by_item(case):
    check_against_the_walk(*case)


@CHECKED
@given(cases(crowded=True))
def test_result_is_that_of_the_walk_where_every_id_is_needed(case):
    check_against_the_walk(*case)


KINDS = ("nearest", "random", "skewed", "all equal")


def larger_case(rng, levels, size, dim, count, kind, scale=1.0):
    latents = rng.normal(size=(count, dim))
    codebooks = rng.normal(size=(levels, size, dim))
    if rng.random() < 0.3:  # many ties
        latents, codebooks = np.round(latents), np.round(codebooks)
    if rng.random() < 0.2:  # codes that only rounding tells apart
        codebooks = codebooks[:, :1] * (1 + 1e-7 * rng.normal(size=codebooks.shape))
    if rng.random() < 0.4:  # copies
        latents = latents[np.minimum(rng.geometric(0.02, count), count) - 1]
    latents = (scale * latents).astype(np.float32)
    codebooks = (scale * codebooks).astype(np.float32)
    if kind == "nearest":
        codes = nearest_codes(latents, codebooks)
    elif kind == "random":
        codes = rng.integers(0, size, (count, levels))
    elif kind == "skewed":  # whole subtrees overflow while others are empty
        codes = np.minimum(rng.geometric(0.5, (count, levels)) - 1, size - 1)
    else:
        codes = np.tile(rng.integers(0, size, levels), (count, 1))
    return latents, codebooks, codes.astype(np.int32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_larger_catalogues_are_those_of_the_walk(monkeypatch, kind, seed):
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    # Pieces of every size: one item, some, all.
    monkeypatch.setattr(conflicts, "_ITEMS", int(rng.choice([1, 5, 64, 1 << 16])))
    monkeypatch.setattr(conflicts, "_ROWS", int(rng.choice([1, 7, 4096])))
    monkeypatch.setattr(conflicts, "_DIRECT_ROWS", int(rng.choice([1, 5, 256])))
    levels, size = int(rng.integers(1, 5)), int(rng.choice([3, 6, 16]))
    count = min(size**levels, 800)
    dim = int(rng.choice([1, 3, 8, 9, 33]))
    check_against_the_walk(*larger_case(rng, levels, size, dim, count, kind))


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-20, 1e-3, 1e15, 1e25, 1e37])
@pytest.mark.parametrize("kind", ["nearest", "skewed"])
def test_numbers_of_every_size_are_those_of_the_walk(kind, scale):
    rng = np.random.default_rng(5)
    for _ in range(4):
        check_against_the_walk(*larger_case(rng, 2, 8, 5, 60, kind, scale))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_latents_that_are_no_numbers_still_give_the_ids_of_the_walk(odd):
    rng = np.random.default_rng(6)
    latents, codebooks, codes = larger_case(rng, 2, 6, 4, 30, "skewed")
    latents[::3, 1] = odd
    check_against_the_walk(latents, codebooks, codes)


def test_latents_far_from_zero_are_those_of_the_walk():
    """Where float32 products say nothing about which code is nearer."""
    rng = np.random.default_rng(7)
    latents, codebooks, codes = larger_case(rng, 3, 6, 8, 200, "skewed")
    assert check_against_the_walk(latents + 3000, codebooks, codes).num_moved > 100


def test_by_hand_who_overflows_may_take_what_somebody_at_home_wants_later():
    codebooks = np.array([[[0.0], [10.0], [100.0]], [[-1.0], [0.0], [1.0]]], dtype=np.float32)
    latents = np.array([[1.0], [0.95], [1.1], [1.2], [9.0], [9.3]], dtype=np.float32)
    nearest = nearest_codes(latents, codebooks)
    assert nearest.tolist() == [[0, 2]] * 4 + [[1, 0]] * 2
    found = check_against_the_walk(latents, codebooks, nearest)
    # 0.95 and 1.1 fill the prefix 0. So 1.2 goes to 10, where -1 is taken, and takes 0; the
    # next in order, 9.3, finds -1 and 0 taken.
    assert found.codes.tolist() == [[0, 2], [0, 1], [0, 0], [1, 1], [1, 0], [1, 2]]
    assert (found.num_moved, found.num_moved_above) == (4, 1)


@pytest.mark.parametrize(("levels", "size"), [(15, 256), (12, 64), (9, 128)])
def test_more_ids_than_64_bits_count(levels, size):
    rng = np.random.default_rng(8)
    latents, codebooks, codes = larger_case(rng, levels, size, 4, 300, "all equal")
    codes[150:, 0] = (codes[150:, 0] + 1) % size
    found = check_against_the_walk(latents, codebooks, codes)
    assert found.num_moved == 298


def test_a_giant_group_fills_subtree_after_subtree():
    rng = np.random.default_rng(9)
    codebooks = rng.normal(size=(3, 8, 4)).astype(np.float32)
    latents = np.tile(rng.normal(size=4), (500, 1)).astype(np.float32)
    codes = np.tile(nearest_codes(latents[:1], codebooks), (500, 1))
    found = check_against_the_walk(latents, codebooks, codes)
    # 8 IDs below the last prefix, 64 below the one before; the next subtrees fill in turn.
    first = np.bincount(found.codes[:, 0])
    assert sorted(first[first > 0], reverse=True) == [64] * 7 + [52]
    assert (found.num_moved, found.num_moved_above) == (499, 492)


@CHECKED
@given(cases(crowded=True))
def test_as_many_items_as_ids_fill_the_whole_tree(case):
    latents, codebooks, codes = case
    found = make_unique(latents, codebooks, codes).codes
    levels, size = codebooks.shape[:2]
    assert sorted(map(tuple, found.tolist())) == list(product(range(size), repeat=levels))


@CHECKED
@given(cases(), st.integers(0, 2**32 - 1))
def test_row_order_matters_only_for_ties(case, seed):
    latents, codebooks, codes = case
    assume(len(np.unique(left_over(latents, codebooks, codes).round(6))) == len(codes))
    order = np.random.default_rng(seed).permutation(len(codes))
    found = make_unique(latents, codebooks, codes).codes
    shuffled = make_unique(latents[order], codebooks, codes[order]).codes
    assert np.array_equal(shuffled, found[order])


@CHECKED
@given(cases())
def test_a_second_call_gives_the_same_and_its_result_stands(case):
    latents, codebooks, codes = case
    first, second = (make_unique(latents, codebooks, codes) for _ in range(2))
    assert np.array_equal(first.codes, second.codes)
    again = make_unique(latents, codebooks, first.codes)
    assert again.num_moved == again.num_moved_above == 0
    assert np.array_equal(again.codes, first.codes)


def test_identical_items_spread_in_row_order_over_the_nearest_ids():
    codebooks = np.array([[[0.0], [8.0]], [[0.0], [1.0]]], dtype=np.float32)
    latents = np.full((4, 1), 0.1, dtype=np.float32)
    found = make_unique(latents, codebooks, np.zeros((4, 2), dtype=np.int32))
    assert found.codes.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert (found.num_moved, found.num_moved_above) == (3, 2)


def test_by_hand_an_exhausted_last_level_moves_one_level_up():
    # Level 0: codes at 0 and 10; level 1: at -1 and +1.
    codebooks = np.array([[[0.0], [10.0]], [[-1.0], [1.0]]], dtype=np.float32)
    latents = np.array([[0.9], [1.0], [1.2], [9.0]], dtype=np.float32)
    nearest = nearest_codes(latents, codebooks)
    assert nearest.tolist() == [[0, 1], [0, 1], [0, 1], [1, 0]]
    found = make_unique(latents, codebooks, nearest)
    # 1.0 lies on its ID and keeps it; 0.9, closer than 1.2, takes the other code below 0; for
    # 1.2 only code 10 has room, and below it -1 belongs to 9.0.
    assert found.codes.tolist() == [[0, 0], [0, 1], [1, 1], [1, 0]]
    assert (found.num_moved, found.num_moved_above) == (2, 1)


def test_by_hand_exhaustion_climbs_level_by_level():
    codebooks = np.array([[[0.0], [100.0]], [[0.0], [10.0]], [[0.0], [1.0]]], dtype=np.float32)
    latents = np.array([[0.4], [0.3], [0.0], [0.1], [0.2]], dtype=np.float32)
    nearest = nearest_codes(latents, codebooks)
    assert not nearest.any()
    found = make_unique(latents, codebooks, nearest)
    # In the order 0.0, 0.1, ... 0.4. Below code 10 the residual is about -9.8, below 100 -99.6.
    assert found.codes.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert (found.num_moved, found.num_moved_above) == (4, 3)


def test_distances_follow_the_new_path():
    """One level up the item's residual changes, and with it which last-level code is nearest."""
    codebooks = np.array([[[0.0], [3.0]], [[-2.0], [0.0]]], dtype=np.float32)
    latents = np.array([[0.0], [0.1], [0.2]], dtype=np.float32)
    found = make_unique(latents, codebooks, nearest_codes(latents, codebooks))
    # 0.2 lies nearest to 0 below code 0, but to -2 below code 3.
    assert found.codes.tolist() == [[0, 1], [0, 0], [1, 0]]


def test_unique_codes_are_left_alone():
    codes = np.array([[0, 1], [1, 0], [1, 1]], dtype=np.int32)
    found = make_unique(np.zeros((3, 1), np.float32), np.zeros((2, 2, 1), np.float32), codes)
    assert np.array_equal(found.codes, codes)
    assert found.num_moved == 0


def test_more_items_than_ids_is_an_error_with_both_numbers_and_a_remedy():
    latents, codebooks = np.zeros((10, 2), np.float32), np.zeros((2, 3, 2), np.float32)
    with pytest.raises(MacrecError) as caught:
        make_unique(latents, codebooks, np.zeros((10, 2), dtype=np.int32))
    assert str(caught.value) == (
        "10 items have no unique IDs of 2 levels of 3 codes (at most 9); "
        "raise quant.codebook_size or quant.num_levels"
    )
