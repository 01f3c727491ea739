from __future__ import annotations

import gzip
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macrec_core.artifacts import read_artifact, write_artifact, write_json
from macrec_core.catalog.catalogue import build_catalogue
from macrec_core.catalog.filtering import k_core, leave_one_out, renumbered
from macrec_core.catalog.image_shards import ItemImages
from macrec_core.catalog.ratings import read_ratings
from macrec_core.errors import MacrecError
from macrec_core.params.data import FilterParams
from macrec_core.schemas import IMAGES, INTERACTIONS, ITEMS, RAW_IMAGES, USERS


def params(k=1, bad=100):
    return FilterParams(k_core=k, max_bad_lines=bad)


def write_raw_folder(folder, lines, items, pictured=None, end="\n", metadata_lines=()):
    """A raw folder as `download` leaves it."""
    folder.mkdir(exist_ok=True)
    (folder / "ratings.csv").write_bytes("".join(f"{line}{end}" for line in lines).encode())
    records = [json.dumps({"asin": item, "title": f"T {item}"}) for item in items]
    text = "\n".join([*records, *metadata_lines])
    (folder / "metadata.json.gz").write_bytes(gzip.compress(text.encode()))
    keys = sorted(items if pictured is None else pictured)
    images = {
        "item_key": keys,
        "url": [f"https://x/{key}" for key in keys],
        "width": [8] * len(keys),
        "height": [8] * len(keys),
        "image": [key.encode() for key in keys],
    }
    write_artifact(folder / "images" / "part-00000.parquet", pa.table(images), RAW_IMAGES)
    counts = {"image_shards": 1}
    write_json(folder / "manifest.json", {"source": "amazon", "counts": counts})
    return folder


def sequences(catalogue):
    """User key to item keys, in order."""
    users = catalogue.users.column("user_key").to_pylist()
    items = catalogue.items.column("item_key").to_pylist()
    found = {user: [] for user in users}
    for row in catalogue.interactions.to_pylist():
        assert row["position"] == len(found[users[row["user_id"]]])
        found[users[row["user_id"]]].append(items[row["item_id"]])
    return found


# --------------------------------------------------------------------------- ratings


def test_broken_rating_lines_are_counted_with_their_numbers(tmp_path):
    path = tmp_path / "r.csv"
    path.write_bytes(
        b"i1,u1,5.0,100\r\n"
        b"\r\n"
        b"i2,u2,4.0\n"
        b"i3,u3,1.0,3,4,5,6\n"
        b'i\xff,"u4,2.0,7\n'
        b"i5,u5,x,9\n"
        b"i6,u6,nan,9\n"
        b"i7,,1.0,9\n"
        b"i 8,u8,1.0,9\n"
        b"i\x1f9,u9,1.0,9\n"
        b"i10,u10,1.0,99999999999999999999\n"
        b'"i11","u11",1.0,-5\n'
        b"\n"
        b"i12,u12,3.0,10"
    )
    ratings = read_ratings(path)
    assert ratings.interactions.rows() == [
        ("u1", "i1", 100),
        ('"u11"', '"i11"', -5),
        ("u12", "i12", 10),
    ]
    assert ratings.bad_lines.count == 9
    assert ratings.bad_lines.first == (3, 4, 5, 6, 7, 8, 9, 10, 11)
    assert ratings.blank_lines == 2


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_any_bytes_give_rows_or_counted_lines(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes(b"\n".join(lines))
    try:
        ratings = read_ratings(path)
    except MacrecError:  # what begins as a compressed file (gzip, zlib, zstd) but is none
        assert path.read_bytes()[:1] in (b"\x1f", b"x", b"(")
        return
    total = path.read_bytes().count(b"\n") + 1
    found = len(ratings.interactions) + ratings.bad_lines.count + ratings.blank_lines
    assert total - 1 <= found <= total  # an empty last line is none
    for user, item, _ in ratings.interactions.rows():
        assert f"{item},{user},".encode() in path.read_bytes()


def test_a_missing_ratings_file_is_an_error(tmp_path):
    with pytest.raises(MacrecError, match=r"r\.csv: cannot be read"):
        read_ratings(tmp_path / "r.csv")


# ---------------------------------------------------------------------------- k-core


def naive_core(pairs, min_user, min_item):
    """One removal at a time, in any order: the core is the same."""
    pairs = list(pairs)
    while True:
        users = Counter(user for user, _ in pairs)
        items = Counter(item for _, item in pairs)
        for pair in pairs:
            if users[pair[0]] < min_user or items[pair[1]] < min_item:
                pairs.remove(pair)
                break
        else:
            return pairs


@given(
    st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6))),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_core_equals_the_naive_one(pairs, min_user, min_item):
    pairs = sorted(pairs)
    users, items = (np.array([p[side] for p in pairs], np.int32) for side in (0, 1))
    members = k_core(users, items, min_user, min_item)
    core = naive_core(pairs, min_user, min_item)
    assert [p for p in pairs if members.users[p[0]] and members.items[p[1]]] == core
    assert np.flatnonzero(members.users).tolist() == sorted({user for user, _ in core})
    assert np.flatnonzero(members.items).tolist() == sorted({item for _, item in core})
    assert members.pairs == len(core)


