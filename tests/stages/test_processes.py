"""Stages in two processes: the real commands, on the CPU."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from toy_quantizer import succeed as succeed_alone
from toy_quantizer import train_arguments, write_params, write_shop

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LAUNCHERS = {
    "none": [sys.executable],
    "torchrun": [BIN / "torchrun", "--standalone", "--nproc-per-node", "2"],
    "accelerate": [
        BIN / "accelerate", "launch", "--multi_gpu", "--num_processes", "2",
        "--main_process_port", "0",
    ],
}  # fmt: skip
LONGEST = 300


@pytest.fixture
def started(tmp_path, toy_cell, toy_stage_inputs):
    """Starts a stage of the toy's cell in a folder of its own: `started("train_gr", ...)`."""
    processes = []

    def start(stage, folder, params, launcher="none", scratch="scratch"):
        folder = tmp_path / folder
        if not folder.exists():
            shutil.copytree(toy_cell / "seq2seq", folder / "seq2seq")
            if stage == "evaluate":
                shutil.copytree(toy_cell / "recommender", folder / "recommender")
        command = [
            *map(str, LAUNCHERS[launcher]), "-m", "stages", stage, "--dataset", "sample",
            "--variant", "macrec", "--seed", "0", "--seq2seq", str(folder / "seq2seq"),
            "--semantic-ids", str(toy_stage_inputs / "semantic_ids.parquet"),
            "--recommender", str(folder / "recommender"),
            "--metrics", str(folder / f"{stage}.json"), "--params", str(params),
        ]  # fmt: skip
        if stage == "evaluate":
            command += ["--recommendations", str(folder / "recommendations.parquet")]
            command += ["--interactions", str(toy_stage_inputs / "interactions.parquet")]
        processes.append(
            subprocess.Popen(
                command, cwd=ROOT, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "MACREC_SCRATCH": str(tmp_path / scratch)},
            )
        )  # fmt: skip
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


def succeed(process):
    """What a started process says until it ends well."""
    said = process.communicate(timeout=LONGEST)[1]
    assert process.returncode == 0, said
    return said


def worker(launcher, rank):
    """A running worker of a launcher."""
    for child in psutil.Process(launcher.pid).children():
        if child.environ().get("RANK") == str(rank):
            return child
    raise AssertionError(f"no worker of rank {rank}")


def test_a_killed_worker_ends_the_training_which_goes_on_to_the_bytes_of_a_whole_one(
    started, params_file, tmp_path
):
    params = params_file(
        gr={"max_epochs": 10, "patience": 10},
        runtime={"checkpoint_every_s": 0.0, "num_processes": 2},
    )
    process = started("train_gr", "killed", params)
    deadline = time.monotonic() + LONGEST
    while not list((tmp_path / "scratch").glob("train_gr/*/state.pt")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    others = psutil.Process(process.pid).children()
    worker(process, 1).send_signal(signal.SIGKILL)
    killed = time.monotonic()
    said = process.communicate(timeout=60)[1]
    assert time.monotonic() - killed < 30
    assert process.returncode == 1
    assert (
        "error: process 2 of 2 (rank 1) was killed by signal 9 (SIGKILL; memory may have run out), "
        "and the others were stopped; run the same again to go on from the last checkpoint\n"
    ) in said
    assert not any(other.is_running() for other in others)
    assert "Traceback" not in said
    assert not (tmp_path / "killed" / "recommender").exists()

    assert "going on from" in succeed(started("train_gr", "killed", params))
    whole = started("train_gr", "whole", params, launcher="torchrun", scratch="other")
    assert "going on from" not in succeed(whole)
    for name in ("recommender/model.safetensors", "train_gr.json"):
        found = (tmp_path / "killed" / name).read_bytes()
        assert found == (tmp_path / "whole" / name).read_bytes()


def test_evaluation_under_accelerate_is_that_of_one_process(started, params_file, tmp_path):
    params = params_file(runtime={"num_processes": 1})
    succeed(started("evaluate", "alone", params))
    said = succeed(started("evaluate", "together", params, launcher="accelerate"))
    assert "runtime.num_processes=1, but a launcher has started 2" in said
    alone, together = (
        json.loads((tmp_path / folder / "evaluate.json").read_text())
        for folder in ("alone", "together")
    )
    assert alone["users"] == together["users"] == 40
    assert together == alone
    alone, together = (
        pq.read_table(tmp_path / folder / "recommendations.parquet")
        for folder in ("alone", "together")
    )
    assert together.drop(["scores"]).equals(alone.drop(["scores"]))


def test_a_quantizer_of_two_processes_is_that_of_one(tmp_path, monkeypatch):
    import torch
    from safetensors.torch import load_file

    monkeypatch.setenv("MACREC_SCRATCH", str(tmp_path / "scratch"))
    before = torch.get_num_threads()
    write_shop(tmp_path)
    succeed_alone(train_arguments(tmp_path, out="alone"))
    torch.set_num_threads(before)
    write_params(tmp_path / "params.yaml", runtime={"num_processes": 2})
    command = [sys.executable, "-m", "stages", *train_arguments(tmp_path, out="together")]
    said = succeed(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
    # What both would say is said once, and both have trained: none found the other's result.
    assert said.count("device cpu, float32, 1 threads in each of 2 processes") == 1
    assert len(list((tmp_path / "scratch" / "train_rqvae").iterdir())) == 2
    alone, together = (
        json.loads((tmp_path / out / "rqvae.json").read_text())["history"]
        for out in ("alone", "together")
    )
    for row, expected in zip(together, alone, strict=True):
        assert row == pytest.approx(expected, rel=1e-3)
    weights = [
        load_file(tmp_path / out / "quantizer" / "model.safetensors")
        for out in ("alone", "together")
    ]
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, rtol=1e-2, atol=1e-4, msg=name)
