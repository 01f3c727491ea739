"""Source `files`: a pair of tables of one's own."""

from __future__ import annotations

import csv
from datetime import datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from misbehaving_server import LOOPBACK

from macrec_core.artifacts import check_replaceable, read_artifact
from macrec_core.catalog import tables
from macrec_core.catalog.catalogue import build_catalogue
from macrec_core.catalog.manifest import raw_files
from macrec_core.catalog.raw import Places, write_raw
from macrec_core.catalog.scratch import Scratch
from macrec_core.catalog.tables import image_paths, read_interactions, read_items
from macrec_core.errors import MacrecError
from macrec_core.params.data import FilesSource, FilterParams
from macrec_core.schemas import IMAGES, INTERACTIONS, ITEMS, USERS

INTERACTIONS_TABLE = {
    "user": ["u", "u", "u", "v", "v", "v", "v", "u"],
    "item": ["b", "a", "c", "c", "b", "a", "c", "x"],
    "timestamp": [10, 10, 30, 1, 2, 3, 4, 5],  # x is unknown, v has c again
    "rating": [5.0] * 8,
}
ITEMS_TABLE = {
    "item": ["a", "b", "c", "d", "a"],
    "title": ["A &amp; a", "", None, "D", "again"],
    "description": ["two\nlines", 'a "quote", comma', "<b>bold</b>", "", ""],
    "brand": ["Acme"] * 5,
    "categories": ["['Music', 'Drums']", "Toys", None, None, None],
    "image": ["pictures/a.jpg", "pictures/b.jpg", "pictures/c.jpg", None, None],
}


def write_table(path, columns):
    table = pl.DataFrame(columns, strict=False)
    if path.suffix == ".parquet":
        table.write_parquet(path)
    else:
        with path.open("w", newline="") as file:  # Python's writer: Windows line ends
            writer = csv.writer(file)
            writer.writerow(table.columns)
            writer.writerows(table.rows())
    return path


@pytest.fixture
def catalogue_of(tmp_path, image_params, jpeg_bytes):
    """Travels from two tables to a catalogue."""

    def run(interactions, items, suffix=".csv", modalities=("text",)):
        folder = tmp_path / "mine"
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for key in "abc":
            (folder / "pictures" / f"{key}.jpg").write_bytes(jpeg_bytes)
        write_table(folder / f"sales{suffix}", interactions)
        write_table(folder / f"shop{suffix}", items)
        spec = FilesSource(
            source="files", folder="mine", interactions=f"sales{suffix}", items=f"shop{suffix}"
        )
        raw = tmp_path / "raw"
        raw.mkdir()
        with Scratch(tmp_path / "scratch") as scratch:
            places = Places(data_root=tmp_path, scratch=scratch, folder=None)
            contents = write_raw(
                raw, spec, image_params, places, network=LOOPBACK, with_images="image" in modalities
            )
        check_replaceable(raw, *raw_files(raw))  # by a later download
        built = build_catalogue(raw, modalities, FilterParams(k_core=1, max_bad_lines=0))
        return contents, built

    return run


def histories(catalogue):
    users = catalogue.users.column("user_key").to_pylist()
    items = catalogue.items.column("item_key").to_pylist()
    found = {}
    for row in catalogue.interactions.to_pylist():
        found.setdefault(users[row["user_id"]], []).append(items[row["item_id"]])
    return found


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("modalities", [("text",), ("text", "image")])
def test_a_pair_of_tables_becomes_a_catalogue(catalogue_of, suffix, modalities, tmp_path):
    contents, built = catalogue_of(INTERACTIONS_TABLE, ITEMS_TABLE, suffix, modalities)
    assert histories(built) == {"v": ["c", "b", "a"], "u": ["b", "a", "c"]}
    assert built.items.select(["item_key", "title", "description", "categories"]).to_pylist() == [
        {"item_key": "c", "title": "", "description": "bold", "categories": ""},
        {"item_key": "b", "title": "", "description": 'a "quote", comma', "categories": "Toys"},
        {
            "item_key": "a",
            "title": "A & a",
            "description": "two lines",
            "categories": "Music, Drums",
        },
    ]
    assert built.metrics["dropped"] == {
        "interactions_without_metadata": 1,
        "interactions_without_image": 0,
        "repeated_interactions": 1,
        "interactions_outside_core": 0,
        "users_outside_core": 0,
        "items_outside_core": 0,
        "repeated_metadata_records": 1,
    }
    assert contents.counts["repeated_items"] == 1
    assert contents.files[f"items{suffix}"]["origin"] == f"mine/shop{suffix}"
    assert len(built.images.keys) == (3 if "image" in modalities else 0)
    written = tmp_path / "images.parquet"
    built.images.write(written)
    for table, contract in (
        (built.items, ITEMS),
        (built.users, USERS),
        (read_artifact(written, IMAGES), IMAGES),
        (built.interactions, INTERACTIONS),
    ):
        assert table.schema.names == contract.schema.names


