from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from macrec_core.artifacts import write_json
from macrec_core.recommendations import CANDIDATES

ROOT = Path(__file__).resolve().parents[2]
RANKING = ("hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10")


@pytest.fixture
def cells(tmp_path):
    """Metric files of one data set, one variant and two seeds."""
    home = tmp_path / "cells" / "sample"
    write_json(
        home / "filter.json",
        {
            "num_users": 40, "num_items": 20, "num_interactions": 300, "sparsity": 0.625,
            "average_length": 7.5, "dropped": {"x": 1},
        },
    )  # fmt: skip
    for stage in ("embed_text", "embed_image", "pseudo_labels"):
        write_json(home / f"{stage}.json", {})
    yardsticks = {n: dict.fromkeys(RANKING, 0.05) for n in ("random", "popularity")}
    both = dict.fromkeys(CANDIDATES, yardsticks)
    measured = {"dataset": "sample", "users": 30, **both}
    write_json(home / "yardsticks.json", measured)
    ids = {
        "collision_rate": 0.1, "codebook_use": [0.5, 0.5], "code_entropy": [0.5, 0.5],
        "items_a_code": [[3, 1], [2, 2]],
    }  # fmt: skip
    for seed, hr in ((0, 0.5), (1, 0.6)):
        cell = home / "macrec" / f"s{seed}"
        history = [{"epoch": 1, "loss": 3.0, "positives": 0.5, "unexplained_text": 0.2}]
        write_json(cell / "train_rqvae.json", {"history": history})
        write_json(cell / "assign_sids.json", {"dataset": "sample", "text": ids, "image": ids})
        epochs = [{"epoch": 1, "update": 9, "rec": 2.0, "validation_loss": 2.1}]
        trained = {"history": epochs, "stopped_by": "max_steps", "best_epoch": 1}
        write_json(cell / "build_seq2seq.json", {})
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
    assert "| **0.5500 ± 0.0707** |" in table
    assert "| sample | sasrec | _0.2750 ± 0.0354_ |" in table
    assert summary["sample"]["sasrec"]["unseen_items"]["hr@1"]["mean"] == pytest.approx(0.275)
    assert "| 40 | 9 (budget) | 2 |" in table
    assert "| 30 of 40 |" in table
    assert "| text 10.0, image 10.0 |" in table
    assert "No cell is missing." in table
    assert len(list((tmp_path / "plots").glob("*.csv"))) == 6
    picture = (tmp_path / "plots" / "items_a_code_sample.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert "](plots/items_a_code_sample.png)" in table
    report(cells, [0, 1])
    assert (tmp_path / "results.md").read_text() == table
    assert (tmp_path / "plots" / "items_a_code_sample.png").read_bytes() == picture


def test_one_seed_has_no_standard_deviation(report, cells, tmp_path):
    assert report(cells, [1]).exit_code == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["sample"]["macrec"]["hr@10"] == {"mean": 0.6}
    assert " ± 0." not in (tmp_path / "results.md").read_text()


def test_a_missing_cell_shows_as_missing_and_not_as_a_mean_of_fewer(report, cells, tmp_path):
    (cells / "sample" / "macrec" / "s1" / "evaluate.json").unlink()
    result = report(cells, [0, 1])
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "summary.json").read_text())["sample"]
    assert summary["macrec"] == {"missing": "seed 1", "seeds": 1}
    assert summary["sasrec"]["hr@10"]["mean"] == pytest.approx(0.275)
    table = (tmp_path / "results.md").read_text()
    assert "| sample | macrec | missing: seed 1 |" in table
    assert "**1 of 4 cells (dataset, row, seed) are missing**" in table
    assert "1 of 4 cells are missing" in result.output
    assert "macrec/s1/evaluate.json" in result.output
    # No row is left whose codes could be drawn.
    assert not (tmp_path / "plots" / "items_a_code_sample.png").exists()


def test_a_broken_file_writes_nothing_and_is_named(report, cells, tmp_path):
    (cells / "sample" / "macrec" / "s1" / "evaluate.json").write_text("{")
    result = report(cells, [0, 1])
    assert result.exit_code == 1
    assert "sample/macrec/s1/evaluate.json: is no readable JSON file" in result.output
    assert not (tmp_path / "summary.json").exists()
    assert not (tmp_path / "plots").exists()


def test_without_codes_the_report_needs_neither_torch_nor_matplotlib(cells, params_file, tmp_path):
    """A report of baselines alone, in a fresh process."""
    params = params_file(variants=[], baselines=["sasrec"], seeds=[0, 1])
    program = (
        "import sys\n"
        "from stages.report import main\n"
        "from pathlib import Path\n"
        f"out = Path({str(tmp_path)!r})\n"
        "main(out / 'cells', out / 'summary.json', out / 'results.md', out / 'plots', "
        f"Path({str(params)!r}))\n"
        "print([name for name in ('torch', 'matplotlib', 'sklearn') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    assert "sasrec" in (tmp_path / "results.md").read_text()


def test_multimodal_baselines_are_rows_of_the_datasets_that_they_ran_on(report, cells, tmp_path):
    result = report(cells, [0, 1], multimodal_baselines=["missrec"])
    assert result.exit_code == 0, result.output
    table = (tmp_path / "results.md").read_text()
    assert "| sample | missrec | 0.1375 ± 0.0177 |" in table
    (cells / "sample/missrec/s1/train_baseline.json").unlink()
    assert report(cells, [0, 1], multimodal_baselines=["missrec"]).exit_code == 0
    assert "missing: seed 1" in (tmp_path / "results.md").read_text()
