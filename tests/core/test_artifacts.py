"""Contracts on both ways: what is refused, how it is told, and that nothing half-written stays."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from macrec_core import artifacts
from macrec_core.artifacts import (
    artifact_info,
    artifact_name,
    artifact_writer,
    atomic_folder,
    atomic_path,
    check_replaceable,
    check_same_items,
    fixed_lists,
    lists,
    matrix,
    read_any,
    read_artifact,
    read_chunks,
    read_embeddings,
    read_json,
    remove_leftovers,
    write_artifact,
    write_json,
    write_text,
)
from macrec_core.contracts import KeyOrder
from macrec_core.errors import MacrecError
from macrec_core.schemas import (
    INTERACTIONS,
    TRAINING_EXAMPLES,
    USERS,
    Contract,
    embeddings,
    pseudo_labels,
)

LABELS = pseudo_labels(["text", "image"])


def labels_table(**columns):
    whole = {"item_id": [0, 1, 2], "text": [5, 6, 5], "image": [1, 1, 0]}
    return pa.table(whole | columns)


def interactions(users, positions):
    return pa.table(
        {
            "user_id": users,
            "position": positions,
            "item_id": [0] * len(users),
            "timestamp": pa.array([None] * len(users), pa.int64()),
            "split": ["train"] * len(users),
        }
    )


def vectors(*rows):
    values = np.array(rows, dtype=np.float32)
    return pa.table({"item_id": np.arange(len(rows)), "embedding": fixed_lists(values)})


def refusal(function, *arguments):
    with pytest.raises(MacrecError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def plant(path, table, name=LABELS.name, version="1"):
    """A Parquet file that no contract has checked."""
    metadata = {"macrec.artifact": name, "macrec.version": version}
    pq.write_table(table.replace_schema_metadata(metadata), path)


# ------------------------------------------------------------------------------ good files


def test_what_is_written_is_read_with_types_info_and_required_fields(tmp_path):
    path = tmp_path / "made" / "labels.parquet"
    write_artifact(path, labels_table(), LABELS, {"seed": 3})
    table = read_artifact(path, LABELS)
    assert table.to_pydict() == labels_table().to_pydict()
    assert table.schema.remove_metadata() == LABELS.schema
    assert artifact_name(table) == "pseudo_labels"
    assert artifact_info(table) == {"seed": 3}
    assert os.stat(path).st_mode & 0o777 == 0o644


def test_equal_tables_give_equal_bytes(tmp_path):
    for name in "ab":
        write_artifact(tmp_path / name, labels_table(), LABELS, {"b": 1, "a": 2})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_column_may_stand_in_a_folder_that_looks_like_a_partition(tmp_path):
    path = tmp_path / "text=1" / "labels.parquet"
    write_artifact(path, labels_table(), LABELS)
    assert read_artifact(path, LABELS).column("text").to_pylist() == [5, 6, 5]


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_matrix_is_the_inverse_of_fixed_lists(tmp_path, rows):
    values = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    table = pa.table({"item_id": np.arange(rows), "embedding": fixed_lists(values)})
    write_artifact(tmp_path / "e", table, embeddings(3))
    found = read_embeddings(tmp_path / "e")
    assert found.dtype == np.float32
    assert np.array_equal(found, values)


def test_matrix_of_sliced_and_chunked_tables():
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    table = pa.table({"embedding": fixed_lists(values)})
    assert np.array_equal(matrix(table.slice(2, 3), "embedding"), values[2:5])
    both = pa.concat_tables([table, table.slice(1, 2)])
    assert np.array_equal(matrix(both, "embedding"), np.concatenate([values, values[1:3]]))


def test_lists_cut_at_the_offsets():
    found = lists(np.array([1, 2, 3]), np.array([0, 2, 2, 3]))
    assert found.to_pylist() == [[1, 2], [], [3]]


def test_chunks_are_written_and_read_as_the_whole_table(tmp_path):
    whole = interactions([0, 0, 1, 2, 2, 2, 3], [0, 1, 0, 0, 1, 2, 0])
    for name in "ab":
        with artifact_writer(tmp_path / name, INTERACTIONS, {"seed": 3}) as writer:
            for first, rows in ((0, 3), (3, 0), (3, 1), (4, 3)):
                writer.write(whole.slice(first, rows))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    table = read_artifact(tmp_path / "a", INTERACTIONS)
    assert table.to_pylist() == whole.to_pylist()
    assert table.schema.remove_metadata() == INTERACTIONS.schema
    assert artifact_info(table) == {"seed": 3}
    for rows in (1, 2, 3, 7, 100):
        chunks = list(read_chunks(tmp_path / "a", INTERACTIONS, rows))
        assert [row for chunk in chunks for row in chunk.to_pylist()] == whole.to_pylist()
        assert [len(c) for c in chunks[:-1]] == [rows] * (len(chunks) - 1)
        assert 0 < len(chunks[-1]) <= rows


def test_a_whole_table_is_one_chunk(tmp_path):
    write_artifact(tmp_path / "a", labels_table(), LABELS, {"seed": 3})
    with artifact_writer(tmp_path / "b", LABELS, {"seed": 3}) as writer:
        writer.write(labels_table())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_of_no_chunks_is_an_empty_table(tmp_path):
    with artifact_writer(tmp_path / "a", LABELS):
        pass
    assert read_artifact(tmp_path / "a", LABELS).num_rows == 0
    assert list(read_chunks(tmp_path / "a", LABELS, 5)) == []


def test_only_the_columns_asked_for_are_read_and_checked(tmp_path):
    table = labels_table(item_id=[0, 7, 1]).cast(LABELS.schema)
    plant(tmp_path / "l", table)
    found = read_artifact(tmp_path / "l", LABELS, ["image", "text"])
    assert found.column_names == ["image", "text"]
    assert found.to_pydict() == {"image": [1, 1, 0], "text": [5, 6, 5]}
    (chunk,) = read_chunks(tmp_path / "l", LABELS, 9, ["text"])
    assert chunk.to_pydict() == {"text": [5, 6, 5]}
    # The key is checked where it is read, and the file's columns always.
    assert "has 7 in row 1" in refusal(read_artifact, tmp_path / "l", LABELS, ["item_id"])
    plant(tmp_path / "l", table.drop(["text"]))
    assert "has columns" in refusal(read_artifact, tmp_path / "l", LABELS, ["image"])


def test_tokens_have_no_dictionary_and_a_dense_key_hardly_any_bytes(tmp_path):
    rows = 20_000
    tokens = lists(np.arange(rows, dtype=np.int32) % 7, np.arange(rows + 1))
    values = {
        "task": ["t"] * rows,
        "source_modality": ["a"] * rows,
        "target_modality": ["b"] * rows,
    }
    ids = {"user_id": [None] * rows, "position": [None] * rows, "target_item": [0] * rows}
    table = pa.table(
        {"example_id": range(rows), **values, **ids, "source": tokens, "target": tokens}
    )
    write_artifact(tmp_path / "t", table, TRAINING_EXAMPLES)
    group = pq.ParquetFile(tmp_path / "t").metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert "RLE_DICTIONARY" in columns["task"].encodings
    for name in ("source.list.element", "target.list.element"):
        assert "RLE_DICTIONARY" not in columns[name].encodings
        assert not columns[name].is_stats_set
    assert columns["example_id"].total_compressed_size < rows / 10


# ------------------------------------------------------------------------------- bad files


def test_a_missing_file_names_itself(tmp_path):
    message = refusal(read_artifact, tmp_path / "no.parquet", LABELS)
    assert "no.parquet: does not exist; run the stage that makes it" in message


@pytest.mark.parametrize("kept", [0, 1, 4, 100, 0.5, -20, -8, -1])
def test_a_truncated_file_is_told_at_any_length(tmp_path, kept):
    path = tmp_path / "labels.parquet"
    write_artifact(path, labels_table(), LABELS)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    message = refusal(read_artifact, path, LABELS)
    assert message.startswith(f"{path}: is no readable Parquet file")
    assert message.endswith("make it again")


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [
        ("embeddings", "1", "is artifact 'embeddings' version '1'"),
        ("pseudo_labels", "7", "is artifact 'pseudo_labels' version '7'"),
    ],
)
def test_another_artifact_or_version_is_refused(tmp_path, name, version, found):
    plant(tmp_path / "l", labels_table().cast(LABELS.schema), name, version)
    message = refusal(read_artifact, tmp_path / "l", LABELS)
    assert found in message
    assert "expected 'pseudo_labels' version '1'; run its stage again" in message


def test_a_file_of_another_origin_is_refused(tmp_path):
    pq.write_table(labels_table().cast(LABELS.schema), tmp_path / "l")
    assert "is artifact '' version ''" in refusal(read_artifact, tmp_path / "l", LABELS)


def test_other_columns_are_refused_on_both_ways(tmp_path):
    table = labels_table().drop(["image"])
    message = "pseudo_labels has columns ['item_id', 'text'], expected ['item_id', 'text', 'image']"
    assert message in refusal(write_artifact, tmp_path / "l", table, LABELS)
    plant(tmp_path / "l", table)
    assert message in refusal(read_artifact, tmp_path / "l", LABELS)


def test_another_type_is_refused_on_reading(tmp_path):
    plant(tmp_path / "l", labels_table(text=[0.5, 1.0, 2.0]).cast(
        pa.schema([("item_id", pa.int32()), ("text", pa.float64()), ("image", pa.int32())])
    ))  # fmt: skip
    message = refusal(read_artifact, tmp_path / "l", LABELS)
    assert "column 'text' is double, expected int32" in message


@pytest.mark.parametrize("values", [["a", "b", "c"], [0, 1, 2**40], [0.5, 1.0, 2.0]])
def test_values_that_do_not_fit_are_refused_on_writing(tmp_path, values):
    message = refusal(write_artifact, tmp_path / "l", labels_table(text=values), LABELS)
    assert "pseudo_labels does not fit its schema" in message
    assert not list(tmp_path.iterdir())


def test_embeddings_of_another_width_are_refused(tmp_path):
    table = vectors([1.0, 2.0], [3.0, 4.0])
    assert "does not fit" in refusal(write_artifact, tmp_path / "e", table, embeddings(3))
    write_artifact(tmp_path / "e", table, embeddings(2))
    message = refusal(read_artifact, tmp_path / "e", embeddings(3))
    assert "column 'embedding' is fixed_size_list" in message


def test_nulls_are_refused_on_both_ways(tmp_path):
    table = labels_table(text=[5, None, None])
    message = "column 'text' has 2 nulls, expected none"
    assert message in refusal(write_artifact, tmp_path / "l", table, LABELS)
    types = [("item_id", pa.int32()), ("text", pa.int32()), ("image", pa.int32())]
    plant(tmp_path / "l", table.cast(pa.schema(types)))
    assert message in refusal(read_artifact, tmp_path / "l", LABELS)


def test_nulls_inside_lists_are_refused(tmp_path):
    values = pa.array([[1.0, None], [2.0, 3.0]], pa.list_(pa.float32(), 2))
    table = pa.table({"item_id": [0, 1], "embedding": values})
    message = refusal(write_artifact, tmp_path / "e", table, embeddings(2))
    assert "column 'embedding' has 1 nulls inside its lists" in message


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused_on_both_ways(tmp_path, broken):
    table = vectors([1.0, broken], [2.0, 3.0], [broken, 0.0])
    message = "column 'embedding' has 2 NaN or infinite values"
    assert message in refusal(write_artifact, tmp_path / "e", table, embeddings(2))
    plant(tmp_path / "e", table.cast(embeddings(2).schema), "embeddings")
    assert message in refusal(read_embeddings, tmp_path / "e")


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ([0, 0, 1], "has 0 in row 1"),
        ([0, 2, 3], "has 2 in row 1"),
        ([1, 2, 3], "has 1 in row 0"),
        ([2, 1, 0], "has 2 in row 0"),
    ],
)
def test_item_ids_with_repeats_gaps_or_disorder_are_refused(tmp_path, ids, told):
    message = refusal(write_artifact, tmp_path / "l", labels_table(item_id=ids), LABELS)
    assert f"column 'item_id' {told}, expected 0..2 in order" in message


def test_a_repeated_key_of_two_columns_is_refused(tmp_path):
    write_artifact(tmp_path / "i", interactions([0, 0, 1], [0, 1, 0]), INTERACTIONS)
    table = interactions([0, 0, 1, 1], [0, 0, 2, 2])
    message = refusal(write_artifact, tmp_path / "i", table, INTERACTIONS)
    assert "key ['user_id', 'position'] repeats in 2 rows" in message


def test_a_key_out_of_order_is_refused(tmp_path):
    message = refusal(write_artifact, tmp_path / "i", interactions([0, 0], [1, 0]), INTERACTIONS)
    assert "rows are not in the order of key ['user_id', 'position']" in message


@pytest.mark.parametrize(
    ("chunks", "told"),
    [
        ([[0, 1], [3]], "has 3 in row 2, expected 0..2 in order"),
        ([[0, 1], [0]], "has 0 in row 2, expected 0..2 in order"),
    ],
)
def test_a_dense_key_goes_on_across_chunks(tmp_path, chunks, told):
    def write():
        with artifact_writer(tmp_path / "l", USERS) as writer:
            for ids in chunks:
                writer.write(pa.table({"user_id": ids, "user_key": ["k"] * len(ids)}))

    assert f"column 'user_id' {told}" in refusal(write)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("users", "positions", "told"),
    [
        ([0, 1], [1, 0], "repeats in 1 rows"),
        ([0, 0], [1, 2], "repeats in 1 rows"),
        (
            [0, 1],
            [0, 0],
            "rows are not in the order of key ['user_id', 'position'], first in row 2",
        ),
        (
            [1, 0],
            [0, 2],
            "rows are not in the order of key ['user_id', 'position'], first in row 3",
        ),
    ],
)
def test_keys_ascend_across_chunks_on_both_ways(tmp_path, users, positions, told):
    first, second = interactions([0, 0], [0, 1]), interactions(users, positions)

    def write():
        with artifact_writer(tmp_path / "i", INTERACTIONS) as writer:
            writer.write(first)
            writer.write(second)

    assert told in refusal(write)
    assert list(tmp_path.iterdir()) == []
    both = pa.concat_tables([first, second]).cast(INTERACTIONS.schema)
    plant(tmp_path / "i", both, "interactions")
    chunks = read_chunks(tmp_path / "i", INTERACTIONS, 2)
    assert next(chunks).to_pylist() == first.to_pylist()
    assert told in refusal(next, chunks)
    assert told in refusal(read_artifact, tmp_path / "i", INTERACTIONS)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["test", "valid"]), st.integers(0, 3)), max_size=8),
    st.lists(st.integers(0, 8), max_size=3),
)
def test_order_is_that_of_sorted_tuples_however_a_table_is_cut(keys, cuts):
    contract = Contract(
        "c", 1, pa.schema([pa.field("a", pa.string()), pa.field("b", pa.int32())]), ("a", "b")
    )
    table = pa.table({"a": [a for a, _ in keys], "b": [b for _, b in keys]}, contract.schema)
    edges = [0, *sorted(min(cut, len(keys)) for cut in cuts), len(keys)]
    order = KeyOrder(Path("file"), contract)

    def check():
        for start, end in pairwise(edges):
            order.check(table.slice(start, end - start))

    if keys == sorted(set(keys)):
        check()
    else:
        refusal(check)


def test_a_bad_value_in_a_later_chunk_is_told_and_nothing_is_written(tmp_path):
    def write():
        with artifact_writer(tmp_path / "e", embeddings(2)) as writer:
            writer.write(vectors([1.0, 2.0]))
            later = vectors([1.0, float("nan")])
            writer.write(later.set_column(0, "item_id", pa.array([1])))

    assert "column 'embedding' has 1 NaN" in refusal(write)
    assert list(tmp_path.iterdir()) == []


def test_too_few_items_names_both_files(tmp_path):
    check_same_items(tmp_path / "a", 4, tmp_path / "b", 4)
    message = refusal(check_same_items, tmp_path / "a", 3, tmp_path / "b", 4)
    assert message.startswith(f"{tmp_path / 'a'}: holds 3 items, {tmp_path / 'b'} holds 4")


# ------------------------------------------------------------------------------- atomicity


def fail_half_way(*arguments):
    raise OSError("disk full")


def test_a_failed_write_leaves_the_old_file_whole_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "labels.parquet"
    write_artifact(path, labels_table(), LABELS)
    before = path.read_bytes()
    monkeypatch.setattr(artifacts.pq.ParquetWriter, "write_table", fail_half_way)
    with pytest.raises(OSError, match="disk full"):
        write_artifact(path, labels_table(text=[9, 9, 9]), LABELS)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_refused_table_leaves_the_old_file_whole_and_nothing_else(tmp_path):
    path = tmp_path / "labels.parquet"
    write_artifact(path, labels_table(), LABELS)
    before = path.read_bytes()
    refusal(write_artifact, path, labels_table(item_id=[0, 0, 0]), LABELS)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
        # As .dvcignore has it: a kill leaves it behind.
        assert temporary.name.startswith(".a.json.") and temporary.name.endswith(".tmp")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_leaves_the_old_one_whole_and_nothing_else(tmp_path):
    path = tmp_path / "quantizer"
    with atomic_folder(path, "*") as temporary:
        (temporary / "model").write_text("old")
        (temporary / "config").write_text("old")
    with pytest.raises(OSError, match="disk full"), atomic_folder(path, "*") as temporary:
        (temporary / "model").write_text("new")
        raise OSError("disk full")
    assert sorted(f.name for f in path.iterdir()) == ["config", "model"]
    assert (path / "model").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_folder(path, "*") as temporary:
        (temporary / "model").write_text("new")
    assert [f.name for f in path.iterdir()] == ["model"]


def test_an_older_folder_is_whole_at_any_moment_of_its_replacement(tmp_path, monkeypatch):
    path = tmp_path / "quantizer"
    with atomic_folder(path, "*") as temporary:
        (temporary / "model").write_text("old")
    seen, replace = [], Path.replace

    def spy(source, target):
        seen.append((Path(source).name, Path(target).name))
        done = replace(source, target)
        texts = [(f / "model").read_text() for f in sorted(tmp_path.iterdir())]
        assert sorted(texts) == ["new", "old"]  # neither is deleted before both have moved
        return done

    monkeypatch.setattr(Path, "replace", spy)
    with atomic_folder(path, "*") as temporary:
        assert temporary.name.endswith(".tmp")
        (temporary / "model").write_text("new")
    assert [source for source, _ in seen] == ["quantizer", temporary.name]
    assert seen[0][1].endswith(".tmp") and seen[1][1] == "quantizer"
    assert (path / "model").read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name",
    ["thesis.txt", "parts/thesis.txt", "parts/a.json.bak", "parts/more/a.json", "more/a.json"],
)
def test_a_folder_with_a_foreign_file_is_not_replaced(tmp_path, name):
    path = tmp_path / "out"
    own = ("a.json", "parts/*.json")
    with atomic_folder(path, *own) as temporary:
        (temporary / "parts").mkdir()
        (temporary / "parts" / "0.json").write_text("old")
        (temporary / "a.json").write_text("old")
    check_replaceable(path, *own)
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_text("precious")
    for attempt in (check_replaceable, lambda *all_: atomic_folder(*all_).__enter__()):
        with pytest.raises(MacrecError, match=f"out: holds {name}, .*would be lost.*move"):
            attempt(path, *own)
    assert (path / name).read_text() == "precious"
    assert (path / "a.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_came_during_the_work_is_not_lost(tmp_path):
    with pytest.raises(MacrecError, match=r"out: holds thesis\.txt"):
        with atomic_folder(tmp_path / "out", "a") as temporary:
            (temporary / "a").write_text("new")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "thesis.txt").write_text("precious")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_disks_root_is_refused_before_the_work(small_disk, tmp_path):
    (tmp_path / "link").symlink_to(small_disk)
    for path in (small_disk, tmp_path / "link"):
        with pytest.raises(MacrecError, match=r"disk: is a disk's root.*name a folder below it"):
            with atomic_folder(path, "a"):
                pytest.fail("begun")


def test_a_folder_does_not_take_the_place_of_a_file(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(MacrecError, match="out: is a file, and would be lost"):
        check_replaceable(tmp_path / "out", "*")


def test_links_in_a_folder_are_foreign_and_one_to_it_stays(tmp_path):
    path, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(path)
    for text in ("old", "new"):
        with atomic_folder(link, "a") as temporary:
            (temporary / "a").write_text(text)
    assert link.is_symlink()
    assert (path / "a").read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [link, path]
    (path / "more").symlink_to(tmp_path)
    with pytest.raises(MacrecError, match="holds more, which no earlier run"):
        check_replaceable(link, "a")


def test_json_is_sorted_and_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["a", "b"]
    assert read_json(tmp_path / "a.json") == {"a": [1.5, None], "b": 1}


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "told"), [("{", "is no readable JSON file"), ("[1]", "holds list, expected a JSON")]
)
def test_broken_json_is_told(tmp_path, text, told):
    (tmp_path / "a.json").write_text(text)
    assert told in refusal(read_json, tmp_path / "a.json")
    assert "does not exist" in refusal(read_json, tmp_path / "b.json")


def test_an_empty_table_needs_no_key(tmp_path):
    empty = Contract("users", 1, USERS.schema, USERS.key, dense_key=True)
    write_artifact(tmp_path / "u", pa.table({"user_id": [], "user_key": []}), empty)
    assert read_artifact(tmp_path / "u", USERS).num_rows == 0


def test_a_folder_that_was_about_to_be_replaced_comes_back(tmp_path):
    path = tmp_path / "raw"
    with atomic_folder(path) as folder:
        (folder / "file").write_text("old")
    # As a kill between the two renames leaves it.
    path.rename(tmp_path / ".raw.abc.older.tmp")
    (tmp_path / ".raw.abc.tmp").mkdir()
    remove_leftovers(path)
    assert (path / "file").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("text", ["user: precious", "user,item\nu,a\n"])
def test_a_file_of_something_else_is_not_replaced(tmp_path, text):
    (tmp_path / "out").write_text(text)
    with pytest.raises(MacrecError, match="out: is no artifact 'pseudo_labels', and would be lost"):
        write_artifact(tmp_path / "out", labels_table(), LABELS)
    with pytest.raises(MacrecError, match="out: is no JSON object, and would be lost; name"):
        write_json(tmp_path / "out", {})
    assert (tmp_path / "out").read_text() == text


def test_another_table_is_not_replaced(tmp_path):
    pq.write_table(pa.table({"item": ["a"], "title": ["A"]}), tmp_path / "own")
    users = pa.table({"user_id": pa.array([0], pa.int32()), "user_key": ["u"]})
    write_artifact(tmp_path / "users", users, USERS)
    for name in ("own", "users"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(MacrecError, match=f"{name}: is no artifact 'pseudo_labels'"):
            write_artifact(tmp_path / name, labels_table(), LABELS)
        assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("damage", [lambda data: data[:-10], lambda data: b""])
def test_a_damaged_artifact_is_replaced(tmp_path, damage):
    path = tmp_path / "labels"
    write_artifact(path, labels_table(), LABELS)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    write_artifact(path, labels_table(), LABELS)
    assert path.read_bytes() == whole


def test_an_artifact_with_any_damage_is_replaced_or_one_error(tmp_path):
    path = tmp_path / "labels"
    write_artifact(path, labels_table(), LABELS)
    whole, draws = path.read_bytes(), np.random.default_rng(0)
    for _ in range(600):
        damaged = bytearray(whole)
        for place in draws.integers(0, len(whole), 3):
            damaged[place] = draws.integers(0, 256)
        for action in (lambda: read_artifact(path, LABELS), lambda: read_any(path),
                       lambda: write_artifact(path, labels_table(), LABELS)):  # fmt: skip
            path.write_bytes(damaged)
            try:
                action()
            except MacrecError as error:
                assert str(path) in str(error)


def test_a_folder_is_no_place_of_a_file(tmp_path):
    for write in (
        write_json,
        write_text,
        lambda *all_: write_artifact(all_[0], labels_table(), LABELS),
    ):
        with pytest.raises(MacrecError, match="is a folder, where a file is to be written; name"):
            write(tmp_path, "x")


def test_a_full_disk_is_told_and_leaves_the_old_file_whole_and_nothing_else(small_disk):
    path = small_disk / "labels.parquet"
    write_artifact(path, labels_table(), LABELS)
    before = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 2**31, 100_000).astype(np.int32)
    large = pa.table({"item_id": range(len(noise)), "text": noise, "image": noise})
    told = r"labels\.parquet: cannot be written \(.*No space left.*free some space"
    with pytest.raises(MacrecError, match=told):
        write_artifact(path, large, LABELS)
    assert path.read_bytes() == before
    assert [file.name for file in small_disk.iterdir()] == [path.name]
    with pytest.raises(MacrecError, match=r"folder: cannot be written \(.*No space left"):
        with atomic_folder(small_disk / "folder") as folder:
            (folder / "x").write_bytes(bytes(200_000))
    assert [file.name for file in small_disk.iterdir()] == [path.name]


def test_other_errors_of_the_disk_are_not_called_a_full_one(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        (tmp_path / "none").read_bytes()


@pytest.mark.parametrize("atomic", [atomic_path, atomic_folder])
def test_a_full_disk_is_told_of_weights_too(small_disk, atomic):
    weights = {"w": np.ones(100_000, np.float32)}
    with (
        pytest.raises(MacrecError, match=r"model: cannot be written \(.*free some space"),
        atomic(small_disk / "model") as temporary,
    ):
        save_file(weights, temporary / "w" if temporary.is_dir() else temporary)
    assert [file for file in small_disk.iterdir() if file.name == "model"] == []
