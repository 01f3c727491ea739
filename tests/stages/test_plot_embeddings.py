from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from macrec_core import schemas
from macrec_core.artifacts import fixed_lists, write_artifact

ITEMS = 40


@pytest.fixture
def files(tmp_path):
    """40 items of two brands, four of them without; text tells brands apart, image types."""
    rng = np.random.default_rng(0)
    brands = [None if n < 4 else f"brand {n % 2}" for n in range(ITEMS)]
    kinds = [f"Shop, kind {n // 20}" for n in range(ITEMS)]
    ids = pa.array(np.arange(ITEMS, dtype=np.int32))
    texts = {
        "item_id": ids, "item_key": [str(n) for n in range(ITEMS)], "title": ["t"] * ITEMS,
        "description": ["d"] * ITEMS, "brand": brands, "categories": kinds,
    }  # fmt: skip
    write_artifact(tmp_path / "items.parquet", pa.table(texts), schemas.ITEMS)
    groups = {"text": np.arange(ITEMS) % 2, "image": np.arange(ITEMS) // 20}
    for modality, group in groups.items():
        vectors = (np.eye(2, 8)[group] + rng.normal(0, 0.05, (ITEMS, 8))).astype(np.float32)
        table = pa.table({"item_id": ids, "embedding": fixed_lists(vectors)})
        write_artifact(tmp_path / "vectors" / f"{modality}.parquet", table, schemas.embeddings(8))
    labels = pa.table({"item_id": ids, **groups})
    write_artifact(tmp_path / "labels.parquet", labels, schemas.pseudo_labels(list(groups)))
    return tmp_path


@pytest.fixture
def run(run_stage, params_file, files):
    def make(name="one"):
        return run_stage(
            "plot_embeddings", dataset="sample", items=files / "items.parquet",
            embeddings=files / "vectors", pseudo_labels=files / "labels.parquet",
            figure=files / f"{name}.png", metrics=files / f"{name}.json", params=params_file(),
        )  # fmt: skip

    return make


def test_each_modality_agrees_with_what_it_shows(run, files):
    result = run()
    assert result.exit_code == 0, result.output
    found = json.loads((files / "one.json").read_text())
    assert (found["items"], found["without"]) == (ITEMS, {"brand": 4, "type": 0})
    text, image = found["modalities"]["text"], found["modalities"]["image"]
    for measure in ("purity", "neighbours"):
        assert text["brand"][measure] == image["type"][measure] == 1.0
        assert text["type"][measure] < 0.75
        assert image["brand"][measure] < 0.75
    assert text["brand"]["without"] == 4
    assert (files / "one.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_writes_the_same_bytes(run, files):
    run("one")
    assert run("two").exit_code == 0
    for kind in ("png", "json"):
        assert (files / f"one.{kind}").read_bytes() == (files / f"two.{kind}").read_bytes()


def test_pseudo_labels_of_other_items_are_an_error(run, files):
    table = pa.table({"item_id": pa.array([0], pa.int32()), "text": [0], "image": [0]})
    write_artifact(files / "labels.parquet", table, schemas.pseudo_labels(["text", "image"]))
    result = run()
    assert result.exit_code == 1
    assert "labels.parquet: holds 1 items" in result.output
    assert not (files / "one.png").exists()
