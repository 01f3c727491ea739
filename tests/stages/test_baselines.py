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

BASELINES = ("sasrec", "bert4rec", "gru4rec", "narm", "stamp", "fdsa", "s3rec")
MULTIMODAL = "missrec"


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """The toy's 30 items, all but two of some brand, all but one of two categories."""
    return write_items(
        tmp_path_factory.mktemp("items") / "items.parquet",
        [None, *(f"brand {item % 4}" for item in range(1, 29)), None],
        [*(f"Instruments, kind {item % 3}" for item in range(29)), ""],
    )


def write_items(path, brands, categories):
    empty = pa.nulls(30, pa.string())
    columns = {
        "title": empty, "description": empty, "brand": pa.array(brands, pa.string()),
        "categories": pa.array(categories, pa.string()),
    }  # fmt: skip
    keys = [f"B{number:09}" for number in range(30)]
    table = pa.table({"item_id": np.arange(30, dtype=np.int32), "item_key": keys, **columns})
    write_artifact(path, table, schemas.ITEMS)
    return path


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    """Vectors of the toy's items."""
    folder = tmp_path_factory.mktemp("embeddings")
    for name, width in (("text", 5), ("image", 7)):
        write_vectors(folder / f"{name}.parquet", 30, width)
    return folder


def write_vectors(path, count, width):
    vectors = np.random.default_rng(width).normal(size=count * width).astype(np.float32)
    cells = pa.FixedSizeListArray.from_arrays(pa.array(vectors), width)
    table = pa.table({"item_id": np.arange(count, dtype=np.int32), "embedding": cells})
    write_artifact(path, table, schemas.embeddings(width))


@pytest.fixture
def run(run_stage, items, toy_stage_inputs, monkeypatch, tmp_path):
    """Runs a baseline's stage, all paths below one folder."""

    def stage(name, folder, params, baseline="sasrec", seed=0, **own):
        monkeypatch.setenv("MACREC_SCRATCH", str(folder / "scratch"))
        if name == "evaluate_baseline":
            own["recommendations"] = folder / "recommendations.parquet"
        return run_stage(
            name, dataset="sample", baseline=baseline, seed=seed,
            **({"items": items} | own),
            interactions=toy_stage_inputs / "interactions.parquet",
            recommender=folder / "recommender", metrics=folder / f"{name}.json", params=params,
        )  # fmt: skip

    return stage


@pytest.fixture
def params_file_of_small_models(params_file):
    """The committed settings of the baselines, made small."""

    def write(committed_params):
        specs = {name: spec.model_dump() for name, spec in committed_params.baseline_specs.items()}
        for spec in specs.values():
            spec["sequential"].pop("max_epochs", None)
        specs["s3rec"]["pretrain_epochs"] = 2
        specs["missrec"]["sequential"] = {"num_layers": 1}
        return params_file(baseline_specs=specs)

    return write


def test_a_folder_of_something_else_is_refused_before_the_training(run, params_file, tmp_path):
    (tmp_path / "recommender").mkdir()
    (tmp_path / "recommender" / "thesis.txt").write_text("precious")
    result = run("train_baseline", tmp_path, params_file())
    assert result.exit_code == 1
    assert "recommender: holds thesis.txt, which no earlier run" in result.output
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("baseline", [*BASELINES, MULTIMODAL])
def test_a_baseline_is_trained_and_measured(
    run, params_file_of_small_models, committed_params, embeddings, tmp_path, baseline
):
    params = params_file_of_small_models(committed_params)
    own = {"embeddings": embeddings} if baseline == MULTIMODAL else {}
    for name in ("train_baseline", "evaluate_baseline"):
        result = run(name, tmp_path, params, baseline, **own)
        assert result.exit_code == 0, result.output
    trained = json.loads((tmp_path / "train_baseline.json").read_text())
    assert trained["validation_users"] == 40
    assert len(trained["history"]) == 2
    extra = {
        "fdsa": {"attributes": 8, "items_without_attributes": 1},
        "s3rec": {"attributes": 8, "items_without_attributes": 1},
        "missrec": {"interests": 30},
    }
    assert {"attributes", "items_without_attributes", "interests"} & set(trained) == set(
        extra.get(baseline, {})
    )
    assert extra.get(baseline, {}).items() <= trained.items()
    assert [row["epoch"] for row in trained.get("pretraining", [])] == (
        [1, 2] if baseline == "s3rec" else []
    )
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


def test_a_model_that_reads_embeddings_says_what_is_missing(run, params_file, tmp_path):
    result = run("train_baseline", tmp_path, params_file(), MULTIMODAL)
    assert result.exit_code == 1
    assert "model 'missrec' reads the embeddings of ['text', 'image'] and was given none" in (
        " ".join(result.output.split())
    )
    assert not (tmp_path / "recommender").exists()


def test_embeddings_of_another_catalogue_are_one_line(run, params_file, embeddings, tmp_path):
    write_vectors(tmp_path / "text.parquet", 29, 5)
    (tmp_path / "image.parquet").write_bytes((embeddings / "image.parquet").read_bytes())
    result = run("train_baseline", tmp_path, params_file(), MULTIMODAL, embeddings=tmp_path)
    assert result.exit_code == 1
    assert "holds 29 items" in result.output


@pytest.mark.parametrize("baseline", ["fdsa", "s3rec"])
def test_a_catalogue_without_attributes_is_one_line(run, params_file, tmp_path, baseline):
    bare = write_items(tmp_path / "items.parquet", [None] * 30, [None] * 30)
    result = run("train_baseline", tmp_path, params_file(), baseline, items=bare)
    assert result.exit_code == 1
    assert f"{baseline}: none of 30 items has a brand or a category" in result.output
    # It does no harm to a model that needs none.
    assert run("train_baseline", tmp_path, params_file(), "sasrec", items=bare).exit_code == 0


def test_a_model_of_other_features_is_noticed(
    run, params_file_of_small_models, committed_params, embeddings, tmp_path
):
    params = params_file_of_small_models(committed_params)
    assert run("train_baseline", tmp_path, params, "fdsa").exit_code == 0
    other = write_items(tmp_path / "items.parquet", ["Casio"] * 30, [None] * 30)
    result = run("evaluate_baseline", tmp_path, params, "fdsa", items=other)
    assert result.exit_code == 1
    assert "was trained with num_attributes=8, the items given have 1" in result.output
    own = {"embeddings": embeddings}
    assert run("train_baseline", tmp_path, params, MULTIMODAL, **own).exit_code == 0
    for name, width in (("text", 5), ("image", 6)):
        write_vectors(tmp_path / f"{name}.parquet", 30, width)
    result = run("evaluate_baseline", tmp_path, params, MULTIMODAL, embeddings=tmp_path)
    assert result.exit_code == 1
    assert "was trained with widths={'image': 7, 'text': 5}" in " ".join(result.output.split())
