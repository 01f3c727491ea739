"""Files of the 2023 release, rewritten as the 2018 release has them, so that one reader does.

Ratings come as `user_id,parent_asin,rating,timestamp` below a header, in milliseconds, which are
kept: only their order counts. Item records name the item `parent_asin`, the brand `store`, the
category path `categories`, and list pictures as objects. Lines that cannot be read are passed on
as they are, so that `filter` counts and shows them: a metadata line by its own number, a rating
by the number below the header.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from macrec_core.catalog.metadata import BadLines

_HEADER = b"user_id,parent_asin,rating,timestamp"
# Speed of packing against size; 6 takes three times as long for a tenth less.
_LEVEL = 4


def convert_ratings(source: Path, target: Path) -> None:
    """Write ratings as item, user, rating and timestamp in milliseconds, without header.

    Args:
        source: gzip-compressed CSV of the 2023 release.
        target: plain CSV to write.
    """
    with target.open("wb") as file:
        for line in _lines(source):
            parts = line.split(b",")
            if len(parts) == 4:
                parts[0], parts[1] = parts[1], parts[0]
            file.write(b",".join(parts) + b"\n")


def core_items(source: Path) -> tuple[set[str], BadLines]:
    """Keys of the items in the ratings of the released 5-core, and its unreadable lines.

    Args:
        source: gzip-compressed CSV of the 2023 release.
    """
    items: set[str] = set()
    bad: list[int] = []
    for number, line in enumerate(_lines(source), start=1):
        parts = line.split(b",")
        if len(parts) == 4 and parts[1]:
            items.add(parts[1].decode("utf-8", "replace"))
        elif line.strip():
            bad.append(number)
    return items, BadLines(len(bad), tuple(bad[:10]))


def convert_metadata(source: Path, target: Path) -> None:
    """Write item records with the 2018 release's field names, one a line, gzip-compressed.

    Equal records give equal bytes.

    Args:
        source: gzip-compressed JSON lines of the 2023 release.
        target: gzip-compressed JSON lines to write.
    """
    with (
        gzip.open(source, "rb") as lines,
        target.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=_LEVEL, fileobj=file, mtime=0) as packed,
    ):
        for line in lines:
            packed.write(_converted(line.rstrip(b"\r\n")) + b"\n")


def _converted(line: bytes) -> bytes:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(record, dict) or "parent_asin" not in record:
        return line
    large, small = _pictures(record.get("images"))
    renamed = {
        "asin": record["parent_asin"],
        "title": record.get("title"),
        "description": record.get("description"),
        "brand": record.get("store"),
        "category": record.get("categories"),
        "imageURLHighRes": large,
        "imageURL": small,
    }
    return json.dumps(renamed, separators=(",", ":")).encode()


def _pictures(images: object) -> tuple[list[str], list[str]]:
    """URLs of the largest form of each picture, the main one first, and of the next smaller."""
    found = [one for one in images if isinstance(one, dict)] if isinstance(images, list) else []
    found.sort(key=lambda one: one.get("variant") != "MAIN")
    large = [one.get("hi_res") or one.get("large") for one in found]
    small = [one.get("large") for one in found]
    return _texts(large), _texts(small)


def _texts(values: list[object]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _lines(source: Path) -> Iterator[bytes]:
    """Lines of a gzip-compressed CSV without their ends and without the header."""
    with gzip.open(source, "rb") as file:
        for place, line in enumerate(file):
            bare = line.rstrip(b"\r\n")
            if place or bare.removeprefix(b"\xef\xbb\xbf") != _HEADER:
                yield bare
