"""`embed_text`, `embed_image` and `pseudo_labels` on a toy catalogue."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer
from PIL import Image
from ruamel.yaml import YAML
from typer.testing import CliRunner

from macrec_core.artifacts import (
    artifact_info,
    read_any,
    read_artifact,
    read_embeddings,
    write_artifact,
)
from macrec_core.encoders.encoded import Encoded, write_embeddings
from macrec_core.schemas import IMAGES, ITEMS, pseudo_labels
from stages import embed_image, embed_text
from stages import pseudo_labels as pseudo_labels_stage
from stages.console import OneLineErrors

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
NUM_ITEMS = 6

app = typer.Typer(cls=OneLineErrors)
app.command("embed_text")(embed_text.main)
app.command("embed_image")(embed_image.main)
app.command("pseudo_labels")(pseudo_labels_stage.main)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Items, images and params of six items: three red guitars, three blue drums."""
    monkeypatch.setenv("MACREC_SCRATCH", str(tmp_path / "scratch"))
    _write_items(tmp_path, ["red guitar"] * 3 + ["blue drum"] * 3)
    _write_images(tmp_path, range(NUM_ITEMS))
    _set_params(tmp_path)
    return tmp_path


def _write_items(folder, titles):
    table = pa.table(
        {
            "item_id": range(NUM_ITEMS),
            "item_key": [f"B{i}" for i in range(NUM_ITEMS)],
            "title": pa.array(titles, pa.string()),
            "description": [f"number {i}" for i in range(NUM_ITEMS)],
            "brand": [""] * NUM_ITEMS,
            "categories": [""] * NUM_ITEMS,
        }
    )
    write_artifact(folder / "items.parquet", table, ITEMS)


def _write_images(folder, items):
    def jpeg(item):
        buffer = BytesIO()
        colour = (200 + item, 20, 20) if item < 3 else (20, 20, 200 + item)
        Image.new("RGB", (48, 48), colour).save(buffer, "JPEG")
        return buffer.getvalue()

    table = pa.table(
        {
            "item_id": list(items),
            "url": [f"{i}.jpg" for i in items],
            "width": [48] * len(items),
            "height": [48] * len(items),
            "image": [jpeg(i) for i in items],
        }
    )
    write_artifact(folder / "images.parquet", table, IMAGES)


def _set_params(folder, **sections):
    yaml = YAML()
    params = yaml.load(PARAMS)
    params["pseudo_labels"] = {"num_clusters": 2, "n_init": 10, "seed": 0}
    # Stated here, so that a user's change of params.yaml does not change these tests.
    fields = ["title", "description"]
    minilm = {"encoder": "minilm", "fields": fields, "max_tokens": 32, "batch_tokens": 64}
    lite0 = {"encoder": "efficientnet_lite0", "batch_size": 4}
    collab = params["embed"]["collab"]
    params["embed"] = {"text": minilm, "image": lite0, "collab": collab, **sections}
    yaml.dump(params, folder / "params.yaml")


def run(folder, command, run_name="run"):
    return CliRunner().invoke(app, _arguments(folder, command, run_name))


def _arguments(folder, command, run_name):
    out = folder / run_name
    arguments = [command, "--dataset", "sample", "--params", str(folder / "params.yaml")]
    arguments += ["--metrics", str(out / f"{command}.json")]
    if command == "pseudo_labels":
        arguments += ["--embeddings", str(folder / "embeddings")]
        arguments += ["--output", str(out / "pseudo_labels.parquet")]
    else:
        arguments += ["--catalogue", str(folder), "--raw", str(folder / "raw")]
        arguments += ["--output", str(out / f"{command}.parquet")]
    return arguments


def fails_in_one_line(folder, command, *words):
    result = run(folder, command)
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [result.stderr.splitlines()[-1]]
    for word in words:
        assert word in errors[0]
    assert not (folder / "run").exists() or not list((folder / "run").iterdir())


