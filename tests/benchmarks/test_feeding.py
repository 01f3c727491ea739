"""build_seq2seq, embed_text and embed_image at toy size: do they measure what they say?"""

from __future__ import annotations

import pyarrow as pa
import pytest

from benchmarks import build_seq2seq, catalogue, embed_image, embed_text, measure
from macrec_core.schemas import ITEMS


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch):
    monkeypatch.setattr(measure, "_SIDE", 64)


def check(rows, *works):
    assert [row.work for row in rows] == list(works)
    for row in rows:
        assert row.ours > 0 and row.ceiling > 0
    assert rows[0].ratio == rows[0].ours / rows[0].plain


def test_build_seq2seq_makes_all_examples_in_bounded_memory():
    rows = build_seq2seq.run(users=300, rounds=1)
    check(rows, "build_seq2seq", "build_seq2seq x10")
    # Without torch, and without ten times the data.
    assert all(20 < row.peak_memory_mb < 400 for row in rows)


def test_the_plain_loop_makes_the_same_examples(tmp_path, monkeypatch):
    from benchmarks.instruments import make
    from macrec_core.artifacts import read_any

    monkeypatch.setattr(build_seq2seq, "_PLAIN_SHARE", 1)
    data = build_seq2seq._cut(make(), 40)
    build_seq2seq._ours(data, tmp_path)
    build_seq2seq._Plain(data, tmp_path)()
    ours, plain = (read_any(tmp_path / name) for name in ("train.parquet", "plain.parquet"))
    ours = ours.filter(pa.compute.not_equal(ours.column("task"), "align_items"))
    assert ours.drop(["example_id"]).to_pylist() == plain.to_pylist()


def test_embed_text_measures_both_on_the_same_texts(monkeypatch):
    titles = ["red guitar", "", "a drum with a stand"]
    fields = {"title": titles, "description": ["", "", "steel"], "brand": titles}
    ids = {"item_id": range(3), "item_key": list("abc")}
    items = pa.table({**ids, **fields, "categories": titles}).cast(ITEMS.schema)
    monkeypatch.setattr(catalogue, "real_items", lambda: items)
    check(embed_text.run(num_items=3, rounds=1), "embed_text")


def test_embed_image_measures_both_on_the_same_pictures(monkeypatch):
    preset = catalogue.params()
    spec = preset.dataset_specs["sample"]
    small = spec.model_copy(update={"num_items": 60, "num_users": 80, "image_size": 32})
    changed = preset.model_copy(update={"dataset_specs": {"sample": small}})
    monkeypatch.setattr(catalogue, "params", lambda: changed)
    check(embed_image.run(num_images=3, rounds=1), "embed_image")
