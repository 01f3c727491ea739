"""What is said of items: whose metadata there is, and the cleaned texts of those that matter."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from macrec_core.catalog.metadata import BadLines, FirstRecords
from macrec_core.catalog.texts import clean_texts


@dataclass(frozen=True)
class Descriptions:
    """What a metadata file says of items.

    Attributes:
        keys: of all items that have a record.
        texts: cleaned texts (`texts.clean_texts`) of the first record of each item asked for.
        duplicates: further records of items already seen, ignored.
        bad_lines: lines that hold no JSON object with an item key.
    """

    keys: set[str]
    texts: pa.Table
    duplicates: int
    bad_lines: BadLines


def read_descriptions(path: Path, wanted: Container[str]) -> Descriptions:
    """Read a metadata file once, a line at a time, and keep the texts of some items.

    Args:
        path: the file.
        wanted: keys of the items whose texts are needed; of others only the key is kept.

    Raises:
        MacrecError: the file is missing or no whole gzip file.
    """
    records = FirstRecords(path)
    texts = clean_texts((key, record) for key, record in records if key in wanted)
    return Descriptions(records.item_keys, texts, records.duplicates, records.bad_lines)