def test_numbers_dates_and_lists_of_parquet_are_understood(catalogue_of):
    interactions = {
        "user": [1, 1, 1],
        "item": [30, 10, 20],
        "timestamp": [datetime(2020, 1, 3), datetime(2020, 1, 1), datetime(2020, 1, 2)],
    }
    items = {"item": [10, 20, 30], "title": [["a", "b"], ["c"], None]}
    _, built = catalogue_of(interactions, items, ".parquet")
    assert histories(built) == {"1": ["10", "20", "30"]}
    assert built.items.column("title").to_pylist() == ["a b", "c", ""]
    assert built.items.column("brand").null_count == 3
    first, day = 1577836800 * 10**6, 24 * 3600 * 10**6
    times = built.interactions.column("timestamp").to_pylist()
    assert times == [first, first + day, first + 2 * day]


def test_pictures_that_cannot_be_had_are_counted_by_cause(catalogue_of, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    items = ITEMS_TABLE | {
        "image": ["pictures/a.jpg", "../secret.jpg", "https://x.org/a.jpg", None, None]
    }
    told = (
        r"2 of 3 .*\{'outside_folder': 1, 'url_not_path': 1\}; such as b '\.\./secret\.jpg' outside"
    )
    with pytest.raises(MacrecError, match=told):
        catalogue_of(INTERACTIONS_TABLE, items, ".csv", ("image",))


def test_the_image_modality_needs_a_column_of_paths(catalogue_of):
    items = {name: column for name, column in ITEMS_TABLE.items() if name != "image"}
    with pytest.raises(MacrecError, match=r"shop\.csv: has no column 'image'.*remove image"):
        catalogue_of(INTERACTIONS_TABLE, items, ".csv", ("image",))


@pytest.mark.parametrize(
    ("suffix", "change", "message"),
    [
        (".csv", {"user": ["u", None]}, r"row 2 has user=None, item='b'.*\(such rows: 1\)"),
        (".parquet", {"item": [None, None]}, r"row 1 has .*item=None.*\(such rows: 2\)"),
        (".csv", {"item": ["a", "b c"]}, r"row 2 has .*item='b c'.*white space"),
        (".csv", {"timestamp": [1, "2020-01-01"]}, r"row 2 .*timestamp='2020-01-01'"),
        (".parquet", {"timestamp": [1, None]}, r"row 2 has .*timestamp=None"),
        (".parquet", {"timestamp": [1.5, 2.5]}, "'timestamp' holds Float64; expected whole"),
        (".parquet", {"user": [1.5, 2.5]}, "'user' holds Float64; expected text or whole"),
        (".csv", {"user": ..., "item": ...}, "has no column user, item; it needs user, item"),
    ],
)
def test_broken_interactions_are_named(tmp_path, suffix, change, message):
    columns = {"user": ["u", "v"], "item": ["a", "b"], "timestamp": [1, 2]} | change
    columns = {name: column for name, column in columns.items() if column is not ...}
    path = write_table(tmp_path / f"t{suffix}", columns)
    with pytest.raises(MacrecError, match=rf"t\{suffix}: .*{message}"):
        read_interactions(path)


@pytest.mark.parametrize(
    ("suffix", "change", "message"),
    [
        (".csv", {"title": ...}, "has no column title; it needs item, title and may have desc"),
        (".csv", {"item": ["a", None]}, r"row 2 has item=None; expected an item"),
        (".parquet", {"brand": [1, 2]}, "column 'brand' holds Int64; expected text, or lists"),
        (".parquet", {"image": [["x"], []]}, r"column 'image' holds List\(String\)"),
    ],
)
def test_broken_items_are_named(tmp_path, suffix, change, message):
    columns = {"item": ["a", "b"], "title": ["A", "B"]} | change
    columns = {name: column for name, column in columns.items() if column is not ...}
    path = write_table(tmp_path / f"t{suffix}", columns)
    with pytest.raises(MacrecError, match=rf"t\{suffix}: .*{message}"):
        read_items(path, set())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.parquet", b"PAR1 nothing"),
        ("t.csv", b""),
        ("t.csv", b"user,item,timestamp\nu,a,1,2,3\n"),
        ("t.csv", b"user,item,timestamp\n\xff\xfe,a,1\n"),
        ("t.csv", b"user,\xff,item,timestamp\nu,,a,1\n"),
        ("t.csv", b"user,item,timestamp,rating,shop\nu,a,1,5,x\nu,b,1,5,x,more\n"),
    ],
)
def test_files_that_cannot_be_read_are_one_error(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(MacrecError, match=rf"{name}: cannot be read .*: correct it") as caught:
        read_interactions(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            ["u,a,1", "", 'u,12" drum,2'],
            r"row 3, up to line 4, has a quote at a wrong place: 'u,12",
        ),
        (["u,a,1", 'u,"a\nb",1', "u,b,1,5,6"], "row 3, up to line 5, has 5 fields, the header 3"),
        (["u,a,1", 'u,"b,1'], "row 2, up to line 3, has a quote at a wrong place: 'u,\"b,1'"),
    ],
)
def test_the_first_broken_row_is_named(tmp_path, lines, told):
    (tmp_path / "t.csv").write_text("\n".join(["user,item,timestamp", *lines]) + "\n")
    with pytest.raises(MacrecError) as caught:
        read_interactions(tmp_path / "t.csv")
    assert told in str(caught.value)


