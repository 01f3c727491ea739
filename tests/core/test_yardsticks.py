from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge

from macrec_core.cases import cases_of, training_sequences
from macrec_core.errors import MacrecError
from macrec_core.metrics import expected_random_metrics
from macrec_core.ranking import Cases
from macrec_core.recommendations import CANDIDATES, figures
from macrec_core.yardsticks import ease_weights, random_metrics, rank_by_yardsticks

HISTORIES = [[0, 1, 0, 2, 3], [0, 1, 4, 0], [2, 0, 5, 1], [3, 2, 6]]
ITEMS = 8


@pytest.fixture
def params(committed_params):
    return committed_params.yardsticks


def ranked(evaluation, name, user):
    """Items and scores of one user's list."""
    ranking = evaluation.rankings[name]
    part = slice(ranking.offsets[user], ranking.offsets[user + 1])
    return ranking.items[part].tolist(), ranking.scores[part]


def test_cases_are_every_users_last_item_and_all_before_it(make_interactions):
    cases = cases_of(make_interactions(HISTORIES), "test", None)
    assert cases.users.tolist() == [0, 1, 2, 3]
    assert cases.targets.tolist() == [3, 0, 1, 6]
    assert [h.tolist() for h in cases.histories] == [[0, 1, 0, 2], [0, 1, 4], [2, 0, 5], [3, 2]]
    assert cases.num_repeated == 1  # user 1's target is their first item


def test_validation_cases_end_before_the_validation_item(make_interactions):
    cases = cases_of(make_interactions(HISTORIES), "valid", None)
    assert cases.targets.tolist() == [2, 4, 5, 2]
    assert [h.tolist() for h in cases.histories] == [[0, 1, 0], [0, 1], [2, 0], [3]]


def test_a_limit_keeps_cases_that_belong_together(make_interactions):
    table = make_interactions(HISTORIES)
    whole, part = cases_of(table, "test", None), cases_of(table, "test", 2)
    assert part.users.tolist() == sorted(set(part.users.tolist()))
    assert len(part) == 2
    assert part.targets.tolist() == whole.targets[part.users].tolist()
    expected = [whole.histories[user].tolist() for user in part.users]
    assert [h.tolist() for h in part.histories] == expected


def test_training_sequences_hold_neither_validation_nor_test_items(make_interactions):
    users, items = training_sequences(make_interactions(HISTORIES))
    assert users.tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert items.tolist() == [0, 1, 0, 0, 1, 2, 0, 3]


def test_popularity_counts_training_interactions_and_ties_stand_before(make_interactions, params):
    # Training: 0 0 1, 0 1, 2 0, 3: item 0 four times, 1 twice, 2 and 3 once, the others never.
    table = make_interactions(HISTORIES)
    found = rank_by_yardsticks(table, cases_of(table, "test", None), ITEMS, params, 5)
    assert found.ranks["popularity"].tolist() == [4, 1, 2, 8]
    assert ranked(found, "popularity", 3)[0] == [0, 1, 2, 3, 4]
    # All interactions count, whichever users are ranked.
    some = cases_of(table, "test", 2)
    part = rank_by_yardsticks(table, some, ITEMS, params, 5)
    expected = found.ranks["popularity"][some.users].tolist()
    assert part.ranks["popularity"].tolist() == expected


def test_the_popular_items_that_are_left(make_interactions, params):
    table = make_interactions(HISTORIES)
    found = rank_by_yardsticks(table, cases_of(table, "test", None), ITEMS, params, 3).unseen
    # User 0 has bought 0, 1, 2: item 3 is the most popular one left; user 1's target was bought.
    assert found.ranks["popularity"].tolist() == [1, 0, 1, 6]
    assert ranked(found, "popularity", 0)[0] == [3, 4, 5]


def test_what_follows_the_last_item_by_hand(make_interactions, params):
    # Training sequences: 0 1 2 3, 1 2, 4 1 0 2. The last item before the target is 1, 2, 1.
    table = make_interactions([[0, 1, 2, 3, 1, 0], [1, 2, 2, 3], [4, 1, 0, 2, 1, 5]])
    cases = cases_of(table, "test", None)
    window = params.model_copy(update={"cooccurrence_window": 2})
    found = rank_by_yardsticks(table, cases, 6, window, 6)
    # After 1: 2 at distance 1 twice and once at distance 2; 0 once at 1; 3 once at 2.
    items, scores = ranked(found, "last_item", 0)
    assert items[:3] == [2, 0, 3]
    assert scores[:3] == pytest.approx([2.5, 1.0, 0.5])
    # The rest by popularity: 1 thrice, then 4 once, then 5 never.
    assert items[3:] == [1, 4, 5]
    assert (scores[3:] == 0).all()
    # After 2 came 3 alone, at distance 1.
    assert ranked(found, "last_item", 1)[0][0] == 3
    assert found.ranks["last_item"].tolist() == [2, 1, 6]


