from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from macrec_core.fusion import fuse, target_ranks
from macrec_core.ranking import Ranking


def ranking(*users):
    """A ranking of one dict of item to score a user."""
    ordered = [sorted(user.items(), key=lambda pair: (-pair[1], pair[0])) for user in users]
    flat = [pair for user in ordered for pair in user]
    offsets = np.cumsum([0, *map(len, ordered)])
    return Ranking(
        offsets, np.array([i for i, _ in flat], np.int64), np.array([s for _, s in flat], float)
    )


def as_lists(result):
    """[(item, score), ...] of every user."""
    return [
        list(zip(result.items[a:b].tolist(), result.scores[a:b].tolist(), strict=True))
        for a, b in zip(result.offsets[:-1], result.offsets[1:], strict=True)
    ]


A, B, C, D = 11, 3, 40, 7
TEXT = ranking({A: -1.0, B: -2.0})
IMAGE = ranking({B: -3.0, C: -0.5})


def test_mean_plus_found_by_hand():
    # B, found by both: (-2 - 3) / 2 + 1; A and C, found by one, keep their own.
    assert as_lists(fuse([TEXT, IMAGE], "mean_plus_found")) == [[(C, -0.5), (A, -1.0), (B, -1.5)]]
    close = ranking({B: -1.2, C: -0.5})
    assert as_lists(fuse([TEXT, close], "mean_plus_found")) == [
        [(C, -0.5), (B, pytest.approx(-0.6)), (A, -1.0)]
    ]


def test_mean_by_hand():
    # Where a list lacks the item its lowest score stands in: -3 for A in the image list.
    assert as_lists(fuse([TEXT, IMAGE], "mean")) == [[(C, -1.25), (A, -2.0), (B, -2.5)]]


def test_reciprocal_rank_by_hand():
    found = as_lists(fuse([TEXT, IMAGE], "reciprocal_rank"))
    assert found == [
        [
            (B, pytest.approx(2 / 62)),
            (A, pytest.approx(1 / 61)),  # equal scores in the order of the lists
            (C, pytest.approx(1 / 61)),
        ]
    ]


def test_three_lists_by_hand():
    third = ranking({B: -1.0, A: -4.0, D: -6.0})
    lists = [TEXT, IMAGE, third]
    assert as_lists(fuse(lists, "mean_plus_found")) == [
        [(B, pytest.approx(-2.0 + 2)), (C, -0.5), (A, -2.5 + 1), (D, -6.0)]
    ]
    assert as_lists(fuse(lists, "mean")) == [
        [
            (B, pytest.approx((-2 - 3 - 1) / 3)),
            (A, pytest.approx((-1 - 3 - 4) / 3)),
            (C, pytest.approx((-2 - 0.5 - 6) / 3)),
            (D, pytest.approx((-2 - 3 - 6) / 3)),
        ]
    ]
    assert as_lists(fuse(lists, "reciprocal_rank")) == [
        [
            (B, pytest.approx(1 / 62 + 1 / 62 + 1 / 61)),
            (A, pytest.approx(1 / 61 + 1 / 62)),
            (C, pytest.approx(1 / 61)),
            (D, pytest.approx(1 / 63)),
        ]
    ]


def test_one_list_is_its_own_ensemble():
    for rule in ("mean_plus_found", "mean", "reciprocal_rank"):
        assert as_lists(fuse([TEXT], rule)) == as_lists(TEXT)


def test_equal_scores_of_items_that_the_lists_rank_otherwise_are_set_apart():
    # One place first, the other second, in either list: the same sum of reciprocal ranks.
    fused = fuse([ranking({B: -1.0, A: -2.0}), ranking({A: -1.0, B: -2.0})], "reciprocal_rank")
    assert [item for item, _ in as_lists(fused)[0]] == [B, A]
    for ambiguity in ("pessimistic", "optimistic"):
        assert target_ranks(fused, np.array([B]), ambiguity).tolist() == [1]
        assert target_ranks(fused, np.array([A]), ambiguity).tolist() == [2]


