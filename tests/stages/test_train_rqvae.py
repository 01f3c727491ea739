"""`train_rqvae`: same bytes twice, after a kill, and shared between variants; bad input."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from toy_quantizer import (
    NUM_ITEMS,
    REPOSITORY,
    embeddings_table,
    fail,
    succeed,
    train_arguments,
    write_embeddings,
    write_params,
    write_shop,
)

from macrec_core.artifacts import read_json
from macrec_core.quantization import training
from macrec_core.schemas import embeddings


@pytest.fixture
def shop(tmp_path, monkeypatch):
    write_shop(tmp_path)
    monkeypatch.setenv("MACREC_SCRATCH", str(tmp_path / "scratch"))
    before = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(before)


def exported(shop, out="out"):
    files = [f"{out}/quantizer/model.safetensors", f"{out}/quantizer/config.json"]
    return [(shop / name).read_bytes() for name in [*files, f"{out}/rqvae.json"]]


def nothing_written(shop):
    return not (shop / "out").exists() or not list((shop / "out").iterdir())


@pytest.fixture
def epochs(monkeypatch):
    """Numbers of the epochs that are trained from here on."""
    seen, real = [], training.train_epoch

    def spy(*arguments):
        seen.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(training, "train_epoch", spy)
    return seen


def test_quantizer_and_history_are_written(shop):
    succeed(train_arguments(shop))
    metrics = read_json(shop / "out" / "rqvae.json")
    assert metrics["dataset"] == "toy"
    assert [row["epoch"] for row in metrics["history"]] == [1, 2, 3, 4]
    assert all(0 < row["positives"] <= 1 for row in metrics["history"])
    assert sorted(f.name for f in (shop / "out").iterdir()) == ["quantizer", "rqvae.json"]
    config = read_json(shop / "out" / "quantizer" / "config.json")
    assert config["widths"] == {"text": 12, "image": 8}


def test_a_folder_of_something_else_is_refused_before_any_epoch(shop, epochs):
    (shop / "out" / "quantizer").mkdir(parents=True)
    (shop / "out" / "quantizer" / "thesis.txt").write_text("precious")
    assert "quantizer: holds thesis.txt, which no earlier run" in fail(train_arguments(shop))
    assert epochs == []
    assert (shop / "out" / "quantizer" / "thesis.txt").read_text() == "precious"


def test_one_seed_gives_the_same_bytes_in_another_scratch_and_another_seed_does_not(
    shop, monkeypatch
):
    succeed(train_arguments(shop))
    monkeypatch.setenv("MACREC_SCRATCH", str(shop / "elsewhere"))
    succeed(train_arguments(shop, out="again"))
    assert exported(shop, "again") == exported(shop)
    succeed(train_arguments(shop, out="other", seed=1))
    assert exported(shop, "other")[0] != exported(shop)[0]


def test_variants_that_quantize_alike_share_one_training(shop, epochs):
    succeed(train_arguments(shop))
    assert epochs == [0, 1, 2, 3]
    succeed(train_arguments(shop, variant="twin", out="twin"))
    assert epochs == [0, 1, 2, 3]
    assert exported(shop, "twin")[:2] == exported(shop)[:2]
    # The metrics differ in the variant's name alone.
    macrec, twin = (read_json(shop / out / "rqvae.json") for out in ("out", "twin"))
    assert twin == macrec | {"variant": "twin"}
    succeed(train_arguments(shop, variant="text_only", out="text"))
    assert len(epochs) == 8
    assert read_json(shop / "text" / "quantizer" / "config.json")["widths"] == {"text": 12}


def test_other_settings_seed_or_embeddings_train_anew(shop, epochs):
    succeed(train_arguments(shop))
    succeed(train_arguments(shop, seed=1))
    write_params(shop / "params.yaml", quant={"temperature": 0.2})
    succeed(train_arguments(shop))
    values = np.random.default_rng(0).normal(size=(NUM_ITEMS, 12))
    write_embeddings(shop / "toy" / "embeddings" / "text.parquet", values)
    succeed(train_arguments(shop))
    assert epochs == [0, 1, 2, 3] * 4


def test_how_often_checkpoints_are_made_does_not_count_as_another_setting(shop, epochs):
    succeed(train_arguments(shop))
    write_params(shop / "params.yaml", runtime={"checkpoint_every_s": 0.0})
    succeed(train_arguments(shop))
    assert epochs == [0, 1, 2, 3]


def test_another_precision_trains_anew_and_gives_float32_weights(shop, epochs):
    succeed(train_arguments(shop))
    write_params(shop / "params.yaml", runtime={"precision": "bfloat16"})
    result = succeed(train_arguments(shop, out="half"))
    assert "bfloat16" in result.output
    assert epochs == [0, 1, 2, 3] * 2
    assert exported(shop, "half")[0] != exported(shop)[0]
    tensors = load_file(shop / "half" / "quantizer" / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.float32}


def test_a_killed_training_goes_on_and_gives_the_bytes_of_an_uninterrupted_one(
    shop, monkeypatch, caplog, epochs
):
    long = {"max_epochs": 150, "evaluate_every": 100}
    write_params(shop / "params.yaml", quant=long, runtime={"checkpoint_every_s": 0.0})
    process = subprocess.Popen(
        [sys.executable, "-m", "stages", *train_arguments(shop)],
        cwd=REPOSITORY, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not list((shop / "scratch").rglob("state.pt")):
            assert process.poll() is None, "ended before its first checkpoint"
            assert time.monotonic() < deadline, "no checkpoint within two minutes"
            time.sleep(0.005)
        time.sleep(random.Random(20).uniform(0.0, 0.2))
    finally:
        os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert nothing_written(shop)

    write_params(shop / "params.yaml", quant=long)
    with caplog.at_level("INFO"):
        result = succeed(train_arguments(shop))
    assert "going on from" in caplog.text + result.output
    assert 0 < epochs[0] < 149
    assert epochs == list(range(epochs[0], 150))

    epochs.clear()
    monkeypatch.setenv("MACREC_SCRATCH", str(shop / "elsewhere"))
    succeed(train_arguments(shop, out="whole"))
    assert epochs == list(range(150))
    assert exported(shop) == exported(shop, "whole")


def test_a_diverging_training_names_epoch_and_learning_rate(shop):
    write_params(shop / "params.yaml", quant={"learning_rate": 1e20})
    line = fail(train_arguments(shop))
    assert "RQ-VAE loss is" in line
    assert "in epoch 1, update " in line
    assert " at learning rate 1e+20; lower quant.learning_rate" in line
    assert "last good checkpoint: none was saved" in line
    assert nothing_written(shop)


def test_too_few_embeddings_are_an_error(shop, epochs):
    path = shop / "toy" / "embeddings" / "image.parquet"
    write_embeddings(path, np.ones((NUM_ITEMS - 1, 8)))
    line = fail(train_arguments(shop))
    assert line.startswith(f"error: {path}: holds {NUM_ITEMS - 1} items, ")
    assert f"pseudo_labels.parquet holds {NUM_ITEMS}" in line
    assert nothing_written(shop)
    assert epochs == []


def test_nan_in_embeddings_is_an_error_with_file_and_column(shop, epochs):
    path = shop / "toy" / "embeddings" / "image.parquet"
    metadata, values = pq.read_schema(path).metadata, np.ones((NUM_ITEMS, 8))
    values[7, 3] = np.nan
    table = embeddings_table(values).cast(embeddings(8).schema)
    pq.write_table(table.replace_schema_metadata(metadata), path)
    line = fail(train_arguments(shop))
    assert line == f"error: {path}: column 'embedding' has 1 NaN or infinite values"
    assert nothing_written(shop)
    assert epochs == []


def test_a_missing_modality_is_an_error(shop):
    (shop / "toy" / "embeddings" / "image.parquet").unlink()
    assert "image.parquet: does not exist" in fail(train_arguments(shop))
    assert nothing_written(shop)