def test_neighbours_of_the_history_by_hand(make_interactions, params):
    # Bought in training: 0 1, 0 1 2, 1 2, 3; a repetition counts once.
    table = make_interactions([[0, 1, 2, 3], [0, 1, 2, 1, 0, 2, 4], [1, 2, 0, 4], [3, 0, 1]])
    cases = cases_of(table, "test", None)
    found = rank_by_yardsticks(table, cases, 5, params, 5)
    sold = [2, 3, 2, 1, 0]
    together = {(0, 1): 2, (0, 2): 1, (1, 2): 2}

    def cosine(a, b):
        return together.get((min(a, b), max(a, b)), 0) / math.sqrt(sold[a] * sold[b] or 1)

    # User 2's history is 1 2 0: weights .64, .8, 1; an item is no neighbour of itself.
    decay = params.recency_decay
    weights = {1: decay**2, 2: decay, 0: 1.0}
    expected = {
        item: sum(w * cosine(h, item) for h, w in weights.items() if h != item) for item in range(5)
    }
    items, scores = ranked(found, "item_knn", 2)
    assert dict(zip(items, scores, strict=True)) == pytest.approx(expected, abs=1e-6)
    assert items[:3] == sorted(range(3), key=lambda item: -expected[item])
    # Only the last item counts.
    short = params.model_copy(update={"max_history": 1})
    items, scores = ranked(rank_by_yardsticks(table, cases, 5, short, 5), "item_knn", 2)
    assert scores[items.index(1)] == pytest.approx(cosine(0, 1))


def test_ease_predicts_each_item_from_the_others_by_ridge_regression():
    # Its definition: a ridge regression of every column on all other ones, without intercept.
    bought = (np.random.default_rng(0).random((40, 7)) < 0.4).astype(np.float32)
    weights = ease_weights(sparse.csr_matrix(bought.T @ bought), 3.0)
    assert np.diagonal(weights).tolist() == [0.0] * 7
    for item in range(7):
        others = np.delete(np.arange(7), item)
        ridge = Ridge(alpha=3.0, fit_intercept=False).fit(bought[:, others], bought[:, item])
        np.testing.assert_allclose(weights[others, item], ridge.coef_, atol=1e-5)


def test_ease_weighs_the_history_by_age(make_interactions, params):
    table = make_interactions([[0, 1, 2, 3], [0, 1, 2, 1, 0, 2, 4], [1, 2, 0, 4], [3, 0, 1]])
    cases = cases_of(table, "test", None)
    items, scores = ranked(rank_by_yardsticks(table, cases, 5, params, 5), "ease", 2)
    bought = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0]], float)
    weights = ease_weights(sparse.csr_matrix(bought.T @ bought), params.ease_regularization)
    # User 2's history is 1 2 0.
    decay = params.recency_decay
    expected = decay**2 * weights[1] + decay * weights[2] + weights[0]
    np.testing.assert_allclose(scores, expected[items], atol=1e-6)
    assert (np.diff(scores) <= 0).all()


def test_ease_can_be_left_out(make_interactions, params):
    table = make_interactions(HISTORIES)
    cases = cases_of(table, "test", None)
    without = params.model_copy(update={"ease_regularization": None})
    assert "ease" not in rank_by_yardsticks(table, cases, ITEMS, without, 5).rankings


def test_too_many_items_for_ease_say_how_to_leave_it_out():
    too_many = sparse.csr_matrix((2**24, 2**24), dtype=np.float32)  # a petabyte
    with pytest.raises(MacrecError, match=r"EASE of 16777216 items .*ease_regularization: null"):
        ease_weights(too_many, 1.0)


def test_training_alone_is_counted(make_interactions, params):
    # 5 and 6 are held out in every history: no yardstick knows that they go together.
    table = make_interactions([[0, 1, 5, 6], [1, 0, 5, 6], [0, 1, 5, 6]])
    found = rank_by_yardsticks(table, cases_of(table, "test", None), 7, params, 7)
    for name in ("last_item", "item_knn", "ease"):
        items, scores = ranked(found, name, 0)
        assert scores[items.index(6)] == 0.0


def test_the_random_yardstick_counts_the_items_that_are_left():
    # Of ten items user 0 has bought two, one of them twice; user 1's target is bought.
    cases = Cases(np.array([0, 1]), np.array([5, 7]), np.array([1, 2, 1, 7]), np.array([0, 3, 4]))
    found = random_metrics(10, cases)
    assert found["all_items"] == pytest.approx(expected_random_metrics(np.array([10, 10])))
    eight = expected_random_metrics(np.array([8]))
    expected = {name: value / 2 for name, value in eight.items()}
    assert found["unseen_items"] == pytest.approx(expected)


# ---------------------------------------------------------------------- real interactions


@pytest.fixture(scope="module")
def instruments(shared, make_interactions):
    """Interactions of Instruments as published, 17,112 users."""
    with gzip.open(shared / "instruments" / "Instruments.inter.json.gz") as file:
        published = json.load(file)
    return make_interactions([published[user] for user in sorted(published, key=int)])


# HR@1, HR@10 and NDCG@10, of all items and of unseen ones, by an independent implementation.
MEASURED = {
    "popularity": ([0.0063, 0.0638, 0.0298], None),
    "last_item": ([0.0497, 0.1001, 0.0731], [0.0659, 0.1024, 0.0816]),
    "item_knn": ([0.0792, 0.1166, 0.0948], [0.0889, 0.1253, 0.1046]),
}


def test_figures_of_instruments_are_those_of_an_independent_implementation(instruments, params):
    cases = cases_of(instruments, "test", None)
    found = figures(rank_by_yardsticks(instruments, cases, 6250, params, 20))
    for name, expected in MEASURED.items():
        for candidates, values in zip(CANDIDATES, expected, strict=True):
            if values is not None:
                row = found[candidates][name]
                measured = [row["hr@1"], row["hr@10"], row["ndcg@10"]]
                assert measured == pytest.approx(values, abs=0.0005), (name, candidates)
