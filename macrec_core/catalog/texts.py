"""An item's text fields: under which names sources give them, and their cleaned columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from macrec_core.catalog.cleaning import clean_categories, clean_text

# Column of ITEMS: how it is cleaned, and under which names sources give it.
FIELDS: dict[str, tuple[Callable[[object], str], tuple[str, ...]]] = {
    "title": (clean_text, ("title",)),
    "description": (clean_text, ("description",)),
    "brand": (clean_text, ("brand",)),
    "categories": (clean_categories, ("categories", "category")),
}

_CHUNK = 16384  # records whose texts are Python objects at a time


def clean_texts(records: Iterable[tuple[str, Mapping[str, object]]]) -> pa.Table:
    """Cleaned texts of items, as compact as the file that will hold them.

    Args:
        records: item key and metadata record of each item, read one after another.

    Returns:
        Columns item_key and those of `FIELDS`; null where a record has no such field.
    """
    schema = pa.schema([(name, pa.string()) for name in ("item_key", *FIELDS)])
    rest = iter(records)
    chunks = []
    while rows := [(key, *_clean_record(record)) for key, record in islice(rest, _CHUNK)]:
        columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
        chunks.append(pa.record_batch(columns, schema=schema))
    return pa.Table.from_batches(chunks, schema)


def _clean_record(record: Mapping[str, object]) -> Iterator[str | None]:
    for clean, names in FIELDS.values():
        if any(name in record for name in names):
            yield clean(next((record[name] for name in names if record.get(name)), None))
        else:
            yield None


def item_table(texts: pa.Table) -> pa.Table:
    """The items table (ITEMS), ids in the order of the texts.

    Args:
        texts: as of `clean_texts`. A field that none of the items has is null throughout,
            otherwise items without it have an empty text.
    """
    columns = {"item_id": pa.array(np.arange(texts.num_rows, dtype=np.int32))}
    for name in texts.column_names:
        column = texts.column(name)
        columns[name] = column if column.null_count == len(column) else pc.fill_null(column, "")
    return pa.table(columns)


def empty_texts(items: pa.Table) -> dict[str, object]:
    """How many items have an empty text, by field; null where the source has no such field."""
    counts: dict[str, int | None] = {}
    for name in FIELDS:
        texts = items.column(name)
        counts[name] = None if texts.null_count else sum(not text for text in texts.to_pylist())
    return {"items_with_empty_text": counts}
