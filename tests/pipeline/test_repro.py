"""The whole pipeline by DVC, in a fresh clone, on toy parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

RANKING = {"hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reproduced(clone) -> Iterator:
    """The clone after its first `dvc repro`."""
    clone.dvc("repro")
    clone.commit("first run")
    return clone


def test_a_second_repro_executes_nothing(reproduced):
    before = _modified(reproduced.path)
    output = reproduced.dvc("repro")
    assert "Running stage" not in output
    assert "didn't change, skipping" in output
    assert _modified(reproduced.path) == before
    assert reproduced.run("git", "status", "--porcelain") == ""


def test_the_summary_has_a_row_for_each_variant_and_yardstick(reproduced):
    summary = json.loads((reproduced.path / "metrics/summary.json").read_text())["sample"]
    for yardstick in ("random", "popularity", "last_item", "item_knn", "oracle"):
        assert summary[yardstick].keys() >= RANKING
    for variant, modalities in (("macrec", ("text", "image")), ("tiger", ("text",))):
        row = summary[variant]
        assert row["seeds"] == 1
        for modality in modalities:
            assert 0 <= row[f"collision_rate_{modality}"]["mean"] <= 1
            assert 0 < row[f"codebook_use_{modality}"]["mean"] <= 1
        for name in RANKING:
            assert 0 <= row[name]["mean"] <= 1
        assert row["hr@1"]["mean"] <= row["hr@5"]["mean"] <= row["hr@10"]["mean"]
    assert "collision_rate_image" not in summary["tiger"]
    assert summary["sasrec"].keys() >= RANKING
    table = (reproduced.path / "metrics/results.md").read_text()
    for name in ("macrec", "tiger", "sasrec", "popularity", "random", "oracle"):
        assert name in table
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", table):
        assert (reproduced.path / "metrics" / picture).is_file()
    assert "no tests" not in table


def test_every_plot_has_its_data(reproduced):
    plots = YAML(typ="safe").load(reproduced.path / "dvc.yaml")["plots"]
    for plot in plots:
        (name,) = plot
        header, *rows = (reproduced.path / name).read_text().splitlines()
        assert {plot[name]["x"], plot[name]["y"]} <= set(header.split(","))
        assert rows, name


def test_one_changed_parameter_changes_one_experiment_and_not_the_workspace(reproduced):
    before = _modified(reproduced.path)
    output = reproduced.dvc("exp", "run", "--temp", "--name", "shorter", "-S", "gr.max_epochs=1")
    ran = {line.split("'")[1] for line in output.splitlines() if "Running stage" in line}
    assert ran == {
        f"{stage}@sample-{variant}-0"
        for stage in ("train_gr", "evaluate")
        for variant in ("macrec", "tiger")
    } | {"ensembles@sample", "significance@sample", "report"}
    assert _modified(reproduced.path) == before
    differences = json.loads(
        reproduced.dvc(
            "params", "diff", "--json", "--targets", "params.yaml", "--", "HEAD", "shorter"
        )
    )
    assert differences == {"params.yaml": {"gr.max_epochs": {"old": 2, "new": 1, "diff": -1}}}
    changed = json.loads(reproduced.dvc("metrics", "diff", "--json", "HEAD", "shorter"))
    assert "ndcg@10" in json.dumps(changed)
    assert "shorter" in reproduced.dvc("exp", "show", "--csv")


def test_check_accepts_the_artifacts_and_names_a_damaged_one(reproduced):
    assert ", 0 with problems" in reproduced.run("python", "-m", "stages", "check")
    damaged = reproduced.path / "artifacts/sample/macrec/s0/semantic_ids.parquet"
    whole = damaged.read_bytes()
    damaged.unlink()  # it may be a link into DVC's cache, which must stay whole
    damaged.write_bytes(whole[: len(whole) // 2])
    output = reproduced.run("python", "-m", "stages", "check", ok=False)
    assert f"error: {damaged.relative_to(reproduced.path)}: is no readable Parquet file" in output
    assert ", 1 with problems" in output


def _modified(path: Path) -> dict[str, int]:
    """Modification time of every file that a stage may write."""
    return {
        file.relative_to(path).as_posix(): file.stat().st_mtime_ns
        for folder in ("artifacts", "metrics")
        for file in sorted((path / folder).rglob("*"))
        if file.is_file()
    }