def test_a_quote_that_is_never_closed_is_found_behind_a_long_text(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_LONGEST", 300_000)
    long, open_ = f'a,"{"x" * 200_000}"', 'b,"open'
    rest = [f"c{number},title" for number in range(40_000)]
    (tmp_path / "t.csv").write_text("\n".join(["item,title", long, open_, *rest]) + "\n")
    with pytest.raises(MacrecError, match=r"row 2, from line 3: .*: 'b,\"open\\n'"):
        read_items(tmp_path / "t.csv", set())
    assert csv.field_size_limit() == 131072


def test_a_broken_row_has_one_number(tmp_path):
    for last, told in (("u,a,1,2", "row 3, up to line 4, has 4"), ("u,a,x", "row 3 has user='u'")):
        (tmp_path / "t.csv").write_text(f"user,item,timestamp\nu,a,1\nu,a,1\n{last}\n")
        with pytest.raises(MacrecError, match=told):
            read_interactions(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("user,item,timestamp\nu,a,1\n\nu,a,1,2\n")
    with pytest.raises(MacrecError, match="row 3, up to line 4, has 4 fields"):
        read_interactions(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("user;item;timestamp", "(found: 'user;item;timestamp'); between fields must stand commas"),
        ("user, item,timestamp", "(found: 'user', ' item', 'timestamp')"),
        (",".join(f"c{i}" for i in range(50)), "'c9' and 40 more)"),
        ("x" * 10_000, f"(found: '{'x' * 60}...')"),
    ],
)
def test_what_is_no_such_table_is_shown_in_short(tmp_path, header, told):
    (tmp_path / "t.csv").write_text(f"{header}\n{header}\n")
    with pytest.raises(MacrecError) as caught:
        read_interactions(tmp_path / "t.csv")
    assert str(caught.value).endswith(told)


def test_empty_columns_of_a_spreadsheet_are_ignored(tmp_path):
    (tmp_path / "t.csv").write_text("user,item,timestamp,,\nu,a,1,,\n")
    assert read_interactions(tmp_path / "t.csv").rows() == [("u", "a", 1)]


@pytest.mark.parametrize("before", ["", "\n", "\r\n\r\n"])
def test_a_column_that_stands_twice_is_refused(tmp_path, before):
    (tmp_path / "t.csv").write_text(f"{before}user,item,timestamp,user\nu,a,1,v\n")
    with pytest.raises(MacrecError, match=r"t\.csv: column user stands there more than once"):
        read_interactions(tmp_path / "t.csv")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_path_is_no_pattern(tmp_path, suffix):
    folder = tmp_path / "a[b]*"
    folder.mkdir()
    columns = {"user": ["u"], "item": ["i"], "timestamp": [1]}
    assert len(read_interactions(write_table(folder / f"t{suffix}", columns))) == 1


def test_columns_without_a_meaning_are_told(tmp_path, caplog):
    columns = {"item": ["a"], "title": ["A"], "descripton": ["x"], "image": ["a.jpg"]}
    path = write_table(tmp_path / "t.csv", columns)
    read_items(path, set())
    assert image_paths(path, {"a"}) == {"a": ["a.jpg"]}
    assert caplog.text.count("ignored: ['descripton']") == 1


def test_a_missing_file_and_another_ending_are_named(tmp_path, image_params):
    (tmp_path / "items.xlsx").write_bytes(b"")
    places = Places(data_root=tmp_path, scratch=Scratch(tmp_path / "scratch"), folder=None)
    spec = FilesSource(source="files", folder=".", interactions="items.xlsx", items="i.csv")
    with pytest.raises(MacrecError, match=r"items\.xlsx: must end in \.parquet or \.csv"):
        write_raw(tmp_path, spec, image_params, places, network=LOOPBACK, with_images=False)


CELLS = st.sampled_from(["u", "7", "", '"', '"a,b"', '"x\ny"', "\r", "é", "\0", "a b", "1.5"])
ROWS = st.lists(CELLS, max_size=5).map(",".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(ROWS | st.text(max_size=8), max_size=6), st.booleans())
def test_any_table_gives_rows_or_one_error(tmp_path_factory, rows, with_header):
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    header = ["user,item,timestamp,title"] if with_header else []
    path.write_bytes("\n".join([*header, *rows]).encode("utf-8", "replace"))
    try:
        table = read_interactions(path)
    except MacrecError as error:
        assert str(path) in str(error)
        return
    assert with_header
    for user, item, timestamp in table.rows():
        assert user.split() == [user] and item.split() == [item]
        assert isinstance(timestamp, int)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_parquet_file_is_one_error_or_readable(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    keys = list("abcdefghi")
    columns = {"user": ["u"] * 9, "item": keys, "timestamp": range(9), "title": keys, "more": keys}
    write_table(path, columns)
    damaged = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=3)):
        damaged[place] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    for read in (read_interactions, lambda path: read_items(path, {"a"})):
        try:
            read(path)
        except MacrecError as error:
            assert str(path) in str(error)
