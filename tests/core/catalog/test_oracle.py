"""The oracle against probabilities worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from macrec_core.catalog.oracle import Oracle, load_oracle, oracle_scores, save_oracle
from macrec_core.errors import MacrecError

A, B, C, D = "A", "B", "C", "D"


@pytest.fixture
def oracle() -> Oracle:
    """Four items: A and B of type 0, C and D of type 1; A and C share brand 0."""
    return Oracle(
        item_keys=np.array([A, B, C, D]),
        user_keys=np.array(["u", "v"]),
        popularity=np.array([0.0, 0.5, -0.5, 0.25]),
        item_brand=np.array([0, 1, 0, 1]),
        item_type=np.array([0, 0, 1, 1]),
        item_finish=np.array([0, 0, 0, 1]),
        item_price=np.array([0, 1, 1, 1]),
        user_latents=np.array([[1.0, 0.0], [0.0, -2.0]]),
        brand_factors=np.array([[0.3, 0.0], [0.0, 0.1]]),
        type_factors=np.array([[0.2, 0.2], [0.7, 0.0]]),
        finish_factors=np.array([[0.0, 0.0], [-0.4, 0.3]]),
        price_factors=np.array([[0.1, 0.0], [0.0, 0.6]]),
        habit=np.array([[-1.0, 2.0], [0.5, -1.5]]),
        earlier_weight=0.5,
        same_brand=0.8,
        same_finish=0.6,
        temperature=2.0,
    )


def test_scores_equal_the_hand_computed_log_softmax(oracle):
    # User u has latent (1, 0) and bought A (type 0), then D (type 1, brand 1, finish 1).
    # B: .5 + (0 + .2 + 0 + 0)     + habit[1,0]=.5   + .5*habit[0,0]=-.5 + brand .8 = 1.5
    # C: -.5 + (.3 + .7 + 0 + 0)   + habit[1,1]=-1.5 + .5*habit[0,1]=1.0             = 0.0
    scores = oracle.scores("u", [A, D])
    total = math.exp(1.5 / 2) + math.exp(0.0)
    assert scores == pytest.approx(
        [-math.inf, 0.75 - math.log(total), 0.0 - math.log(total), -math.inf]
    )


def test_without_history_only_popularity_and_taste_count(oracle):
    # User v has latent (0, -2).
    utilities = np.array([0 - 0.4, 0.5 - 0.2 - 0.4 - 1.2, -0.5 - 1.2, 0.25 - 0.2 - 0.6 - 1.2])
    expected = utilities / 2 - math.log(np.exp(utilities / 2).sum())
    assert oracle.scores("v", []) == pytest.approx(expected)


def test_the_finish_of_the_last_purchase_counts_and_the_earlier_ones_does_not(oracle):
    plain = dataclasses.replace(oracle, same_finish=0.0)
    gain = oracle.utilities(*_rows(oracle, "u", [D, B])) - plain.utilities(
        *_rows(oracle, "u", [D, B])
    )
    assert gain[0] == pytest.approx([0.3, 0.3, 0.3, 0.0])  # same finish as B, over temperature


@pytest.mark.parametrize("history", [[], [A], [C, B], [D, C, A]])
def test_probabilities_of_items_not_yet_bought_sum_to_one(oracle, history):
    probabilities = np.exp(oracle.scores("u", history))
    assert probabilities.sum() == pytest.approx(1.0)
    assert all(probabilities[oracle.item_rows(history)] == 0)


def test_scores_of_a_catalogue_order_it_by_the_probabilities(oracle):
    catalogue = [D, B, A, C]
    cases = [("u", [2]), ("v", []), ("u", [2, 0]), ("v", [3, 1])]
    found = oracle_scores(
        oracle,
        catalogue,
        [user for user, _ in cases],
        [np.array(history, dtype=np.int32) for _, history in cases],
    )
    for scores, (user, history) in zip(found, cases, strict=True):
        expected = oracle.scores(user, [catalogue[item] for item in history])
        expected = expected[oracle.item_rows(catalogue)]
        assert (scores[history] == -np.inf).all()
        unseen = np.setdiff1d(np.arange(4), history)
        # Up to the normalisation.
        assert np.ptp(scores[unseen] - expected[unseen]) < 1e-9


def test_items_outside_the_catalogue_have_no_score(oracle):
    best_first = oracle.item_keys[np.argsort(-oracle.scores("u", []))].tolist()
    (scores,) = oracle_scores(oracle, best_first[1:], ["u"], [np.array([], dtype=int)])
    assert len(scores) == 3
    assert scores.argmax() == 0


def test_unknown_keys_are_refused_by_name(oracle):
    with pytest.raises(MacrecError, match="user 'w'"):
        oracle.scores("w", [])
    with pytest.raises(MacrecError, match="item 'Z'"):
        oracle.scores("u", ["Z"])


def test_unequal_numbers_of_users_and_histories_are_refused(oracle):
    with pytest.raises(MacrecError, match="1 users, 2 histories"):
        oracle_scores(oracle, [A], ["u"], [np.array([0])] * 2)


def test_saved_and_loaded_oracles_are_equal(oracle, tmp_path):
    save_oracle(oracle, tmp_path / "truth.npz")
    loaded = load_oracle(tmp_path / "truth.npz")
    for field in dataclasses.fields(oracle):
        assert np.array_equal(getattr(loaded, field.name), getattr(oracle, field.name))
    assert np.array_equal(loaded.scores("v", [A, C]), oracle.scores("v", [A, C]))


def test_a_damaged_or_foreign_archive_gives_one_line(oracle, tmp_path):
    path = tmp_path / "truth.npz"
    with pytest.raises(MacrecError, match=r"truth\.npz: not a readable"):
        load_oracle(path)
    save_oracle(oracle, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(MacrecError, match=r"truth\.npz: not a readable"):
        load_oracle(path)
    np.savez(path, habit=np.zeros((2, 2)))
    with pytest.raises(MacrecError, match=r"differs in .*brand_factors"):
        load_oracle(path)


def _rows(oracle, user, history):
    last, before = oracle.item_rows(history[-1:]), oracle.item_rows(history[-2:-1])
    return oracle.user_rows([user]), last, before
