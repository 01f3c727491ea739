from __future__ import annotations

import numpy as np
import pytest

from macrec_core import schemas
from macrec_core.artifacts import write_artifact
from macrec_core.ranking import Cases, Evaluation, Ranking
from macrec_core.recommendations import figures, recommendations_table

CASES = Cases(np.array([3, 8]), np.array([1, 1]), np.array([4, 0]), np.array([0, 1, 2]))


@pytest.fixture
def evaluation():
    """Two lists of two users; the first one's best item was bought before."""
    ranking = Ranking(np.array([0, 2, 2]), np.array([4, 1]), np.array([-0.5, -1.0]))
    unseen = Ranking(np.array([0, 1, 1]), np.array([1]), np.array([-1.0]))
    names = ("text", "ensemble")
    return Evaluation(
        dict.fromkeys(names, ranking), dict.fromkeys(names, np.array([2, 0])),
        Evaluation(dict.fromkeys(names, unseen), dict.fromkeys(names, np.array([1, 0]))),
    )  # fmt: skip


def test_the_table_meets_its_contract(evaluation, tmp_path):
    table = recommendations_table(evaluation, CASES)
    write_artifact(tmp_path / "r.parquet", table, schemas.RECOMMENDATIONS)
    row = {"user_id": 3, "target_item": 1, "rank": 2, "items": [4, 1], "scores": [-0.5, -1.0]}
    unseen = {**row, "rank": 1, "items": [1], "scores": [-1.0]}
    empty = {"user_id": 8, "target_item": 1, "rank": 0, "items": [], "scores": []}
    assert table.to_pylist() == [
        {"list": name, "candidates": candidates, **values}
        for name in ("ensemble", "text")
        for candidates, first in (("all_items", row), ("unseen_items", unseen))
        for values in (first, empty)
    ]


def test_figures_are_of_both_sets_of_candidates(evaluation):
    found = figures(evaluation)
    assert found["all_items"]["text"]["hr@1"] == 0.0
    assert found["unseen_items"]["text"]["hr@1"] == 0.5
    assert set(found["all_items"]) == {"text", "ensemble"}


def test_without_histories_there_is_one_set(evaluation):
    alone = Evaluation(evaluation.rankings, evaluation.ranks)
    assert set(figures(alone)) == {"all_items"}
    assert recommendations_table(alone, CASES).num_rows == 4
