from __future__ import annotations

import numpy as np
import pytest

from macrec_core import full_ranking
from macrec_core.errors import MacrecError
from macrec_core.full_ranking import rank_all_items
from macrec_core.ranking import Cases, Ranking, together, without_seen

USERS, ITEMS = 23, 40


def random_cases(rng):
    lengths = rng.integers(1, 9, USERS)
    return Cases(
        np.arange(USERS) * 3, rng.integers(0, ITEMS, USERS), rng.integers(0, ITEMS, lengths.sum()),
        np.concatenate([[0], np.cumsum(lengths)]),
    )  # fmt: skip


def plain(scores, cases, ties, length, exclude):
    """Lists and ranks of every user, one by one."""
    lists, ranks = [], []
    for user in range(USERS):
        seen = set(cases.histories[user].tolist()) if exclude else set()
        open_items = [i for i in range(ITEMS) if i not in seen and scores[user, i] != -np.inf]
        order = sorted(open_items, key=lambda i: (-scores[user, i], -ties[i], i))
        lists.append(order[:length])
        target = cases.targets[user]
        own = (scores[user, target], ties[target])
        before = sum((scores[user, i], ties[i]) >= own for i in open_items)
        ranks.append(before if target in open_items else 0)
    return lists, ranks


@pytest.mark.parametrize("chunk", [1, 3 * ITEMS, 10**6])
@pytest.mark.parametrize("length", [1, 10, 39, 40, 100])
@pytest.mark.parametrize("kinds", [2, 5, 10**6])
def test_lists_and_ranks_are_those_of_a_sort(monkeypatch, chunk, length, kinds):
    monkeypatch.setattr(full_ranking, "_CHUNK", chunk)
    rng = np.random.default_rng(kinds + length)
    cases = random_cases(rng)
    scores = (rng.integers(-kinds, kinds, (USERS, ITEMS)) / 7).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    ties = rng.integers(0, 4, ITEMS)
    before = scores.copy()
    found = rank_all_items("x", scores.__getitem__, cases, ties, length)
    assert np.array_equal(scores, before)
    for exclude, part in ((False, found), (True, found.unseen)):
        lists, ranks = plain(scores, cases, ties, length, exclude)
        ranking = part.rankings["x"]
        assert [x.tolist() for x in np.split(ranking.items, ranking.offsets[1:-1])] == lists
        assert np.array_equal(ranking.scores, scores[ranking.users, ranking.items])
        assert part.ranks["x"].tolist() == ranks


def test_a_score_that_is_no_number_is_an_error_naming_the_list():
    cases = random_cases(np.random.default_rng(0))
    scores = np.zeros((USERS, ITEMS), dtype=np.float32)
    scores[5, 7] = np.nan
    with pytest.raises(MacrecError, match=r"sasrec: the score of an item .* is no number"):
        rank_all_items("sasrec", scores.__getitem__, cases, np.zeros(ITEMS, dtype=int), 5)


def test_recent_keeps_the_end_of_each_history():
    cases = Cases(np.arange(3), np.zeros(3, dtype=int), np.arange(6), np.array([0, 1, 4, 6]))
    assert [h.tolist() for h in cases.recent(2).histories] == [[0], [2, 3], [4, 5]]
    assert cases.ages.tolist() == [0, 2, 1, 0, 1, 0]
    assert cases.rows.tolist() == [0, 1, 1, 1, 2, 2]


def test_without_seen_keeps_the_order_of_the_rest():
    cases = Cases(np.arange(2), np.zeros(2, dtype=int), np.array([9, 1, 2]), np.array([0, 2, 3]))
    ranking = Ranking(np.array([0, 3, 5]), np.array([3, 1, 0, 1, 2]), -np.arange(5.0))
    found = without_seen(ranking, cases)
    assert found.offsets.tolist() == [0, 2, 3]
    assert found.items.tolist() == [3, 0, 1]
    assert found.scores.tolist() == [0.0, -2.0, -3.0]


def test_evaluations_join_by_name():
    cases = random_cases(np.random.default_rng(1))
    ties = np.zeros(ITEMS, dtype=int)
    parts = [
        rank_all_items(name, lambda r: np.zeros((r.stop - r.start, ITEMS)), cases, ties, 3)
        for name in ("a", "b")
    ]
    whole = together(parts)
    assert list(whole.rankings) == list(whole.unseen.ranks) == ["a", "b"]
    assert whole.unseen.rankings["b"] is parts[1].unseen.rankings["b"]
