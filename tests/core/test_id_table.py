from __future__ import annotations

import math

import numpy as np
import pytest

from macrec_core.artifacts import matrix, read_any
from macrec_core.errors import MacrecError
from macrec_core.id_table import (
    AssignedIds,
    ids_table,
    published_ids,
    read_ids,
    scaled,
    write_ids,
)
from macrec_core.params.quantizer import VisualParams

# Five items; 0 and 3 collide before reassignment.
NEAREST = np.array([[0, 1], [0, 2], [3, 1], [0, 1], [2, 2]], np.int32)
CODES = np.array([[0, 1], [0, 2], [3, 1], [0, 3], [2, 2]], np.int32)


def test_ids_survive_the_artifact(tmp_path):
    path = tmp_path / "ids.parquet"
    assigned = {"text": AssignedIds(CODES, NEAREST, 1, 0), "image": published_ids(NEAREST)}
    write_ids(path, ids_table(assigned), ["text", "image"], 4)
    found = read_ids(path, ["text", "image"])
    assert found.codebook_size == 4
    assert found.codes["text"].tolist() == CODES.tolist()
    assert found.codes["image"].tolist() == NEAREST.tolist()


@pytest.mark.parametrize("asked", [["image"], ["text", "image"]])
def test_other_modalities_than_the_artifacts_are_an_error(tmp_path, asked):
    path = tmp_path / "ids.parquet"
    write_ids(path, ids_table({"text": published_ids(CODES)}), ["text"], 4)
    with pytest.raises(MacrecError, match=r"ids\.parquet.*image"):
        read_ids(path, asked)


def test_figures_by_hand():
    found = AssignedIds(CODES, NEAREST, 1, 0).metrics(4)
    assert found["collision_rate"] == pytest.approx(1 / 5)
    assert found["collision_rate_after"] == 0.0
    assert (found["moved"], found["moved_above_last_level"], found["distinct"]) == (1, 0, 5)
    assert found["codebook_use"] == [3 / 4, 2 / 4]
    assert found["items_a_code"] == [[3, 1, 1, 0], [3, 2, 0, 0]]
    first = -(0.6 * math.log(0.6) + 2 * 0.2 * math.log(0.2)) / math.log(4)
    second = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4)) / math.log(4)
    assert found["code_entropy"] == pytest.approx([first, second])


def test_published_ids_stay_ambiguous():
    assert published_ids(NEAREST).num_distinct == 4
    found = published_ids(NEAREST).metrics(4)
    assert found["distinct"] == 4
    assert found["collision_rate"] == found["collision_rate_after"] == pytest.approx(1 / 5)
    assert found["moved"] == 0


def test_a_code_beyond_the_codebook_is_an_error_and_nothing_is_written(tmp_path):
    path = tmp_path / "ids.parquet"
    assigned = {"text": published_ids(CODES // 2), "image": published_ids(CODES)}
    with pytest.raises(
        MacrecError, match=r"image code 3 in a codebook of 3; set quant\.codebook_size"
    ):
        write_ids(path, ids_table(assigned), ["text", "image"], 3)
    assert list(tmp_path.iterdir()) == []


def test_where_a_level_was_added_nothing_is_numbered_before(tmp_path):
    path = tmp_path / "ids.parquet"
    numbers = np.array([[0], [0], [0], [1], [0]], np.int32)
    ids = AssignedIds(np.concatenate([NEAREST, numbers], axis=1), NEAREST, 1, 0)
    write_ids(path, ids_table({"text": ids}), ["text"], 4)
    assert read_ids(path, ["text"]).codes["text"].tolist() == ids.codes.tolist()
    before = matrix(read_any(path), "text_nearest")
    assert before.tolist() == [[*row, 0] for row in NEAREST.tolist()]


def test_image_vectors_travel_with_the_ids(tmp_path):
    path = tmp_path / "ids.parquet"
    vectors = np.arange(15, dtype=np.float32).reshape(5, 3)
    table = ids_table({"collab": published_ids(CODES)}, vectors)
    write_ids(path, table, ["collab"], 4, VisualParams(tokens=2, adapter_width=7))
    found = read_ids(path, ["collab"])
    assert found.codes["collab"].tolist() == CODES.tolist()
    assert found.visual is not None
    assert np.array_equal(found.visual.vectors, vectors)
    assert (found.visual.tokens, found.visual.adapter_width) == (2, 7)
    assert found.visual_tokens == (2, 5)
    write_ids(path, ids_table({"collab": published_ids(CODES)}), ["collab"], 4)
    assert read_ids(path, ["collab"]).visual_tokens == (0, 0)


def test_vectors_are_centred_and_scaled_together():
    # Means 2 and 10, variances 1 and 9: mean variance 5.
    found = scaled(np.array([[1.0, 7.0], [3.0, 13.0]], np.float32))
    expected = np.array([[-1.0, -3.0], [1.0, 3.0]]) / math.sqrt(5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32
    with pytest.raises(MacrecError, match="all 4 vectors are the same"):
        scaled(np.ones((4, 2), np.float32))