def test_weights_by_hand():
    lists, weights = [TEXT, IMAGE], [1.0, 3.0]
    assert as_lists(fuse(lists, "mean", weights)) == [
        [
            (C, pytest.approx((-2.0 + 3 * -0.5) / 4)),
            (A, pytest.approx((-1.0 + 3 * -3.0) / 4)),
            (B, pytest.approx((-2.0 + 3 * -3.0) / 4)),
        ]
    ]
    assert as_lists(fuse(lists, "mean_plus_found", weights)) == [
        [(C, -0.5), (A, -1.0), (B, pytest.approx((-2.0 + 3 * -3.0) / 4 + 1))]
    ]
    assert as_lists(fuse(lists, "reciprocal_rank", weights)) == [
        [
            (B, pytest.approx(1 / 62 + 3 / 62)),
            (C, pytest.approx(3 / 61)),
            (A, pytest.approx(1 / 61)),
        ]
    ]


def test_users_are_kept_apart_and_empty_lists_are_lists():
    text = ranking({A: -1.0}, {}, {B: -2.0}, {})
    image = ranking({B: -1.0}, {C: -4.0}, {B: -1.0}, {})
    assert as_lists(fuse([text, image], "mean_plus_found")) == [
        [(A, -1.0), (B, pytest.approx(-1.0))],  # the first list's before the second's
        [(C, -4.0)],
        [(B, -0.5)],
        [],
    ]


def naive(lists, rule):
    """The rules in plain Python, for one user; lists are dicts of item to score."""
    result = {}
    for item in set().union(*lists):
        scores = [scores[item] for scores in lists if item in scores]
        if rule == "mean_plus_found":
            result[item] = sum(scores) / len(scores) + len(scores) - 1
        elif rule == "mean":
            floors = [min(s.values()) if s else 0.0 for s in lists]
            values = [s.get(item, f) for s, f in zip(lists, floors, strict=True)]
            result[item] = sum(values) / len(lists)
        else:
            result[item] = sum(
                1 / (61 + sum(other > s[item] for other in s.values())) for s in lists if item in s
            )
    return result


one_list = st.dictionaries(st.integers(0, 9), st.integers(-8, -1).map(float), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(one_list, min_size=2, max_size=3), min_size=1, max_size=4).filter(
        lambda users: len({len(lists) for lists in users}) == 1
    ),
    st.sampled_from(["mean_plus_found", "mean", "reciprocal_rank"]),
)
def test_fusion_equals_plain_python(users, rule):
    rankings = [ranking(*lists) for lists in zip(*users, strict=True)]
    for lists, found in zip(users, as_lists(fuse(rankings, rule)), strict=True):
        assert dict(found) == pytest.approx(naive(lists, rule))
        scores = [score for _, score in found]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("target", "pessimistic", "optimistic"),
    [(3, 1, 1), (0, 4, 2), (2, 4, 2), (4, 4, 2), (1, 5, 5), (9, 0, 0)],
)
def test_the_place_of_an_ambiguous_hit_by_hand(target, pessimistic, optimistic):
    # 3 first, then the group {0, 2, 4} of one score, then 1; 9 is not in the list.
    found = ranking({3: -1.0, 0: -2.0, 2: -2.0, 4: -2.0, 1: -3.0})
    targets = np.array([target])
    assert target_ranks(found, targets, "pessimistic").tolist() == [pessimistic]
    assert target_ranks(found, targets, "optimistic").tolist() == [optimistic]


def test_every_user_has_a_rank_even_with_an_empty_list():
    found = ranking({}, {5: -1.0}, {}, {6: -1.0, 5: -2.0}, {})
    targets = np.array([5, 5, 5, 5, 5])
    for ambiguity in ("pessimistic", "optimistic"):
        assert target_ranks(found, targets, ambiguity).tolist() == [0, 1, 0, 2, 0]


@pytest.mark.parametrize("rule", ["mean_plus_found", "mean", "reciprocal_rank"])
def test_the_members_of_a_group_stay_equal_in_the_ensemble(rule):
    # Neither list tells 1 from 2: which of them is the target must not matter.
    fused = fuse([ranking({1: -1.0, 2: -1.0, 3: -4.0}), ranking({3: -1.5})], rule)
    ranks = [
        [int(target_ranks(fused, np.array([t]), kind)[0]) for t in (1, 2)]
        for kind in ("pessimistic", "optimistic")
    ]
    assert ranks[0][0] == ranks[0][1]
    assert ranks[1][0] == ranks[1][1] == ranks[0][0] - 1
