from __future__ import annotations

import json
import os

import numpy as np
import pyarrow as pa
import pytest

from macrec_core import schemas
from macrec_core.artifacts import read_artifact, write_artifact
from macrec_core.metrics import ranking_metrics
from macrec_core.recommendations import CANDIDATES

BASELINES = ("sasrec", "bert4rec", "gru4rec", "narm", "stamp")


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """The toy's 30 items; only their number matters."""
    path = tmp_path_factory.mktemp("items") / "items.parquet"
    empty = pa.nulls(30, pa.string())
    columns = dict.fromkeys(("title", "description", "brand", "categories"), empty)
    keys = [f"B{number:09}" for number in range(30)]
    table = pa.table({"item_id": np.arange(30, dtype=np.int32), "item_key": keys, **columns})
    write_artifact(path, table, schemas.ITEMS)
    return path


@pytest.fixture
def run(run_stage, items, toy_stage_inputs, monkeypatch, tmp_path):
    """Runs a baseline's stage, all paths below one folder."""

    def stage(name, folder, params, baseline="sasrec", seed=0):
        monkeypatch.setenv("MACREC_SCRATCH", str(folder / "scratch"))
        own = {"items": items} if name == "train_baseline" else {
            "recommendations": folder / "recommendations.parquet"
        }  # fmt: skip
        return run_stage(
            name, dataset="sample", baseline=baseline, seed=seed,
            interactions=toy_stage_inputs / "interactions.parquet",
            recommender=folder / "recommender", metrics=folder / f"{name}.json", params=params,
            **own,
        )  # fmt: skip

    return stage


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_baseline_is_trained_and_measured(run, params_file, tmp_path, baseline):
    params = params_file()
    for name in ("train_baseline", "evaluate_baseline"):
        result = run(name, tmp_path, params, baseline)
        assert result.exit_code == 0, result.output
    trained = json.loads((tmp_path / "train_baseline.json").read_text())
    assert trained["validation_users"] == 40
    assert len(trained["history"]) == 2
    found = json.loads((tmp_path / "evaluate_baseline.json").read_text())
    assert (found["users"], found["variant"]) == (40, baseline)
    table = read_artifact(tmp_path / "recommendations.parquet", schemas.RECOMMENDATIONS)
    rows = table.to_pylist()
    assert {row["list"] for row in rows} == {baseline}
    for candidates in CANDIDATES:
        own = [row for row in rows if row["candidates"] == candidates]
        assert len(own) == 40
        ranks = np.array([row["rank"] for row in own])
        assert found[candidates][baseline] == pytest.approx(ranking_metrics(ranks))
        for row in own:
            assert row["scores"] == sorted(row["scores"], reverse=True)
            if 0 < row["rank"] <= len(row["items"]):
                # Equal scores, as STAMP's are after two epochs, stand before the target.
                place = row["items"].index(row["target_item"])
                assert row["scores"][place] == row["scores"][row["rank"] - 1]
                assert place < row["rank"]


def test_the_same_seed_gives_the_same_bytes_from_another_scratch(run, params_file, tmp_path):
    params = params_file()
    weights = {}
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        assert run("train_baseline", tmp_path / folder, params, seed=seed).exit_code == 0
        weights[folder] = (tmp_path / folder / "recommender/model.safetensors").read_bytes()
    assert weights["a"] == weights["b"] != weights["c"]


def test_a_finished_training_is_exported_again_and_another_is_not_met(
    run, params_file, tmp_path, monkeypatch
):
    from macrec_core.baselines import training

    params = params_file()
    assert run("train_baseline", tmp_path, params).exit_code == 0
    first = (tmp_path / "recommender/model.safetensors").read_bytes()
    monkeypatch.setattr(training, "_epoch", lambda *_: pytest.fail("trained again"))
    assert run("train_baseline", tmp_path, params).exit_code == 0
    assert (tmp_path / "recommender/model.safetensors").read_bytes() == first
    changed = params_file(sequential={"dropout": 0.25})
    with pytest.raises(BaseException, match="trained again"):
        result = run("train_baseline", tmp_path, changed)
        raise result.exception


def test_overrides_of_a_baseline_count(run, params_file, tmp_path):
    specs = {"sasrec": {"model": "sasrec", "num_heads": 2, "sequential": {"max_epochs": 1}}}
    params = params_file(baseline_specs=specs)
    assert run("train_baseline", tmp_path, params).exit_code == 0
    assert len(json.loads((tmp_path / "train_baseline.json").read_text())["history"]) == 1


def test_an_unknown_baseline_is_one_line(run, params_file, tmp_path):
    result = run("train_baseline", tmp_path, params_file(), "caser")
    assert result.exit_code == 1
    assert "baseline 'caser': has no entry in baseline_specs" in result.output
    assert os.listdir(tmp_path) == []


def test_a_missing_model_is_one_line(run, params_file, tmp_path):
    result = run("evaluate_baseline", tmp_path, params_file())
    assert result.exit_code == 1
    assert "is no sequence model as train_baseline writes it" in result.output
    assert not (tmp_path / "evaluate_baseline.json").exists()
