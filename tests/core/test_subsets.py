from __future__ import annotations

import numpy as np
import pytest

from macrec_core.cases import cases_of
from macrec_core.semantic_ids import Vocabulary
from macrec_core.sequence_tensors import evaluation_data
from macrec_core.sequences import evaluation_examples
from macrec_core.subsets import chosen_users


@pytest.mark.parametrize("limit", [None, 40, 41])
def test_without_an_effective_limit_everyone_is_chosen(limit):
    assert chosen_users(40, limit).tolist() == list(range(40))


def test_a_limit_chooses_so_many_different_users_in_order():
    chosen = chosen_users(40, 7)
    assert len(chosen) == 7
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert set(chosen.tolist()) <= set(range(40))
    assert chosen.tolist() != list(range(7))


def test_the_choice_depends_on_nothing_else():
    first = chosen_users(1000, 50)
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    assert np.array_equal(chosen_users(1000, 50), first)


@pytest.mark.parametrize("limit", [1, 7, 39, None])
def test_yardsticks_and_recommenders_are_measured_on_the_same_users(successors, limit):
    interactions, codes = successors
    vocabulary = Vocabulary(tuple(codes), 2, 8, ())
    held_out = evaluation_examples(interactions, codes, vocabulary, 20)
    decoded = evaluation_data(held_out, "test", codes, vocabulary, limit)
    cases = cases_of(interactions, "test", limit)
    assert cases.users.tolist() == decoded.users.tolist()
    assert cases.targets.tolist() == decoded.targets.tolist()


def test_a_user_of_one_purchase_is_measured_nowhere(make_interactions, make_codes):
    interactions = make_interactions([[3], [0, 1, 2], [1, 2, 3], [4], [2, 0, 1]])
    codes = {"text": make_codes(5, 2, 8)}
    vocabulary = Vocabulary(("text",), 2, 8, ())
    held_out = evaluation_examples(interactions, codes, vocabulary, 20)
    for limit in (None, 2):
        decoded = evaluation_data(held_out, "test", codes, vocabulary, limit)
        users = cases_of(interactions, "test", limit).users.tolist()
        assert users == decoded.users.tolist()
        assert not {0, 3} & set(users)