@given(st.lists(st.integers(0, 9)))
def test_renumbered_counts_by_first_appearance(values):
    order = list(dict.fromkeys(values))
    numbers, distinct = renumbered(np.array(values, np.uint32))
    assert numbers.tolist() == [order.index(value) for value in values]
    assert distinct.tolist() == order


def test_last_is_test_and_last_but_one_is_valid():
    position, split = leave_one_out(np.array([3, 5]))
    assert position.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert split.tolist() == ["train", "valid", "test", *["train"] * 3, "valid", "test"]


# ------------------------------------------------------------------------- catalogue


def test_earliest_of_repeated_interactions_and_file_order_at_equal_times(tmp_path):
    lines = [
        "c,u,5.0,20",
        "b,u,5.0,10",  # same time as a, earlier in the file
        "a,u,5.0,10",
        "c,u,1.0,5",  # c again, but earlier
        "b,u,5.0,10",
        "a,v,5.0,7",
        "b,v,5.0,8",
        "c,v,5.0,9",
    ]
    catalogue = build_catalogue(
        write_raw_folder(tmp_path / "raw", lines, "abc"), ["text", "image"], params()
    )
    assert sequences(catalogue) == {"u": ["c", "b", "a"], "v": ["a", "b", "c"]}
    # Ids by first appearance in time: c at 5, a at 7, b at 8.
    assert catalogue.items.column("item_key").to_pylist() == ["c", "a", "b"]
    assert catalogue.users.column("user_key").to_pylist() == ["u", "v"]
    assert catalogue.interactions.column("timestamp").to_pylist() == [5, 10, 10, 7, 8, 9]
    assert catalogue.metrics["dropped"]["repeated_interactions"] == 2
    for table, contract in (
        (catalogue.items, ITEMS),
        (catalogue.users, USERS),
        (catalogue.interactions, INTERACTIONS),
    ):
        write_artifact(tmp_path / f"{contract.name}.parquet", table, contract)
    catalogue.images.write(tmp_path / "images.parquet")
    images = read_artifact(tmp_path / "images.parquet", IMAGES)
    assert images.column("image").to_pylist() == [b"c", b"a", b"b"]


def test_items_without_metadata_or_image_are_dropped_and_counted(tmp_path):
    lines = [f"{item},{user},5.0,1" for user in "uvw" for item in "abcde"]
    raw = write_raw_folder(tmp_path / "raw", lines, "abcd", pictured="bcde")
    catalogue = build_catalogue(raw, ["text", "image"], params())
    assert sequences(catalogue) == {user: ["b", "c", "d"] for user in "uvw"}
    assert catalogue.images.keys == ["b", "c", "d"]
    dropped = catalogue.metrics["dropped"]
    assert dropped["interactions_without_metadata"] == 3
    assert dropped["interactions_without_image"] == 3
    text_only = build_catalogue(raw, ["text"], params())
    assert sequences(text_only) == {user: ["a", "b", "c", "d"] for user in "uvw"}
    assert text_only.images == ItemImages()


def test_users_keep_three_interactions_even_with_a_smaller_core(tmp_path):
    lines = ["a,u,5.0,1", "b,u,5.0,2", "a,v,5.0,1", "b,v,5.0,2", "c,v,5.0,3"]
    raw = write_raw_folder(tmp_path / "raw", lines, "abc")
    catalogue = build_catalogue(raw, ["image"], params(k=1))
    assert sequences(catalogue) == {"v": ["a", "b", "c"]}
    assert catalogue.metrics["dropped"]["users_outside_core"] == 1


