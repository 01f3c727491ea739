"""Simple parsers of ratings and metadata, and what must be equal between them and ours."""

from __future__ import annotations

import gzip
import json
import re

from macrec_core.catalog.cleaning import clean_categories, clean_text
from macrec_core.catalog.descriptions import read_descriptions
from macrec_core.catalog.ratings import read_ratings
from macrec_core.errors import MacrecError

KEY = re.compile(r"[^\s\x00-\x1f\x7f\ufffd]+")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
WHOLE = re.compile(r"[+-]?[0-9]+")


class Everything:
    """A set that holds whatever is asked for."""

    def __contains__(self, key):
        return True


def plain_ratings(data):
    """Rows, numbers of bad lines and number of blank lines, a line at a time.

    A carriage return is no part of the field that it ends, on Windows or by accident.
    """
    lines = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").split("\n")
    if not lines[-1]:
        lines.pop()  # what follows the last line end is no line
    rows, bad, blank = [], [], 0
    for number, line in enumerate(lines, start=1):
        parts = [part.removesuffix("\r") for part in line.split(",")]
        if not any(parts):
            blank += 1
        elif not is_rating(parts):
            bad.append(number)
        else:
            rows.append((parts[1], parts[0], int(parts[3])))
    return rows, bad, blank


def is_rating(parts):
    return (
        len(parts) >= 4
        and not any(parts[4:])
        and all(KEY.fullmatch(part) for part in parts[:2])
        and NUMBER.fullmatch(parts[2]) is not None
        and abs(float(parts[2])) != float("inf")
        and WHOLE.fullmatch(parts[3]) is not None
        and -(2**63) <= int(parts[3]) < 2**63
    )


def check_ratings(path, data):
    """Read a ratings file of these bytes: the simple parser's rows and counts, or one error."""
    path.write_bytes(data)
    rows, bad, blank = plain_ratings(data)
    try:
        ratings = read_ratings(path)
    except MacrecError:  # what begins as a compressed file (gzip, zlib, zstd) but is none
        assert data[:1] in (b"\x1f", b"x", b"(")
        return
    assert ratings.interactions.rows() == rows
    assert ratings.bad_lines.count == len(bad)
    assert ratings.bad_lines.first == tuple(bad[:10])
    assert ratings.blank_lines == blank


def plain_metadata(data):
    """Item key to record, numbers of bad lines and number of repeated records."""
    records, bad, repeated = {}, [], 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(str(line, "utf-8").removeprefix("\ufeff"))
        except (ValueError, RecursionError):
            record = None
        key = record.get("asin") if isinstance(record, dict) else None
        if not isinstance(key, str) or not KEY.fullmatch(key) or re.search("[\ud800-\udfff]", key):
            bad.append(number)
        elif key in records:
            repeated += 1
        else:
            records[key] = record
    return records, bad, repeated


def texts_of(path, wanted=None):
    """Texts by item key, and all that was read."""
    found = read_descriptions(path, Everything() if wanted is None else wanted)
    return {row.pop("item_key"): row for row in found.texts.to_pylist()}, found


def check_metadata(path, data):
    """Read a metadata file of these bytes: the simple parser's records, titles and categories."""
    path.write_bytes(gzip.compress(data, compresslevel=1, mtime=0))
    records, bad, repeated = plain_metadata(data)
    texts, found = texts_of(path)
    assert found.keys == set(records)
    assert (found.bad_lines.count, found.bad_lines.first) == (len(bad), tuple(bad[:10]))
    assert found.duplicates == repeated
    for key, record in records.items():
        title = clean_text(record["title"] or None) if "title" in record else None
        assert texts[key]["title"] == title
        listed = record.get("categories") or record.get("category")
        if listed:
            assert texts[key]["categories"] == clean_categories(listed)
