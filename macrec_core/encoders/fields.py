"""The text fields of the catalogue, as text encoders want them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from macrec_core.errors import MacrecError


def check_fields(items: pa.Table, fields: Sequence[str]) -> None:
    """Check that every item has each of the fields, be it empty.

    Raises:
        MacrecError: a field is null for an item: its source has no texts.
    """
    for field in fields:
        column = items.column(field)
        if column.null_count:
            missing = np.flatnonzero(column.is_null())
            raise MacrecError(
                f"items: column '{field}' is null for {len(missing)} of {items.num_rows} items "
                f"(first: item {missing[0]}), because the raw folder has no item texts; add the "
                "metadata file (amazon: meta_<category>.json.gz; published: <name>.item.json) and "
                "run download and filter again, or choose an encoder that needs no texts"
            )


def field_texts(items: pa.Table, fields: Sequence[str]) -> dict[str, list[str]]:
    """Texts of each field in the order of the items, outer white space removed."""
    return {field: [text.strip() for text in items.column(field).to_pylist()] for field in fields}