def test_metrics_hold_table_1(tmp_path):
    lines = [f"{item},{user},5.0,1" for user in "uv" for item in "abcd"][:-1]
    raw = write_raw_folder(tmp_path / "raw", lines, "abcd")
    metrics = build_catalogue(raw, ["image"], params()).metrics
    assert metrics["num_users"] == 2
    assert metrics["num_items"] == 4
    assert metrics["num_interactions"] == 7
    assert metrics["average_length"] == 3.5
    assert metrics["sparsity"] == 1 - 7 / 8


def test_too_many_bad_lines_of_both_files_together_stop(tmp_path, caplog):
    lines = [*(f"{item},u,5.0,1" for item in "abc"), "broken", "broken"]
    raw = write_raw_folder(
        tmp_path / "raw", lines, "abc", metadata_lines=["{", '{"asin": 3}', '{"asin": "a"}']
    )
    with pytest.raises(MacrecError, match=r"4 unreadable lines.*max_bad_lines=3.*lines 4, 5"):
        build_catalogue(raw, ["text"], params(bad=3))
    metrics = build_catalogue(raw, ["text"], params(bad=4)).metrics
    assert metrics["dropped"]["bad_rating_lines"] == 2
    assert metrics["dropped"]["bad_metadata_lines"] == 2
    assert metrics["dropped"]["repeated_metadata_records"] == 1
    assert "ratings.csv: 2 unreadable lines left out, the first: 4, 5" in caplog.text


@pytest.mark.parametrize(
    ("lines", "k", "remedy"),
    [
        ([], 5, r"0 of them dropped by .*; correct the source, in which none can be read$"),
        (["bad"], 5, r"bad_rating_lines': 1.*; correct the source, in which none can be read$"),
        (["A,u,5.0,1"], 5, r"0 of them dropped by .*: of its items none has metadata, and an"),
        (["a,u,5.0,1"], 5, r"1 of them dropped by .*; take more data, or lower filter\.k_core$"),
        (["a,u,5.0,1", "A,u,5.0,1"], 5, r"; take more data, or lower filter\.k_core, or mend the"),
        (["a,u,5.0,1", "b,u,5.0,1"], 3, r"2 of them dropped by .*; take more data$"),
    ],
)
def test_nothing_left_is_an_error_with_remedy(tmp_path, lines, k, remedy):
    raw = write_raw_folder(tmp_path / "raw", lines, "abc")
    with pytest.raises(MacrecError, match=remedy):
        build_catalogue(raw, ["text"], params(k=k, bad=1))


def test_many_interactions_without_metadata_are_a_warning(tmp_path, caplog):
    good = [f"{item},u{user},5.0,1" for user in range(20) for item in "abc"]
    for name, lost, told in (("few", 3, False), ("many", 4, True)):
        lines = [*good, *(f"A{number},u0,5.0,1" for number in range(lost))]
        build_catalogue(write_raw_folder(tmp_path / name, lines, "abc"), ["text"], params())
        assert ("have no metadata, the first 'A0'; if they should" in caplog.text) is told
    assert "4 of 64 interactions (6 %) are dropped" in caplog.text


def test_texts_are_cleaned_and_empty_ones_counted(tmp_path):
    lines = [f"{item},u,5.0,1" for item in "abc"]
    more = [
        json.dumps({"asin": "b", "title": None, "description": ["<b>x</b>", "&amp;"]}),
        json.dumps({"asin": "c", "title": " ", "category": ["Music", "Drums"]}),
    ]
    raw = write_raw_folder(tmp_path / "raw", lines, "a", metadata_lines=more)
    catalogue = build_catalogue(raw, ["text"], params())
    assert catalogue.items.select(["title", "description", "brand", "categories"]).to_pylist() == [
        {"title": "T a", "description": "", "brand": None, "categories": ""},
        {"title": "", "description": "x &", "brand": None, "categories": ""},
        {"title": "", "description": "", "brand": None, "categories": "Music, Drums"},
    ]
    assert catalogue.metrics["items_with_empty_text"] == {
        "title": 2, "description": 2, "brand": None, "categories": 2,
    }  # fmt: skip


def test_cut_metadata_is_an_error(tmp_path):
    raw = write_raw_folder(tmp_path / "raw", [], "abc")
    path = raw / "metadata.json.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MacrecError, match=r"metadata\.json\.gz: is no whole gzip file"):
        build_catalogue(raw, ["text"], params())
