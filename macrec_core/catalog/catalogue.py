"""From a raw folder to items, images, users and interactions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from macrec_core.catalog.cleaning import clean_categories, clean_text
from macrec_core.catalog.filtering import (
    codes,
    core_of,
    leave_one_out,
    read_ratings,
    table_1,
)
from macrec_core.catalog.image_shards import ItemImages, image_parts, pictured_items
from macrec_core.catalog.manifest import source_kind
from macrec_core.catalog.metadata import BadLines, read_metadata
from macrec_core.catalog.minionerec import rebuilt_sequences
from macrec_core.catalog.published import (
    Sequences,
    count_items,
    read_item_keys,
    read_item_records,
    read_sequences,
)
from macrec_core.errors import MacrecError
from macrec_core.params.data import FilterParams

log = logging.getLogger(__name__)

# Column of ITEMS: how it is cleaned, and under which names sources give it.
_FIELDS: dict[str, tuple[Callable[[object], str], tuple[str, ...]]] = {
    "title": (clean_text, ("title",)),
    "description": (clean_text, ("description",)),
    "brand": (clean_text, ("brand",)),
    "categories": (clean_categories, ("categories", "category")),
}

# The release publishes the reviews of its 5-core; download fetches images for their items.
_RELEASED_CORE = 5


@dataclass(frozen=True)
class Catalogue:
    """A dataset, filtered.

    Attributes:
        items: contract ITEMS.
        images: writes contract IMAGES; empty where the source or the modalities have none.
        users: contract USERS.
        interactions: contract INTERACTIONS.
        metrics: Table 1's figures, and what was dropped and why.
    """

    items: pa.Table
    images: ItemImages
    users: pa.Table
    interactions: pa.Table
    metrics: dict[str, object]


def build_catalogue(raw: Path, modalities: Sequence[str], params: FilterParams) -> Catalogue:
    """Filter a raw folder that `download` has written.

    Args:
        raw: the folder.
        modalities: with `image` among them, an Amazon item needs a usable image.
        params: k-core and tolerance.

    Raises:
        MacrecError: a file is missing or broken, too many lines are bad, or nothing is left.
    """
    kind = source_kind(raw)
    if kind == "published":
        return _published(raw)
    if kind == "minionerec":
        return _minionerec(raw)
    return _amazon(raw, "image" in modalities, params)


def _amazon(raw: Path, need_image: bool, params: FilterParams) -> Catalogue:
    ratings = read_ratings(raw / "ratings.csv")
    metadata = read_metadata(raw / "metadata.json.gz")
    bad = {"ratings.csv": ratings.bad_lines, "metadata.json.gz": metadata.bad_lines}
    _check_bad_lines(raw, bad, params)
    pictured = pictured_items(raw) if need_image else None
    if need_image and params.k_core < _RELEASED_CORE:
        log.warning(
            "filter.k_core=%d: images were fetched for items of the released %d-core only; the "
            "others are dropped and counted as without image", params.k_core, _RELEASED_CORE,
        )  # fmt: skip
    core = core_of(ratings.table, metadata.records, pictured, params.k_core)
    if not core.table.height:
        raise MacrecError(
            f"{raw}: of {ratings.table.height} interactions none is left by filter.k_core="
            f"{params.k_core} (dropped: {core.dropped}); lower it, or check the source"
        )
    items, users, interactions = _numbered(core.table)
    item_keys = items.get_column("item_key").to_list()
    item_table = _items(item_keys, [metadata.records[key] for key in item_keys])
    dropped = core.dropped | {
        "bad_rating_lines": ratings.bad_lines.count,
        "blank_rating_lines": ratings.blank_lines,
        "bad_metadata_lines": metadata.bad_lines.count,
        "repeated_metadata_records": metadata.duplicates,
    }
    metrics = (
        table_1(users.height, items.height, core.table.height)
        | {"filter": {"k_core": params.k_core, "rounds": core.rounds}, "dropped": dropped}
        | _empty_fields(item_table)
    )
    _log(metrics)
    return Catalogue(
        item_table,
        ItemImages(image_parts(raw), item_keys) if need_image else ItemImages(),
        users.select("user_id", "user_key").to_arrow(),
        interactions,
        metrics,
    )


def _published(raw: Path) -> Catalogue:
    """Sequences exactly as published: the order is the position, and nothing is filtered."""
    sequences = read_sequences(raw / "inter.json")
    item2id, item_json = (
        path if path.is_file() else None for path in (raw / "item2id", raw / "item.json")
    )
    num_items = count_items(raw / "inter.json", item2id, item_json)
    keys = read_item_keys(item2id) if item2id else [str(item) for item in range(num_items)]
    items = _items(keys, read_item_records(item_json) if item_json else [{}] * num_items)
    return _of_sequences(sequences, items, {}, {})


def _minionerec(raw: Path) -> Catalogue:
    """Sequences put together from rows; nothing is filtered but what leave-one-out cannot hold."""
    records = read_item_records(raw / "item.json")
    rebuilt = rebuilt_sequences(raw, len(records))
    items = _items([str(item) for item in range(len(records))], records)
    return _of_sequences(rebuilt.sequences, items, rebuilt.counts, rebuilt.dropped)


def _of_sequences(
    sequences: Sequences,
    items: pa.Table,
    counts: Mapping[str, object],
    dropped: Mapping[str, object],
) -> Catalogue:
    """A catalogue of published sequences, and what was counted and dropped at their reading."""
    num_items = items.num_rows
    lengths = np.asarray([len(sequence) for sequence in sequences.items])
    flat = np.concatenate(sequences.items)
    num_users = len(sequences.user_keys)
    users = pa.table({"user_id": np.arange(num_users), "user_key": sequences.user_keys})
    interactions = _interactions(lengths, flat, pa.nulls(len(flat), pa.int64()))
    never = num_items - len(np.unique(flat))
    metrics = (
        table_1(num_users, num_items, len(flat))
        | {"filter": None, "dropped": dropped, "items_without_interactions": never, **counts}
        | _empty_fields(items)
    )
    log.info("published sequences are kept as they are: no k-core, no other filter")
    _log(metrics)
    return Catalogue(items, ItemImages(), users, interactions, metrics)


def _check_bad_lines(raw: Path, bad: Mapping[str, BadLines], params: FilterParams) -> None:
    for name, lines in bad.items():
        if lines.count:
            log.warning(
                "%s: %d unreadable lines left out, the first: %s",
                raw / name,
                lines.count,
                ", ".join(map(str, lines.first)),
            )
    total = sum(lines.count for lines in bad.values())
    if total > params.max_bad_lines:
        where = "; ".join(
            f"{name}: {lines.count}, the first in lines {', '.join(map(str, lines.first))}"
            for name, lines in bad.items()
            if lines.count
        )
        raise MacrecError(
            f"{raw}: {total} unreadable lines, more than filter.max_bad_lines="
            f"{params.max_bad_lines} ({where}); check the source, or raise the limit"
        )


def _numbered(core: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pa.Table]:
    """Items, users and interactions, ids by first appearance in the chronological `core`."""
    numbered = core.with_columns(
        pl.Series("user_id", codes(core.get_column("user_key"))),
        pl.Series("item_id", codes(core.get_column("item_key"))),
    )
    users = numbered.select("user_id", "user_key").unique("user_id").sort("user_id")
    items = numbered.select("item_id", "item_key").unique("item_id").sort("item_id")
    # A stable sort: within a user the chronological order stays.
    by_user = numbered.sort("user_id", maintain_order=True)
    lengths = np.bincount(by_user.get_column("user_id").to_numpy())
    interactions = _interactions(
        lengths,
        by_user.get_column("item_id").to_numpy(),
        pa.array(by_user.get_column("timestamp").to_numpy()),
    )
    return items, users, interactions


def _interactions(lengths: np.ndarray, items: np.ndarray, timestamps: pa.Array) -> pa.Table:
    position, split = leave_one_out(lengths)
    return pa.table(
        {
            "user_id": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            "position": position,
            "item_id": items,
            "timestamp": timestamps,
            "split": pa.array(split, pa.string()),
        }
    )


def _items(keys: Sequence[str], records: Sequence[Mapping[str, object]]) -> pa.Table:
    """The items table; a field that no record of the source has is null throughout."""
    columns: dict[str, pa.Array] = {
        "item_id": pa.array(np.arange(len(keys), dtype=np.int32)),
        "item_key": pa.array(keys, pa.string()),
    }
    for column, (clean, names) in _FIELDS.items():
        if any(name in record for record in records for name in names):
            texts = [clean(_first(record, names)) for record in records]
            columns[column] = pa.array(texts, pa.string())
        else:
            columns[column] = pa.nulls(len(keys), pa.string())
    return pa.table(columns)


def _first(record: Mapping[str, object], names: Sequence[str]) -> object:
    return next((record[name] for name in names if record.get(name)), None)


def _empty_fields(items: pa.Table) -> dict[str, object]:
    """How many items have an empty text, by field; null where the source has no such field."""
    counts: dict[str, int | None] = {}
    for column in _FIELDS:
        texts = items.column(column)
        counts[column] = None if texts.null_count else sum(not text for text in texts.to_pylist())
    return {"items_with_empty_text": counts}


def _log(metrics: Mapping[str, object]) -> None:
    log.info(
        "%d users, %d items, %d interactions, mean length %.2f",
        metrics["num_users"],
        metrics["num_items"],
        metrics["num_interactions"],
        metrics["average_length"],
    )
    log.info("dropped: %s; empty texts: %s", metrics["dropped"], metrics["items_with_empty_text"])
