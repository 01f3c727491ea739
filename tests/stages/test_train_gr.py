from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def copied(toy_cell, folder):
    """A folder of its own with the toy's training examples."""
    shutil.copytree(toy_cell / "seq2seq", folder / "seq2seq")
    return folder


def test_figures_and_the_exported_model(toy_cell):
    from transformers import T5ForConditionalGeneration

    figures = json.loads((toy_cell / "train_gr.json").read_text())
    built = json.loads((toy_cell / "build_seq2seq.json").read_text())
    assert figures["examples"] == built["examples"]
    assert figures["validation_users"] == 40
    assert figures["stopped_by"] == "max_epochs"
    assert len(figures["history"]) == 2
    model = T5ForConditionalGeneration.from_pretrained(
        toy_cell / "recommender", local_files_only=True
    )
    assert model.config.vocab_size == built["vocabulary"]
    assert figures["parameters"] == sum(p.numel() for p in model.parameters())


def test_the_same_seed_gives_the_same_bytes_from_another_scratch(
    toy_cell, run_cell, params_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("MACREC_SCRATCH", str(tmp_path / "scratch"))
    expected = (toy_cell / "recommender" / "model.safetensors").read_bytes()
    for seed, same in ((0, True), (1, False)):
        folder = copied(toy_cell, tmp_path / f"s{seed}")
        assert run_cell("train_gr", folder, params_file(), seed=seed).exit_code == 0
        found = (folder / "recommender" / "model.safetensors").read_bytes()
        assert (found == expected) is same


def test_a_folder_of_something_else_is_refused_before_the_training(
    toy_cell, run_cell, params_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("MACREC_SCRATCH", str(tmp_path / "scratch"))
    folder = copied(toy_cell, tmp_path / "cell")
    (folder / "recommender").mkdir()
    # A model of someone else's, say, that was meant to be read.
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / "recommender" / name).write_text("precious")
    result = run_cell("train_gr", folder, params_file())
    assert result.exit_code == 1
    assert "recommender: holds tokenizer.json, which no earlier run" in result.output
    assert not (tmp_path / "scratch").exists()
    assert (folder / "recommender" / "config.json").read_text() == "precious"


def test_a_training_killed_midway_goes_on_to_the_same_bytes(
    toy_cell, toy_stage_inputs, run_cell, params_file, tmp_path, monkeypatch
):
    params = params_file(
        gr={"max_epochs": 25, "patience": 25},
        runtime={"checkpoint_every_s": 0.0},
    )
    killed = copied(toy_cell, tmp_path / "killed")
    scratch = tmp_path / "scratch"
    process = subprocess.Popen(
        [
            sys.executable, "-m", "stages", "train_gr", "--dataset", "sample",
            "--variant", "macrec", "--seed", "0",
            "--seq2seq", str(killed / "seq2seq"),
            "--semantic-ids", str(toy_stage_inputs / "semantic_ids.parquet"),
            "--recommender", str(killed / "recommender"),
            "--metrics", str(killed / "train_gr.json"), "--params", str(params),
        ],
        cwd=ROOT, env={**os.environ, "MACREC_SCRATCH": str(scratch)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while not list(scratch.glob("train_gr/*/state.pt")):
            assert process.poll() is None, "ended before its first checkpoint"
            assert time.monotonic() < deadline, "no checkpoint within four minutes"
            time.sleep(0.01)
        time.sleep(random.Random(20).uniform(0.05, 0.5))
    finally:
        process.send_signal(signal.SIGKILL)
        code = process.wait()
    assert code == -signal.SIGKILL, "it finished before the kill: make the training longer"
    assert not (killed / "recommender").exists()

    whole = copied(toy_cell, tmp_path / "whole")
    for folder, own_scratch in ((killed, scratch), (whole, tmp_path / "other")):
        monkeypatch.setenv("MACREC_SCRATCH", str(own_scratch))
        result = run_cell("train_gr", folder, params)
        assert result.exit_code == 0, result.output
        assert ("going on from" in result.output) is (folder is killed)
    for name in ("recommender/model.safetensors", "train_gr.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_a_diverging_training_is_one_line(toy_cell, run_cell, params_file, tmp_path, monkeypatch):
    monkeypatch.setenv("MACREC_SCRATCH", str(tmp_path / "scratch"))
    folder = copied(toy_cell, tmp_path / "cell")
    params = params_file(gr={"learning_rate": 1e30, "warmup_fraction": 0.0})
    result = run_cell("train_gr", folder, params)
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if line.startswith("error:")]
    assert "at update 2, learning rate" in line
    assert not (folder / "recommender").exists()


@pytest.mark.parametrize("name", ["train.parquet", "eval.parquet", "vocabulary.json"])
def test_a_missing_input_is_named(toy_cell, run_cell, params_file, tmp_path, name):
    folder = copied(toy_cell, tmp_path / "cell")
    (folder / "seq2seq" / name).unlink()
    result = run_cell("train_gr", folder, params_file())
    assert result.exit_code == 1
    assert f"{name}: does not exist" in result.output
