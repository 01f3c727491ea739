from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from macrec_core.report.cells import Cell, MissingCell
from macrec_core.report.datasets import Dataset


@pytest.fixture
def cell():
    """A measured cell; `hr` is its HR@10, and the other ranking figures follow from it.

    Without items bought before they are 1.2 times as large.
    """

    def make(
        variant="macrec",
        seed=0,
        hr=0.5,
        imported=False,
        users=40,
        stopped_by="max_epochs",
        best_epoch=2,
    ):
        history = [
            {"epoch": 1.0, "loss": 9.0, "positives": 0.25},
            {
                "epoch": 2.0, "loss": 8.0, "positives": 0.75,
                "unexplained_text": 0.2, "unexplained_image": 0.1,
                "collision_rate_text": 0.125, "collision_rate_image": 0.0625,
            },
        ]  # fmt: skip
        ids = {
            "dataset": "toys",
            "text": {
                "collision_rate": 0.125,
                "codebook_use": [1.0, 0.5],
                "code_entropy": [0.75, 0.25],
                "items_a_code": [[3, 1], [4, 0]],
            },
            "image": {
                "collision_rate": 0.25,
                "codebook_use": [0.5, 0.5],
                "code_entropy": [1.0, 0.5],
                "items_a_code": [[2, 2], [3, 1]],
            },
        }
        figures = {"hr@1": hr / 5, "hr@5": hr / 2, "hr@10": hr, "ndcg@5": hr / 4, "ndcg@10": hr / 3}
        epochs = [
            {"epoch": 1.0, "update": 70.0, "rec": 3.5, "validation_loss": 3.25},
            {"epoch": 2.0, "update": 150.0, "rec": 2.5, "validation_loss": 2.25},
        ]

        def lists(values, factor):
            scaled = {name: factor * value for name, value in values.items()}
            return {"text": dict.fromkeys(values, 0.0), "ensemble": scaled}

        recommender = {"history": epochs, "stopped_by": stopped_by, "best_epoch": best_epoch}
        return Cell(
            "toys", variant, seed, None if imported else {"history": history}, ids, recommender,
            {"users": users, "targets_bought_before": 3, "all_items": lists(figures, 1.0),
             "unseen_items": lists(figures, 1.2)},
        )  # fmt: skip

    return make


@pytest.fixture
def toys():
    """The data set of the cells, with its yardsticks."""
    names = ("hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10")
    return Dataset(
        "toys",
        {
            "num_users": 40, "num_items": 20, "num_interactions": 300, "sparsity": 0.625,
            "average_length": 7.5, "dropped": {"x": 1},
        },
        {
            candidates: {
                "random": dict.fromkeys(names, 0.01 + more),
                "popularity": dict.fromkeys(names, 0.05 + more),
                "item_knn": dict.fromkeys(names, 0.3 + more),
                "oracle": dict.fromkeys(names, 0.9),
            }
            for candidates, more in (("all_items", 0.0), ("unseen_items", 0.02))
        },
        40,
    )  # fmt: skip


@pytest.fixture
def absent():
    """A cell of the same data set that was not measured."""

    def make(variant="macrec", seed=3):
        return MissingCell("toys", variant, seed, (Path(f"toys/{variant}/s{seed}/evaluate.json"),))

    return make


@pytest.fixture
def tested():
    """The data set with tests of given rows against one another in HR@10 and NDCG@10.

    `rows` gives each row's HR@10; a cell's NDCG@10 is a third of it. All pairs have the adjusted p.
    """

    def make(dataset, rows, p=0.01, candidates="all_items"):
        def test(difference):
            return {
                "difference": difference, "low": difference - 0.1, "high": difference + 0.2,
                "p_bootstrap": p / 2, "p_bootstrap_holm": p, "p_t": p / 4, "p_t_holm": 0.00001,
                "seeds": {
                    "difference": difference, "low": difference - 0.3, "high": difference + 0.4,
                    "count": 2,
                },
            }  # fmt: skip

        pairs = [
            {
                "one": one, "other": other, "hr@10": test(rows[one] - rows[other]),
                "ndcg@10": test((rows[one] - rows[other]) / 3),
            }
            for one, other in combinations(rows, 2)
        ]  # fmt: skip
        flat = dataset.yardsticks["all_items"]  # whose figures are all alike
        ndcg = {name: hr if name in flat else hr / 3 for name, hr in rows.items()}
        means = {"hr@10": rows, "ndcg@10": ndcg}
        found = {
            "candidates": candidates, "confidence": 0.95, "bootstrap_draws": 500, "means": means,
            "pairs": pairs, "missing": {},
        }  # fmt: skip
        return replace(dataset, significance=found)

    return make
