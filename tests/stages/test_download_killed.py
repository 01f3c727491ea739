"""`python -m stages download` is killed again and again, and started again."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from misbehaving_server import LOOPBACK, MisbehavingServer, held
from PIL import Image
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
KILLS = 20


@pytest.fixture
def shop(tmp_path):
    """A release in the 2018 layout whose files take about a second at 100 kB/s."""
    folder, numbers = tmp_path / "release", random.Random(0)
    for name in ("categoryFilesSmall", "metaFiles2", "images"):
        (folder / name).mkdir(parents=True)
    items = [f"B{i}" for i in range(8)]
    lines = [f"{item},A{user},5.0,{1000 + user}\n" for user in range(200) for item in items]
    (folder / "categoryFilesSmall" / "Gift_Cards.csv").write_text("".join(lines))
    reviews = [{"asin": item, "reviewText": numbers.randbytes(1000).hex()} for item in items]
    packed = [("categoryFilesSmall/Gift_Cards_5.json.gz", reviews)]
    for item in items:
        Image.new("RGB", (8, 8), "red").save(folder / "images" / f"{item}.jpg")
    with MisbehavingServer(folder, bytes_per_s=100_000, life_s=200) as server:
        records = [
            {
                "asin": item,
                "title": numbers.randbytes(2000).hex(),
                "imageURLHighRes": [f"{server.url}/images/{item}.jpg"],
            }
            for item in items
        ]
        packed.append(("metaFiles2/meta_Gift_Cards.json.gz", records))
        for name, rows in packed:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / name).write_bytes(gzip.compress(text.encode(), mtime=0))
        yield server


@pytest.fixture
def params(tmp_path, shop):
    values = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    values["network"] = LOOPBACK.model_dump() | {"timeout_s": 60.0}
    values["dataset_specs"]["sample"] = {
        "source": "amazon",
        "layout": "amazon2018",
        "category": "Gift_Cards",
        "bases": [shop.url],
        "sha256": {},
    }
    path = tmp_path / "params.yaml"
    YAML(pure=True).dump(values, path)
    return path


def start(params, raw, scratch):
    command = [sys.executable, "-m", "stages", "download", "--dataset", "sample"]
    command += ["--raw", str(raw), "--params", str(params)]
    environment = os.environ | {"MACREC_SCRATCH": str(scratch)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def finish(process):
    _, text = process.communicate(timeout=60)
    assert process.returncode == 0, text.decode()


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def wait_for_a_request(shop, seen, process):
    """Until the process asks the server something; it may also have ended."""
    deadline = time.monotonic() + 30
    while len(shop.requests) == seen and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_at_twenty_moments_the_raw_folder_is_the_same(params, shop, tmp_path):
    process = start(params, tmp_path / "whole" / "raw", tmp_path / "scratch-whole")
    wait_for_a_request(shop, 0, process)
    begin = time.monotonic()
    finish(process)
    duration = time.monotonic() - begin
    expected = contents(tmp_path / "whole" / "raw")

    raw, scratch, moments = tmp_path / "killed" / "raw", tmp_path / "scratch", random.Random(0)
    killed = 0
    for _ in range(KILLS):
        seen = len(shop.requests)
        process = start(params, raw, scratch)
        wait_for_a_request(shop, seen, process)
        time.sleep(moments.uniform(0.0, 0.3 * duration))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        killed += process.returncode == -signal.SIGKILL
        if raw.exists():
            assert contents(raw) == expected
            shutil.rmtree(raw)  # the next one begins anew
    assert killed >= KILLS / 2
    finish(start(params, raw, scratch))
    assert contents(raw) == expected
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]
    assert [path.name for path in (scratch / "downloads").iterdir()] == ["locks"]
    assert any(asked for _, asked in shop.requests), "nothing was ever continued"


def test_a_second_run_into_the_same_folder_names_the_first(params, shop, tmp_path):
    raw, scratch, leave = tmp_path / "raw", tmp_path / "scratch", threading.Event()
    shop.faults["/metaFiles2/meta_Gift_Cards.json.gz"] = [held(leave)]
    first = start(params, raw, scratch)
    wait_for_a_request(shop, 0, first)
    second = start(params, raw, scratch)
    _, text = second.communicate(timeout=60)
    leave.set()
    finish(first)
    assert second.returncode == 1
    assert f"{raw}: is being downloaded by process {first.pid} on " in text.decode()
    assert text.decode().count("\n") == 1
    assert (raw / "ratings.csv").is_file()
