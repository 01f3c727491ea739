"""From a raw folder to items, images, users and interactions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from macrec_core.catalog.assembly import (
    Catalogue,
    catalogue_of_core,
    interaction_table,
    log_metrics,
)
from macrec_core.catalog.descriptions import read_descriptions
from macrec_core.catalog.files import kept_table
from macrec_core.catalog.filtering import core_of, items_with_interactions, table_1
from macrec_core.catalog.image_shards import ItemImages, pictured_items
from macrec_core.catalog.manifest import source_kind
from macrec_core.catalog.metadata import BadLines
from macrec_core.catalog.minionerec import rebuilt_sequences
from macrec_core.catalog.published import (
    Sequences,
    count_items,
    read_item_keys,
    read_item_records,
    read_sequences,
)
from macrec_core.catalog.ratings import read_ratings
from macrec_core.catalog.tables import read_interactions, read_items
from macrec_core.catalog.texts import clean_texts, empty_texts, item_table
from macrec_core.errors import MacrecError
from macrec_core.params.data import FilterParams

log = logging.getLogger(__name__)

# The release publishes the reviews of its 5-core; download fetches images for their items.
_RELEASED_CORE = 5


def build_catalogue(raw: Path, modalities: Sequence[str], params: FilterParams) -> Catalogue:
    """Filter a raw folder that `download` has written.

    Args:
        raw: the folder.
        modalities: with `image` among them, an item needs a usable image, unless the source is
            published and kept as it is.
        params: k-core and tolerance.

    Raises:
        MacrecError: a file is missing or broken, too many lines are bad, or nothing is left.
    """
    kind = source_kind(raw)
    if kind == "published":
        return _published(raw)
    if kind == "minionerec":
        return _minionerec(raw)
    if kind == "files":
        return _files(raw, "image" in modalities, params)
    return _amazon(raw, "image" in modalities, params)


def _amazon(raw: Path, need_image: bool, params: FilterParams) -> Catalogue:
    ratings = read_ratings(raw / "ratings.csv")
    pictured = pictured_items(raw) if need_image else None
    # Texts of items that may survive; which ones do is known only with the keys of all metadata.
    candidates = items_with_interactions(ratings.interactions, params.k_core)
    if pictured is not None:
        candidates &= set(pictured)
    metadata = read_descriptions(raw / "metadata.json.gz", candidates)
    bad = {"ratings.csv": ratings.bad_lines, "metadata.json.gz": metadata.bad_lines}
    _check_bad_lines(raw, bad, params)
    if need_image and params.k_core < _RELEASED_CORE:
        log.warning(
            "filter.k_core=%d: images were fetched for items of the released %d-core only; the "
            "others are dropped and counted as without image", params.k_core, _RELEASED_CORE,
        )  # fmt: skip
    core = core_of(ratings.interactions, metadata.keys, pictured, params.k_core)
    dropped = {
        "bad_rating_lines": ratings.bad_lines.count,
        "blank_rating_lines": ratings.blank_lines,
        "bad_metadata_lines": metadata.bad_lines.count,
        "repeated_metadata_records": metadata.duplicates,
    }
    return catalogue_of_core(raw, core, metadata.texts, params, dropped, with_images=need_image)


def _files(raw: Path, need_image: bool, params: FilterParams) -> Catalogue:
    """The same steps as for Amazon; a row that breaks a rule has stopped the reading."""
    interactions = read_interactions(kept_table(raw, "interactions"))
    pictured = pictured_items(raw) if need_image else None
    candidates = items_with_interactions(interactions, params.k_core)
    items = read_items(kept_table(raw, "items"), candidates)
    core = core_of(interactions, items.keys, pictured, params.k_core)
    dropped = {"repeated_metadata_records": items.duplicates}
    return catalogue_of_core(raw, core, items.texts, params, dropped, with_images=need_image)


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
    interactions = interaction_table(lengths, flat, pa.nulls(len(flat), pa.int64()))
    never = num_items - len(np.unique(flat))
    metrics = (
        table_1(num_users, num_items, len(flat))
        | {"filter": None, "dropped": dropped, "items_without_interactions": never, **counts}
        | empty_texts(items)
    )
    log.info("published sequences are kept as they are: no k-core, no other filter")
    log_metrics(metrics)
    return Catalogue(items, ItemImages(), users, interactions, metrics)


def _items(keys: Sequence[str], records: Sequence[Mapping[str, object]]) -> pa.Table:
    return item_table(clean_texts(zip(keys, records, strict=True)))


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
