"""A folder of artifacts: everything in order, or one line for each thing that is not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from macrec_core.artifacts import fixed_lists, write_artifact
from macrec_core.inspection import inspect_artifacts
from macrec_core.schemas import ITEMS, embeddings, pseudo_labels, semantic_ids


def write_items(path, count):
    texts = {name: [""] * count for name in ("title", "description", "brand", "categories")}
    columns = {"item_id": range(count), "item_key": [f"B{i}" for i in range(count)], **texts}
    write_artifact(path, pa.table(columns), ITEMS)


def write_embeddings(path, count, width=3):
    values = np.arange(count * width, dtype=np.float32).reshape(count, width)
    table = pa.table({"item_id": range(count), "embedding": fixed_lists(values)})
    write_artifact(path, table, embeddings(width))


def write_ids(path, codes, nearest):
    text, before = (fixed_lists(np.array(c, dtype=np.int32)) for c in (codes, nearest))
    table = pa.table({"item_id": range(len(codes)), "text": text, "text_nearest": before})
    write_artifact(path, table, semantic_ids(["text"], 2), {"codebook_size": 4})


@pytest.fixture
def root(tmp_path):
    """Dataset `toy` of three items in good order."""
    home = tmp_path / "toy"
    write_items(home / "items.parquet", 3)
    write_embeddings(home / "embeddings" / "text.parquet", 3)
    labels = pa.table({"item_id": [0, 1, 2], "text": [0, 0, 1]})
    write_artifact(home / "labels.parquet", labels, pseudo_labels(["text"]))
    # A collision before reassignment is no problem.
    write_ids(home / "macrec" / "ids.parquet", [[0, 0], [0, 1], [1, 0]], [[0, 0], [0, 0], [1, 0]])
    return tmp_path


def test_good_artifacts_have_no_problem(root):
    found = inspect_artifacts(root, set())
    assert (found.num_files, found.problems) == (4, [])


def test_an_empty_folder_has_no_files(tmp_path):
    assert inspect_artifacts(tmp_path, set()).num_files == 0


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_items_is_a_problem(root, count):
    write_embeddings(root / "toy" / "embeddings" / "text.parquet", count)
    (problem,) = inspect_artifacts(root, set()).problems
    assert f"text.parquet: holds {count} items" in problem
    assert "items.parquet holds 3" in problem


def test_missing_items_are_a_problem_of_each_item_level_artifact(root):
    (root / "toy" / "items.parquet").unlink()
    problems = inspect_artifacts(root, set()).problems
    assert len(problems) == 3
    assert all("items.parquet: does not exist" in problem for problem in problems)


def test_learned_ids_that_collide_are_a_problem_and_imported_ones_are_not(root):
    codes = [[0, 0], [0, 0], [1, 0]]
    write_ids(root / "toy" / "macrec" / "ids.parquet", codes, codes)
    (problem,) = inspect_artifacts(root, set()).problems
    assert "ids.parquet: column 'text' has a collision rate of 0.3333, expected 0" in problem
    assert inspect_artifacts(root, {"toy"}).problems == []
    assert len(inspect_artifacts(root, {"other"}).problems) == 1


def test_a_truncated_file_is_one_problem_among_good_ones(root):
    path = root / "toy" / "labels.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    found = inspect_artifacts(root, set())
    assert found.num_files == 4
    (problem,) = found.problems
    assert problem.startswith(f"{path}: is no readable Parquet file")


def test_an_unknown_artifact_is_a_problem(root):
    pq.write_table(pa.table({"a": [1]}), root / "toy" / "notes.parquet")
    (problem,) = inspect_artifacts(root, set()).problems
    assert "notes.parquet: artifact name '' is unknown; remove the file" in problem


def test_nan_planted_past_the_writer_is_a_problem(root):
    path = root / "toy" / "embeddings" / "text.parquet"
    table = pq.read_table(path)
    values = np.array([[1, 2, 3], [4, np.nan, 6], [7, 8, 9]], dtype=np.float32)
    broken = table.set_column(1, "embedding", fixed_lists(values))
    metadata = table.schema.metadata
    pq.write_table(broken.cast(embeddings(3).schema).replace_schema_metadata(metadata), path)
    (problem,) = inspect_artifacts(root, set()).problems
    assert "text.parquet: column 'embedding' has 1 NaN or infinite values" in problem


def test_every_problem_is_listed_in_the_order_of_paths(root):
    for name in ("b", "a"):
        (root / "toy" / f"{name}.parquet").write_bytes(b"")
    problems = inspect_artifacts(root, set()).problems
    assert [problem.split(":")[0] for problem in problems] == [
        str(root / "toy" / "a.parquet"),
        str(root / "toy" / "b.parquet"),
    ]
