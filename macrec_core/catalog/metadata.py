"""Amazon metadata and reviews: one JSON object a line, gzip-compressed."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from macrec_core.errors import MacrecError

# Item keys stand in tables and logs: something visible, and no replacement character.
KEY_PATTERN = r"^[^\s\x00-\x1f\x7f\x{FFFD}]+$"
_KEY = re.compile("[^\\s\x00-\x1f\x7f\ufffd\ud800-\udfff]+")


@dataclass(frozen=True)
class BadLines:
    """Lines of a file that could not be read.

    Attributes:
        count: how many.
        first: numbers of the first ten, counted from 1.
    """

    count: int
    first: tuple[int, ...]


class FirstRecords:
    """One pass over a metadata file: item key and record of each item's first line.

    A record is not kept, so that a file of any size passes through. When the pass has ended:

    Attributes:
        item_keys: of all items that have a record.
        duplicates: further records of items already seen, left out.
    """

    def __init__(self, path: Path) -> None:
        self.item_keys: set[str] = set()
        self.duplicates = 0
        self._path = path
        self._bad: list[int] = []

    def __iter__(self) -> Iterator[tuple[str, dict[str, object]]]:
        """Go through the file, once.

        Raises:
            MacrecError: it is missing or no whole gzip file.
        """
        for number, key, record in json_records(self._path):
            if key is None:
                self._bad.append(number)
            elif key in self.item_keys:
                self.duplicates += 1
            else:
                self.item_keys.add(key)
                yield key, record

    @property
    def bad_lines(self) -> BadLines:
        """Lines that hold no JSON object with an item key (`asin`)."""
        return bad_lines(self._bad)


def reviewed_items(path: Path) -> tuple[set[str], BadLines]:
    """Keys of all items that a review file mentions, and its unreadable lines.

    Raises:
        MacrecError: the file is missing or no whole gzip file.
    """
    items, bad = set(), []
    for number, key, _ in json_records(path):
        if key is None:
            bad.append(number)
        else:
            items.add(key)
    return items, bad_lines(bad)


def image_urls(record: dict[str, object]) -> list[str]:
    """URLs of an item's images, large ones first, each once; what is no text is left out."""
    urls: list[str] = []
    for name in ("imageURLHighRes", "imageURL"):
        value = record.get(name)
        listed = value if isinstance(value, list) else [value]
        urls += [url.strip() for url in listed if isinstance(url, str) and url.strip()]
    return list(dict.fromkeys(urls))


def json_records(path: Path) -> Iterator[tuple[int, str | None, dict[str, object]]]:
    """Line number, item key and object of each line; the key is None where either is missing.

    Blank lines are left out.

    Raises:
        MacrecError: the file is missing or no whole gzip file.
    """
    try:
        with gzip.open(path, "rb") as file:
            for number, line in enumerate(file, start=1):  # `verification` has bounded them
                if line.strip():
                    record = _object(line)
                    yield number, _key(record), record
    except FileNotFoundError as error:
        raise MacrecError(f"{path}: does not exist; run the stage that makes it") from error
    except (OSError, EOFError, zlib.error) as error:
        raise MacrecError(f"{path}: is no whole gzip file ({error}); fetch it again") from error


def _object(line: bytes) -> dict[str, object]:
    try:
        # Decoded here, since json takes bytes with a NUL for UTF-16 or UTF-32.
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # broken JSON or UTF-8: counted as a bad line
        return {}
    return value if isinstance(value, dict) else {}


def _key(record: dict[str, object]) -> str | None:
    key = record.get("asin")
    return key if isinstance(key, str) and _KEY.fullmatch(key) else None


def bad_lines(numbers: Sequence[int]) -> BadLines:
    """Count and first ten of line numbers."""
    return BadLines(len(numbers), tuple(numbers[:10]))
