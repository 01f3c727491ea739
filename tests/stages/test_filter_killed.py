"""A filter that is killed at any moment leaves old or whole files, and can simply be run again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUTPUTS = ("items.parquet", "images.parquet", "users.parquet", "interactions.parquet", "m.json")
MOMENTS = 20


def command(stage, params, raw, folder=None):
    found = [sys.executable, "-m", "stages", stage, "--dataset", "sample", "--params", str(params)]
    found += ["--raw", str(raw)]
    if folder is not None:
        names = ("items", "images", "users", "interactions", "metrics")
        found += [f"--{name}={folder / file}" for name, file in zip(names, OUTPUTS, strict=True)]
    return found


def outputs(folder):
    return {name: (folder / name).read_bytes() for name in OUTPUTS if (folder / name).exists()}


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(params_file, tmp_path):
    sample = {"source": "sample", "num_items": 40, "num_users": 60, "image_size": 32, "seed": 0}
    params = params_file(dataset_specs={"sample": sample})
    env = os.environ | {"MACREC_SCRATCH": str(tmp_path / "scratch")}
    raw, whole, folder = (tmp_path / name for name in ("raw", "whole", "killed"))
    quiet = {"env": env, "cwd": ROOT, "stderr": subprocess.DEVNULL}
    subprocess.run(command("download", params, raw), check=True, **quiet)
    durations = []
    for _ in range(2):  # the first one also compiles
        start = time.monotonic()
        subprocess.run(command("filter", params, raw, whole), check=True, **quiet)
        durations.append(time.monotonic() - start)
    expected = outputs(whole)
    assert set(expected) == set(OUTPUTS)
    rng = random.Random(0)
    killed = 0
    for _ in range(MOMENTS):
        process = subprocess.Popen(command("filter", params, raw, folder), **quiet)
        time.sleep(rng.uniform(0.3, 1.0) * min(durations))  # loading takes most of it
        process.kill()
        killed += process.wait() < 0
        assert outputs(folder).items() <= expected.items()
    assert killed >= MOMENTS // 4
    subprocess.run(command("filter", params, raw, folder), check=True, **quiet)
    assert outputs(folder) == expected
