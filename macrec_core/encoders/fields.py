"""The text fields of the catalogue, as text encoders want them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from macrec_core.errors import MacrecError


def field_texts(items: pa.Table, fields: Sequence[str]) -> dict[str, list[str]]:
    """Texts of each field in the order of the items, outer white space removed.

    Raises:
        MacrecError: a field is null for an item: its source has no texts.
    """
    return {field: _texts(items, field) for field in fields}


def _texts(items: pa.Table, field: str) -> list[str]:
    values: list[str | None] = items.column(field).to_pylist()
    missing = [item for item, value in enumerate(values) if value is None]
    if missing:
        raise MacrecError(
            f"items: column '{field}' is null for {len(missing)} of {len(values)} items "
            f"(first: item {missing[0]}), because the raw folder has no item texts; add the "
            "metadata file (amazon: meta_<category>.json.gz; published: <name>.item.json) and run "
            "download and filter again, or choose an encoder that needs no texts"
        )
    return [value.strip() for value in values if value is not None]
