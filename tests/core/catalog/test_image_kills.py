"""A download of images that is killed again and again gives what an undisturbed one gives."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ITEMS = 400
# Kills in each phase, and before which of its steps at the latest (items, or blocks of eight).
KILLS = {"images": (10, 100), "packing images": (10, 50)}


def start(scratch, raw):
    command = [sys.executable, ROOT / "tests" / "image_shop.py", scratch, raw, str(ITEMS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def killed_in(process, phase, step, delay_s):
    """Kill a run some time after a step of a phase; False if it was done before."""
    for line in process.stdout:
        step -= line.strip() == phase
        if step < 0:
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait(60) in (0, -signal.SIGKILL)
    return process.returncode != 0


def contents(raw):
    paths = [path for path in raw.rglob("*") if path.is_file()]
    return {str(path.relative_to(raw)): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_byte(tmp_path):
    undisturbed = start(tmp_path / "calm", tmp_path / "expected")
    undisturbed.communicate(timeout=120)
    assert undisturbed.returncode == 0
    expected = contents(tmp_path / "expected")
    assert {"image_failures.parquet", "images/part-00000.parquet"} <= set(expected)

    rng = random.Random(5)
    scratch, raw = tmp_path / "scratch", tmp_path / "raw"
    kept = []
    for phase, (kills, steps) in KILLS.items():
        done = 0
        for _ in range(3 * kills):
            if done == kills:
                break
            step, delay_s = rng.randrange(steps), rng.uniform(0, 0.01)
            if killed_in(start(scratch, raw), phase, step, delay_s):
                done += 1
                kept.append(len(list(scratch.glob("images-*/0*.parquet"))))
                assert not raw.exists()
            else:
                assert contents(raw) == expected
                shutil.rmtree(scratch)
                shutil.rmtree(raw)
        assert done == kills, phase
    assert len(set(kept)) >= 5, kept  # at various moments of the search
    last = start(scratch, raw)
    last.communicate(timeout=120)
    assert last.returncode == 0
    assert contents(raw) == expected
