from __future__ import annotations

import json

import pytest

from macrec_core.artifacts import write_json
from macrec_core.recommendations import CANDIDATES

RANKING = ("hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10")


@pytest.fixture
def cells(tmp_path):
    """Metric files of one data set, one variant and two seeds."""
    home = tmp_path / "cells" / "sample"
    write_json(
        home / "filter.json",
        {"num_users": 40, "num_items": 20, "num_interactions": 300, "dropped": {"x": 1}},
    )
    yardsticks = {n: dict.fromkeys(RANKING, 0.05) for n in ("random", "popularity")}
    both = dict.fromkeys(CANDIDATES, yardsticks)
    measured = {"dataset": "sample", "users": 30, **both}
    write_json(home / "yardsticks.json", measured)
    ids = {"collision_rate": 0.1, "codebook_use": [0.5, 0.5], "items_a_code": [[3, 1], [2, 2]]}
    for seed, hr in ((0, 0.5), (1, 0.6)):
        cell = home / "macrec" / f"s{seed}"
        history = [{"epoch": 1, "loss": 3.0, "positives": 0.5, "unexplained_text": 0.2}]
        write_json(cell / "train_rqvae.json", {"history": history})
        write_json(cell / "assign_sids.json", {"dataset": "sample", "text": ids, "image": ids})
        epochs = [{"epoch": 1, "update": 9, "rec": 2.0, "validation_loss": 2.1}]
        trained = {"history": epochs, "stopped_by": "max_steps", "best_epoch": 1}
        write_json(cell / "train_gr.json", trained)
        baseline = home / "sasrec" / f"s{seed}"
        write_json(baseline / "train_baseline.json", trained)
        lists = {"sasrec": dict.fromkeys(RANKING, hr / 2)}
        write_json(
            baseline / "evaluate_baseline.json",
            {"users": 40, "targets_bought_before": 0, **dict.fromkeys(CANDIDATES, lists)},
        )
        multimodal = home / "missrec" / f"s{seed}"
        write_json(multimodal / "train_baseline.json", trained)
        lists = {"missrec": dict.fromkeys(RANKING, hr / 4)}
        write_json(
            multimodal / "evaluate_baseline.json",
            {"users": 40, "targets_bought_before": 0, **dict.fromkeys(CANDIDATES, lists)},
        )
        lists = {"ensemble": dict.fromkeys(RANKING, hr)}
        write_json(
            cell / "evaluate.json",
            {"users": 40, "targets_bought_before": 0, **dict.fromkeys(CANDIDATES, lists)},
        )
    return tmp_path / "cells"


@pytest.fixture
def report(run_stage, params_file, tmp_path):
    def run(cells, seeds, **changes):
        return run_stage(
            "report", cells=cells, summary=tmp_path / "summary.json",
            table=tmp_path / "results.md", plots=tmp_path / "plots",
            params=params_file(
                variants=["macrec"], baselines=["sasrec"], seeds=seeds, **changes
            ),
        )  # fmt: skip

    return run


def test_it_writes_summary_table_and_plots(report, cells, tmp_path):
    result = report(cells, [0, 1])
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "summary.json").read_text())
    spread = summary["sample"]["macrec"]["hr@10"]
    assert spread == pytest.approx({"mean": 0.55, "std": 0.0707107}, rel=1e-5)
    table = (tmp_path / "results.md").read_text()
    assert "0.5500 ± 0.0707" in table
    assert "| sample | sasrec | 0.2750 ± 0.0354 |" in table
    assert summary["sample"]["sasrec"]["unseen_items"]["hr@1"]["mean"] == pytest.approx(0.275)
    assert "| 40 | 9 (budget) | 2 |" in table
    assert "| 30 of 40 |" in table
    assert "collisions % (text / image)" in table
    assert len(list((tmp_path / "plots").glob("*.csv"))) == 6


def test_one_seed_has_no_standard_deviation(report, cells, tmp_path):
    assert report(cells, [1]).exit_code == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["sample"]["macrec"]["hr@10"] == {"mean": 0.6}
    assert "±" not in (tmp_path / "results.md").read_text()


def test_a_missing_cell_writes_nothing_and_names_the_file(report, cells, tmp_path):
    (cells / "sample" / "macrec" / "s1" / "evaluate.json").unlink()
    result = report(cells, [0, 1])
    assert result.exit_code == 1
    assert "sample/macrec/s1/evaluate.json: does not exist" in result.output
    assert not (tmp_path / "summary.json").exists()
    assert not (tmp_path / "plots").exists()


def test_multimodal_baselines_are_rows_of_the_datasets_that_they_ran_on(report, cells, tmp_path):
    result = report(cells, [0, 1], multimodal_baselines=["missrec"])
    assert result.exit_code == 0, result.output
    table = (tmp_path / "results.md").read_text()
    assert "| sample | missrec | 0.1375 ± 0.0177 |" in table
    (cells / "sample/missrec/s1/train_baseline.json").unlink()
    result = report(cells, [0, 1], multimodal_baselines=["missrec"])
    assert "missrec/s1/train_baseline.json: does not exist" in result.output
