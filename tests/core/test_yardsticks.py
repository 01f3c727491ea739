from __future__ import annotations

import numpy as np
import pytest

from macrec_core import yardsticks
from macrec_core.metrics import random_ranking_metrics, ranking_metrics

HISTORIES = [[0, 1, 0, 2, 3], [0, 1, 4, 0], [2, 0, 5, 1], [3, 2, 6]]


def test_cases_are_every_users_last_item_and_all_before_it(make_interactions):
    users, targets, histories = yardsticks.test_cases(make_interactions(HISTORIES), None)
    assert users.tolist() == [0, 1, 2, 3]
    assert targets.tolist() == [3, 0, 1, 6]
    assert [h.tolist() for h in histories] == [[0, 1, 0, 2], [0, 1, 4], [2, 0, 5], [3, 2]]


def test_a_limit_keeps_cases_that_belong_together(make_interactions):
    table = make_interactions(HISTORIES)
    whole = yardsticks.test_cases(table, None)
    users, targets, histories = yardsticks.test_cases(table, 2)
    assert users.tolist() == sorted(set(users.tolist()))
    assert len(users) == 2
    assert targets.tolist() == whole[1][users].tolist()
    assert [h.tolist() for h in histories] == [whole[2][user].tolist() for user in users]


def test_popularity_counts_training_interactions_and_ties_stand_before(make_interactions):
    # Training: 0 0 1, 0 1, 2 0, 3: item 0 four times, 1 twice, 2 and 3 once, the others never.
    table = make_interactions(HISTORIES)
    ranks = yardsticks.popularity_ranks(table, np.array([3, 0, 1, 6]), 8)
    assert ranks.tolist() == [4, 1, 2, 8]
    # All interactions count, whichever users are ranked.
    assert yardsticks.popularity_ranks(table, np.array([1, 3]), 8).tolist() == [2, 4]


def test_the_random_yardstick_is_the_mean_over_all_places():
    places = [ranking_metrics(np.array([place])) for place in range(1, 41)]
    expected = {name: np.mean([row[name] for row in places]) for name in places[0]}
    assert random_ranking_metrics(40) == pytest.approx(expected)
