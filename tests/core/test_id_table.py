from __future__ import annotations

import math

import numpy as np
import pytest

from macrec_core.errors import MacrecError
from macrec_core.id_table import AssignedIds, ids_table, published_ids, read_ids, write_ids

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
