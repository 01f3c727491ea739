"""`assign_sids` on a trained toy quantizer."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from toy_quantizer import (
    NUM_ITEMS,
    assign_arguments,
    embeddings_table,
    fail,
    succeed,
    train_arguments,
    write_embeddings,
    write_items,
    write_params,
    write_shop,
)

from macrec_core.artifacts import matrix, read_artifact, read_json
from macrec_core.id_table import read_ids
from macrec_core.schemas import embeddings, semantic_ids


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A shop with quantizers `out` of both modalities; tests work on links to copies of it."""
    folder = tmp_path_factory.mktemp("shop")
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MACREC_SCRATCH", str(folder / "scratch"))
        write_shop(folder)
        succeed(train_arguments(folder))
    yield folder
    torch.set_num_threads(before)


@pytest.fixture
def shop(trained, tmp_path):
    write_shop(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "quantizer").symlink_to(trained / "out" / "quantizer")
    return tmp_path


def ids_file(shop):
    return shop / "toy" / "out" / "semantic_ids.parquet"


def test_every_item_gets_a_unique_id_and_the_metrics_tell_what_moved(shop):
    succeed(assign_arguments(shop))
    table = read_artifact(ids_file(shop), semantic_ids(["text", "image"], 3))
    metrics = read_json(shop / "out" / "assign.json")
    assert (metrics["dataset"], metrics["variant"], metrics["seed"]) == ("toy", "macrec", 0)
    for modality in ("text", "image"):
        codes, nearest = matrix(table, modality), matrix(table, f"{modality}_nearest")
        assert len(np.unique(codes, axis=0)) == NUM_ITEMS
        distinct = len(np.unique(nearest, axis=0))
        assert metrics[modality]["collision_rate"] == pytest.approx(1 - distinct / NUM_ITEMS)
        assert metrics[modality]["collision_rate_after"] == 0.0
        assert metrics[modality]["moved"] == NUM_ITEMS - distinct
        counts = np.array(metrics[modality]["items_a_code"])
        assert counts.shape == (3, 6)
        assert (counts.sum(axis=1) == NUM_ITEMS).all()
    assert read_ids(ids_file(shop), ["text", "image"]).codebook_size == 6


def test_a_second_run_gives_the_same_bytes(shop):
    succeed(assign_arguments(shop))
    first = ids_file(shop).read_bytes(), (shop / "out" / "assign.json").read_bytes()
    succeed(assign_arguments(shop))
    assert (ids_file(shop).read_bytes(), (shop / "out" / "assign.json").read_bytes()) == first


def test_a_variant_of_one_modality_gives_one_column(shop, trained, monkeypatch):
    monkeypatch.setenv("MACREC_SCRATCH", str(shop / "scratch"))
    succeed(train_arguments(shop, variant="text_only", out="single"))
    succeed(assign_arguments(shop, variant="text_only", out="single"))
    table = pq.read_table(shop / "toy" / "single" / "semantic_ids.parquet")
    assert table.column_names == ["item_id", "text", "text_nearest"]


def nothing_written(shop):
    return not ids_file(shop).exists() and not (shop / "out" / "assign.json").exists()


def test_embeddings_of_another_number_of_items_are_an_error(shop):
    path = shop / "toy" / "embeddings" / "image.parquet"
    write_embeddings(path, np.ones((NUM_ITEMS + 1, 8)))
    line = fail(assign_arguments(shop))
    assert line.startswith(f"error: {path}: holds {NUM_ITEMS + 1} items, ")
    assert f"items.parquet holds {NUM_ITEMS}" in line
    assert nothing_written(shop)


def test_nan_in_embeddings_is_an_error_with_file_and_column(shop):
    path = shop / "toy" / "embeddings" / "text.parquet"
    metadata, values = pq.read_schema(path).metadata, np.ones((NUM_ITEMS, 12))
    values[0, 0] = np.nan
    table = embeddings_table(values).cast(embeddings(12).schema)
    pq.write_table(table.replace_schema_metadata(metadata), path)
    line = fail(assign_arguments(shop))
    assert line == f"error: {path}: column 'embedding' has 1 NaN or infinite values"
    assert nothing_written(shop)


def test_a_missing_quantizer_is_an_error(shop):
    (shop / "out" / "quantizer").unlink()
    assert "is no quantizer" in fail(assign_arguments(shop))
    assert nothing_written(shop)


def test_a_failed_run_leaves_the_ids_of_the_one_before(shop):
    succeed(assign_arguments(shop))
    before = ids_file(shop).read_bytes()
    write_items(shop / "toy" / "items.parquet", NUM_ITEMS - 1)
    fail(assign_arguments(shop))
    assert ids_file(shop).read_bytes() == before


def test_more_items_than_ids_is_an_error_with_a_remedy(shop, monkeypatch):
    monkeypatch.setenv("MACREC_SCRATCH", str(shop / "scratch"))
    (shop / "out" / "quantizer").unlink()
    small = {"codebook_size": 2, "num_levels": 3, "max_epochs": 1}
    write_params(shop / "params.yaml", quant=small)
    succeed(train_arguments(shop))
    line = fail(assign_arguments(shop))
    assert "90 items have no unique IDs of 3 levels of 2 codes (at most 8)" in line
    assert "raise quant.codebook_size or quant.num_levels" in line
    assert nothing_written(shop)
