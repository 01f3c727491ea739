"""MiniOneRec's layout: rows put together to sequences, on small files and on the real ones."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter

import pytest
from misbehaving_server import LOOPBACK

from macrec_core.artifacts import check_replaceable
from macrec_core.catalog.catalogue import build_catalogue
from macrec_core.catalog.image_shards import ItemImages
from macrec_core.catalog.manifest import raw_files
from macrec_core.catalog.minionerec import rebuilt_sequences
from macrec_core.catalog.raw import Places, write_raw
from macrec_core.catalog.scratch import Scratch
from macrec_core.errors import MacrecError
from macrec_core.params.data import FilterParams, MiniOneRecSource

FILTER = FilterParams(k_core=5, max_bad_lines=0)
HEADER = ["user_id", "history_item_title", "item_title", "history_item_id", "item_id"]
RECORDS = [
    {"title": "Nut &amp; bolt", "description": "['Of <b>steel</b>.', 'A pair.']", "brand": "Acme",
     "categories": ""},
    {"title": "Tape", "description": "", "brand": "", "categories": ""},
    {"title": "Glue, clear", "description": "[]", "brand": "Acme", "categories": ""},
    {"title": "Never bought", "description": "", "brand": "", "categories": ""},
]  # fmt: skip
# Histories are cut to three. A's first row is whole, B's may be cut, C has two purchases in all.
VALID = [("A", [0], 1), ("B", [2, 0, 1], 1), ("A", [0, 1], 2)]
TEST = [("C", [2], 0), ("A", [0, 1, 2], 0), ("A", [1, 2, 0], 0), ("B", [0, 1, 1], 2)]


def csv_text(rows):
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for user, history, item in rows:
        writer.writerow([user, "['Nut, \"bolt\"']", "Tape", str(history), item])
    return text.getvalue()


@pytest.fixture
def gather(tmp_path, image_params):
    """A raw folder of the given rows, the test file compressed."""

    def make(valid=VALID, test=TEST, records=RECORDS, row_files=("valid.csv", "test.csv")):
        home, raw = tmp_path / "tools", tmp_path / "raw"
        home.mkdir()
        raw.mkdir()
        items = {str(item): record for item, record in enumerate(records)}
        (home / "Tools.item.json").write_text(json.dumps(items))
        (home / "valid.csv").write_text(valid if isinstance(valid, str) else csv_text(valid))
        (home / "test.csv.gz").write_bytes(gzip.compress(csv_text(test).encode()))
        spec = MiniOneRecSource(
            source="minionerec", folder="tools", item_file="Tools.item.json",
            row_files=list(row_files),
        )  # fmt: skip
        places = Places(data_root=tmp_path, scratch=Scratch(tmp_path / "scratch"), folder=None)
        write_raw(raw, spec, image_params, places, network=LOOPBACK, with_images=False)
        check_replaceable(raw, *raw_files(raw))  # by a later download
        return raw

    return make


def test_rows_become_whole_sequences_in_the_order_of_first_rows(gather):
    rebuilt = rebuilt_sequences(gather(), 4)
    assert rebuilt.sequences.user_keys == ["A", "B"]
    assert [items.tolist() for items in rebuilt.sequences.items] == [
        [0, 1, 2, 0, 0],
        [2, 0, 1, 1, 2],
    ]
    assert rebuilt.counts == {
        "rows": 7, "longest_history": 3, "users_with_maybe_cut_history": 1
    }  # fmt: skip
    assert rebuilt.dropped == {
        "users_with_too_few_interactions": 1, "interactions_of_those_users": 2
    }  # fmt: skip


def test_the_catalogue_has_clean_texts_and_leave_one_out(gather):
    found = build_catalogue(gather(), ["text"], FILTER)
    assert found.items.column("title").to_pylist() == [
        "Nut & bolt", "Tape", "Glue, clear", "Never bought",
    ]  # fmt: skip
    assert found.items.column("description").to_pylist() == ["Of steel . A pair.", "", "", ""]
    assert found.users.column("user_key").to_pylist() == ["A", "B"]
    table = found.interactions
    assert table.column("split").to_pylist() == ["train"] * 3 + ["valid", "test"] + [
        "train", "train", "train", "valid", "test",
    ]  # fmt: skip
    assert table.column("position").to_pylist() == [0, 1, 2, 3, 4] * 2
    assert table.column("timestamp").null_count == 10
    assert found.images == ItemImages()
    assert found.metrics["items_without_interactions"] == 1
    assert found.metrics["dropped"]["users_with_too_few_interactions"] == 1
    assert found.metrics["users_with_maybe_cut_history"] == 1
    assert found.metrics["num_interactions"] == 10


def test_the_manifest_names_origins_and_counts(gather):
    manifest = json.loads((gather() / "manifest.json").read_text())
    assert manifest["source"] == "minionerec"
    assert {name: file["origin"] for name, file in manifest["files"].items()} == {
        "item.json": "tools/Tools.item.json",
        "rows.0.csv": "tools/valid.csv",
        "rows.1.csv": "tools/test.csv.gz",
    }
    assert manifest["counts"]["users"] == 2 and manifest["counts"]["items"] == 4


def test_one_file_alone_will_do(gather):
    rebuilt = rebuilt_sequences(gather(row_files=["test.csv"]), 4)
    assert {u: i.tolist() for u, i in zip(
        rebuilt.sequences.user_keys, rebuilt.sequences.items, strict=True
    )} == {"A": [0, 1, 2, 0, 0], "B": [0, 1, 1, 2]}  # fmt: skip


@pytest.mark.parametrize("wrong", [[0, 1, 1], [1, 0], [1, 2, 0, 1]])
def test_a_history_that_contradicts_earlier_rows_is_an_error(gather, wrong):
    test = [*TEST[:2], ("A", wrong, 0)]
    with pytest.raises(MacrecError, match=r"rows\.1\.csv: line 4: user 'A' has history .* order"):
        gather(test=test)


def test_files_in_the_wrong_order_are_an_error(gather):
    with pytest.raises(MacrecError, match=r"rows\.1\.csv: line 2: user 'A' has history \[0\]"):
        gather(row_files=["test.csv", "valid.csv"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("A", "__import__('os')", 1), r"history_item_id=.*expected a list of item ids"),
        (("A", "[0, 1", 1), r"history_item_id='\[0, 1'"),
        (("A", [], 1), "a history of one item at least"),
        (("", [0], 1), "expected a user"),
        (("A", [0, 4], 1), "item 4 is not in the catalogue of 4 items"),
        (("A", [0, -1], 1), "item -1 is not in"),
        (("A", [0, True], 1), "expected a list of item ids"),
        (("A", [0], 1.5), "item 1.5 is not in"),
        (("A", [0], ""), "item_id=''"),
    ],
)
def test_a_broken_row_is_an_error_with_its_line(gather, row, message):
    with pytest.raises(MacrecError, match=rf"rows\.0\.csv: line 3.*{message}"):
        gather(valid=[VALID[0], row])


def test_missing_columns_rows_and_files_are_errors(gather, tmp_path):
    with pytest.raises(MacrecError, match=r"has no columns \['history_item_id', 'item_id'\]"):
        gather(valid="user_id,item\nA,1\n")


def test_no_row_is_an_error(gather):
    with pytest.raises(MacrecError, match="hold no row"):
        gather(valid=[], test=[])


def test_no_user_of_three_interactions_is_an_error(gather):
    with pytest.raises(MacrecError, match="no user has 3 interactions"):
        gather(valid=[], test=TEST[:1])


def test_a_missing_file_is_an_error_that_names_it(gather):
    with pytest.raises(MacrecError, match=r"tools/train\.csv: does not exist, nor with \.gz"):
        gather(row_files=["train.csv", "valid.csv"])


def test_real_rows_of_industrial_come_out_exactly(tmp_path, shared_data, image_params):
    if not (shared_data / "industrial").is_dir():
        pytest.skip(f"no industrial data at {shared_data}")
    spec = MiniOneRecSource(
        source="minionerec", folder="industrial",
        item_file="Industrial_and_Scientific.item.json", row_files=["valid.csv", "test.csv"],
    )  # fmt: skip
    raw = tmp_path / "raw"
    raw.mkdir()
    places = Places(data_root=shared_data, scratch=Scratch(tmp_path), folder=None)
    write_raw(raw, spec, image_params, places, network=LOOPBACK, with_images=False)
    found = build_catalogue(raw, ["text", "collab"], FILTER)
    counted = {name: found.metrics[name] for name in (
        "num_users", "num_items", "num_interactions", "rows", "longest_history",
        "users_with_maybe_cut_history", "items_without_interactions", "dropped",
        "items_with_empty_text",
    )}  # fmt: skip
    assert counted == {
        "num_users": 3285, "num_items": 3686, "num_interactions": 22743, "rows": 9065,
        "longest_history": 10, "users_with_maybe_cut_history": 227,
        "items_without_interactions": 145,
        "dropped": {"users_with_too_few_interactions": 0, "interactions_of_those_users": 0},
        "items_with_empty_text": {
            "title": 0, "description": 232, "brand": 11, "categories": 3686
        },
    }  # fmt: skip
    lengths = Counter(Counter(found.interactions.column("user_id").to_pylist()).values())
    assert min(lengths) == 5 and max(lengths) == 34
    descriptions = found.items.column("description").to_pylist()
    assert not any(text.startswith("['") or "&amp;" in text for text in descriptions)
