"""Ratings and metadata from the real world, and any bytes at all, against simple references."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from misbehaving_server import LOOPBACK
from plain_parsers import check_metadata, check_ratings, texts_of

from macrec_core.catalog.catalogue import build_catalogue
from macrec_core.catalog.descriptions import read_descriptions
from macrec_core.catalog.raw import Places, write_raw
from macrec_core.catalog.scratch import Scratch
from macrec_core.errors import MacrecError
from macrec_core.params.data import AmazonSource, FilterParams

# --------------------------------------------------------------------------- ratings


PARTS = st.one_of(
    st.sampled_from(
        ["A1", "B2", "é", "\u4e2d", '"', "5.0", "1e3", "-2", "7", ".5", "x", "", " ", "\t", "\0",
         "nan", "inf", "1_0", "0x1", "9" * 19, "\ufeff", "\u2028", "\x85", "\r", "1" * 40]
    ),
    st.text(max_size=3),
)  # fmt: skip
ITEM_AND_USER = st.sampled_from(["A1", "B2", "é", "a" * 40, "../x", '"q"', ""])
LINES = st.one_of(
    st.tuples(ITEM_AND_USER, ITEM_AND_USER, st.sampled_from(["5.0", "1"]), st.integers()).map(
        lambda parts: ",".join(map(str, parts)).encode()
    ),
    st.lists(PARTS, max_size=7).map(lambda parts: ",".join(parts).encode("utf-8", "replace")),
    st.binary(max_size=12),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=8), st.sampled_from([b"\n", b"\r\n"]))
@example([b"\xef\xbb\xbfa,b,1,2"], b"\n")
@example([b"\r,", b"a,b,1,2,\r,"], b"\n")
@example([b"a,b,1,2,", b"a,b,1,2,,,x"], b"\n")
def test_ratings_equal_a_simple_parser_or_are_one_error(tmp_path_factory, lines, end):
    path = tmp_path_factory.getbasetemp() / "fuzzed_ratings.csv"
    check_ratings(path, end.join(lines))


# -------------------------------------------------------------------------- metadata


def metadata(path, lines):
    path.write_bytes(gzip.compress(b"\n".join(lines), compresslevel=1, mtime=0))
    return path


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, (None, None, None, None)),
        ({"title": None, "brand": ""}, ("", None, "", None)),
        ({"description": "one <br> two"}, (None, "one two", None, None)),
        ({"description": ["one", "", "<b>two</b>"]}, (None, "one two", None, None)),
        ({"description": "['one', 'two']"}, (None, "one two", None, None)),
        ({"description": []}, (None, "", None, None)),
        ({"title": "a\0b\u0085c"}, ("a b c", None, None, None)),
        ({"title": "lone \ud800 half"}, ("lone half", None, None, None)),
        ({"title": 12.5, "brand": 7}, ("12.5", None, "7", None)),
        ({"price": "<span class='p'>$9</span>", "title": "T"}, ("T", None, None, None)),
        ({"category": ["A", "B &amp; C"]}, (None, None, None, "A, B & C")),
        ({"categories": [["A", "B"]], "category": ["C"]}, (None, None, None, "A, B")),
    ],
)
def test_fields_in_all_their_forms(tmp_path, record, expected):
    path = metadata(tmp_path / "m.gz", [json.dumps(record | {"asin": "k"}).encode()])
    texts, found = texts_of(path)
    assert tuple(texts["k"].values()) == expected
    assert found.bad_lines.count == 0


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"null",
        b'{"asin": null}',
        b'{"asin": 5}',
        b'{"asin": ""}',
        b'{"asin": "a b"}',
        b'{"asin": "a\\u0000"}',
        b'{"asin": "\\ud800"}',
        b'{"title": "no key"}',
        b'{"asin": "k", "title": "\xff"}',  # no UTF-8
        b'{"asin": "k", "title": "\xed\xa0\x80"}',  # a surrogate, which is none either
        b'{"asin": "k", "title": "raw \x00 byte"}',
        '{"asin": "k"}'.encode("utf-16-le"),
        b'{"asin": "k", "title": ' + b"[" * 200_000,
        b'{"asin": "k", "rank": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_record_is_a_counted_line(tmp_path, line):
    path = metadata(tmp_path / "m.gz", [b'{"asin": "first"}', b"", line, b'{"asin": "last"}'])
    texts, found = texts_of(path)
    assert list(texts) == ["first", "last"]
    assert found.bad_lines.count == 1
    assert found.bad_lines.first == (3,)


def test_a_byte_order_mark_is_no_part_of_the_record(tmp_path):
    _, found = texts_of(metadata(tmp_path / "m.gz", [b'\xef\xbb\xbf{"asin": "k"}']))
    assert found.keys == {"k"}


def test_the_first_record_of_an_item_counts(tmp_path):
    lines = [b'{"asin": "k", "title": "one"}', b'{"asin": "k", "title": "two"}'] * 2
    texts, found = texts_of(metadata(tmp_path / "m.gz", lines))
    assert texts["k"]["title"] == "one"
    assert found.duplicates == 3


def test_texts_are_kept_of_wanted_items_only(tmp_path):
    lines = [json.dumps({"asin": key, "title": key}).encode() for key in "abc"]
    texts, found = texts_of(metadata(tmp_path / "m.gz", lines), {"b", "x"})
    assert list(texts) == ["b"]
    assert found.keys == {"a", "b", "c"}


def test_a_key_like_a_path_names_no_file(tmp_path, release, image_params):
    hostile = "../../x"
    release.ratings = [line.replace("B3,", f"{hostile},") for line in release.ratings]
    release.metadata = [
        line.replace('"asin": "B3"', f'"asin": "{hostile}"') for line in release.metadata
    ]
    release.reviews.append(json.dumps({"asin": hostile}))
    release.write()
    raw = tmp_path / "below" / "raw"
    raw.mkdir(parents=True)
    scratch = tmp_path / "below" / "scratch"

    def outside():
        inside = {raw, scratch}
        return {p for p in tmp_path.rglob("*") if p not in inside and not inside & {*p.parents}}

    before = outside()
    source = AmazonSource(
        source="amazon", layout="amazon2018", category="Toys", bases=["release"], sha256={}
    )
    with Scratch(scratch) as held:
        places = Places(data_root=tmp_path, scratch=held, folder=None)
        write_raw(raw, source, image_params, places, network=LOOPBACK, with_images=True)
    built = build_catalogue(raw, ["text", "image"], FilterParams(k_core=5, max_bad_lines=0))
    assert hostile in built.items.column("item_key").to_pylist()
    assert outside() == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "asin": st.sampled_from(["k", "m", "é", "../../x", ""]) | JSON,
        "title": JSON,
        "description": JSON,
        "category": JSON,
        "categories": JSON,
        "brand": JSON,
        "price": JSON,
    },
)
RECORD_LINES = st.one_of(
    RECORDS.map(lambda record: json.dumps(record).encode()),
    RECORDS.map(lambda record: json.dumps(record).encode()[:-1]),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=20),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(RECORD_LINES, max_size=8))
def test_metadata_equals_a_simple_parser(tmp_path_factory, lines):
    check_metadata(tmp_path_factory.getbasetemp() / "fuzzed.gz", b"\n".join(lines))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_gzip_file_is_one_error_or_the_same_records(tmp_path_factory, data):
    whole = gzip.compress(b'{"asin": "k"}\n{"asin": "m"}\n', mtime=0)
    cut = data.draw(st.integers(0, len(whole)))
    damaged = bytearray(whole[:cut] + data.draw(st.binary(max_size=8)))
    if damaged and data.draw(st.booleans()):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.gz"
    path.write_bytes(damaged)
    try:
        found = read_descriptions(path, set())
    except MacrecError:
        return
    assert found.keys in (set(), {"k", "m"})  # nothing, or the checksum was right
    assert found.keys or not damaged
