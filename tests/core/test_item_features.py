from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from macrec_core import schemas
from macrec_core.artifacts import write_artifact
from macrec_core.catalog.cleaning import clean_categories
from macrec_core.errors import MacrecError
from macrec_core.item_features import embedding_files, item_attributes, read_features
from macrec_core.params.baselines import MISSRecSpec, SASRecSpec

ROWS = [
    ("Casio", "Instruments, Keys"),
    (None, "Keys, Instruments, Keys"),
    ("Keys", None),
    ("", ""),
    ("Casio", "Keys"),
]


def table_of(rows):
    brands, categories = zip(*rows, strict=True)
    empty = pa.nulls(len(rows), pa.string())
    return pa.table(
        {
            "item_id": np.arange(len(rows), dtype=np.int32),
            "item_key": [f"B{row}" for row in range(len(rows))],
            "title": empty, "description": empty,
            "brand": pa.array(brands, pa.string()), "categories": pa.array(categories, pa.string()),
        }
    )  # fmt: skip


def test_each_brand_and_each_category_is_one_attribute():
    flat, offsets, count = item_attributes(table_of(ROWS))
    found = [flat[a:b].tolist() for a, b in pairwise(offsets.tolist())]
    # Casio, Instruments, Keys; the brand Keys is another attribute than the category.
    assert found == [[0, 1, 2], [2, 1], [3], [], [0, 2]]
    assert count == 4


def test_categories_are_parted_as_filter_joins_them():
    joined = clean_categories(["Drums", "Cymbals & Gongs"])
    flat, _, count = item_attributes(table_of([(None, joined)]))
    assert (flat.tolist(), count) == ([0, 1], 2)


def test_a_catalogue_without_any_attribute_is_legal():
    flat, offsets, count = item_attributes(table_of([(None, None), ("", " ")]))
    assert (len(flat), offsets.tolist(), count) == (0, [0, 0, 0], 0)


@pytest.fixture
def folder(tmp_path):
    write_artifact(tmp_path / "items.parquet", table_of(ROWS), schemas.ITEMS)
    for name, rows in (("text", 5), ("image", 4)):
        vectors = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        cells = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 3)
        table = pa.table({"item_id": np.arange(rows, dtype=np.int32), "embedding": cells})
        write_artifact(tmp_path / f"{name}.parquet", table, schemas.embeddings(3))
    return tmp_path


def test_features_are_read_with_the_vectors_asked_for(folder):
    features = read_features(folder / "items.parquet", {"text": folder / "text.parquet"})
    assert (features.num_items, features.num_attributes, features.without_attributes) == (5, 4, 1)
    assert features.widths == {"text": 3}
    assert features.vectors["text"][4].tolist() == [12, 13, 14]
    assert read_features(folder / "items.parquet", {}).widths == {}


def test_vectors_of_another_catalogue_are_an_error(folder):
    with pytest.raises(MacrecError, match=r"image\.parquet: holds 4 items, .* holds 5"):
        read_features(folder / "items.parquet", {"image": folder / "image.parquet"})


def test_only_baselines_that_read_vectors_have_files(tmp_path, committed_params):
    specs = committed_params.baseline_specs
    missrec, sasrec = specs["missrec"], specs["sasrec"]
    assert isinstance(missrec, MISSRecSpec) and isinstance(sasrec, SASRecSpec)
    assert embedding_files(sasrec, tmp_path) == embedding_files(sasrec, None) == {}
    assert embedding_files(missrec, tmp_path) == {
        "text": tmp_path / "text.parquet", "image": tmp_path / "image.parquet",
    }  # fmt: skip
    with pytest.raises(MacrecError, match=r"model 'missrec' reads .*--embeddings"):
        embedding_files(missrec, None)