@pytest.mark.parametrize(
    ("command", "width", "weights"),
    [("embed_text", 384, "53aa5117"), ("embed_image", 1280, "57934424")],
)
def test_embedded_weights_give_the_same_bytes_twice(command, width, weights, shop):
    for name in ("first", "second"):
        result = run(shop, command, name)
        assert result.exit_code == 0, result.output
    for kind in ("parquet", "json"):
        first, second = (shop / n / f"{command}.{kind}" for n in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    path = shop / "first" / f"{command}.parquet"
    assert read_embeddings(path).shape == (NUM_ITEMS, width)
    info = artifact_info(read_any(path))
    assert info["weights_sha256"].startswith(weights)
    assert info["width"] == width
    metrics = json.loads((shop / "first" / f"{command}.json").read_text())
    assert (metrics["dataset"], metrics["items"], metrics["width"]) == ("sample", NUM_ITEMS, width)
    assert metrics["mean_norm"] > 0
    # What a finished run kept on the way is removed.
    assert [path for path in (shop / "scratch").rglob("*") if path.is_file()] == []


# Two items a shard; the process dies after as many saves as the first argument says.
KILLED = """
import os, signal, sys
from macrec_core.encoders import shards
from stages.__main__ import app

shards.SHARD_ITEMS, save, saved = 2, shards.Shards.save, []

def save_and_die(self, start, *arguments):
    save(self, start, *arguments)
    saved.append(start)
    if len(saved) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

shards.Shards.save = save_and_die
app(sys.argv[2:])
"""


def _start(shop, command, run_name, saves_until_death=0, **environment):
    """A stage in a process of its own."""
    arguments = [str(saves_until_death), *_arguments(shop, command, run_name)]
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments], cwd=ROOT, env=os.environ | environment,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("command", ["embed_text", "embed_image"])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(command, shop):
    killed = _start(shop, command, "killed", saves_until_death=2)
    assert killed.wait(120) == -signal.SIGKILL
    assert not (shop / "killed").exists()
    resumed = _start(shop, command, "killed")
    said = resumed.communicate(timeout=120)[1]
    assert resumed.returncode == 0, said
    assert "2 of 3 shards are at" in said
    whole = _start(shop, command, "whole", MACREC_SCRATCH=str(shop / "other"))
    said = whole.communicate(timeout=120)[1]
    assert whole.returncode == 0, said
    assert "shards are at" not in said
    for kind in ("parquet", "json"):
        first, second = (shop / name / f"{command}.{kind}" for name in ("killed", "whole"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("command", ["embed_text", "embed_image"])
def test_two_processes_give_the_bytes_of_one(command, shop):
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = str(chosen.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    workers = [
        _start(shop, command, "two", MASTER_PORT=port, RANK=rank, LOCAL_RANK=rank, **shared)
        for rank in "01"
    ]
    said = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    alone = _start(shop, command, "one")
    assert alone.wait(120) == 0
    for kind in ("parquet", "json"):
        first, second = (shop / name / f"{command}.{kind}" for name in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_texts_that_the_source_lacks_are_an_error(shop):
    _write_items(shop, [None] * NUM_ITEMS)
    fails_in_one_line(shop, "embed_text", "'title' is null for 6 of 6", ".item.json")


def test_an_item_without_an_image_is_an_error(shop):
    _write_images(shop, [0, 1, 2, 4, 5])
    fails_in_one_line(shop, "embed_image", "1 of 6 items have no image (first: item 3)")


def test_published_nan_is_an_error_that_names_file_and_column(shop):
    _set_params(shop, text={"encoder": "published"})
    (shop / "raw").mkdir()
    np.save(shop / "raw" / "embeddings.text.npy", np.full((NUM_ITEMS, 4), np.nan))
    fails_in_one_line(shop, "embed_text", "embed_text.parquet: column 'embedding' has 24 NaN")


def test_a_missing_published_file_is_an_error(shop):
    _set_params(shop, image={"encoder": "published"})
    fails_in_one_line(shop, "embed_image", "embeddings.image.npy: does not exist")


def _write_vectors(folder, **vectors):
    for name, values in vectors.items():
        path = folder / "embeddings" / f"{name}.parquet"
        write_embeddings(path, Encoded([np.asarray(values, np.float32)], {}, {}))


def test_pseudo_labels_are_one_column_a_modality_and_the_same_bytes_twice(shop):
    halves = [[0, 0], [0, 1], [1, 0], [9, 9], [9, 8], [8, 9]]
    thirds = [[0], [9], [0], [9], [0], [9]]
    _write_vectors(shop, text=halves, image=thirds)
    for name in ("first", "second"):
        result = run(shop, "pseudo_labels", name)
        assert result.exit_code == 0, result.output
    for file in ("pseudo_labels.parquet", "pseudo_labels.json"):
        assert (shop / "first" / file).read_bytes() == (shop / "second" / file).read_bytes()
    path = shop / "first" / "pseudo_labels.parquet"
    table = read_artifact(path, pseudo_labels(["text", "image"]))
    text, image = (table.column(name).to_pylist() for name in ("text", "image"))
    assert text in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
    assert image in ([0, 1] * 3, [1, 0] * 3)
    metrics = json.loads((shop / "first" / "pseudo_labels.json").read_text())
    assert metrics["text"]["inertia"] == pytest.approx(8 / 3, rel=1e-5)
    assert metrics["image"] == {
        "inertia": 0.0,
        "iterations": metrics["image"]["iterations"],
        "size_min": 3,
        "size_median": 3.0,
        "size_max": 3,
        "empty_clusters": 0,
        "clusters_of_one": 0,
    }


def test_modalities_of_different_catalogues_are_an_error(shop):
    _write_vectors(shop, text=np.eye(6), image=np.eye(5))
    fails_in_one_line(shop, "pseudo_labels", "image.parquet: holds 5 items", "text.parquet", "6")


def test_an_absent_or_truncated_embedding_file_is_an_error(shop):
    _write_vectors(shop, text=np.eye(6))
    fails_in_one_line(shop, "pseudo_labels", "image.parquet: does not exist")
    _write_vectors(shop, image=np.eye(6))
    path = shop / "embeddings" / "image.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    fails_in_one_line(shop, "pseudo_labels", "image.parquet: is no readable Parquet file")


def test_more_clusters_than_items_is_an_error(shop):
    _write_vectors(shop, text=np.eye(6), image=np.eye(6))
    params = (shop / "params.yaml").read_text()
    (shop / "params.yaml").write_text(params.replace("num_clusters: 2", "num_clusters: 7"))
    fails_in_one_line(shop, "pseudo_labels", "pseudo_labels.num_clusters=7", "6 items")
