"""The tables of a filtered dataset, put together from what a source's reader gives."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from macrec_core.catalog.filtering import (
    MIN_SEQUENCE,
    Core,
    leave_one_out,
    renumbered,
    table_1,
)
from macrec_core.catalog.image_shards import ItemImages, image_parts
from macrec_core.catalog.interactions import Interactions
from macrec_core.catalog.texts import empty_texts, item_table
from macrec_core.errors import MacrecError
from macrec_core.params.data import FilterParams

log = logging.getLogger(__name__)


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


def catalogue_of_core(
    raw: Path,
    core: Core,
    texts: pa.Table,
    params: FilterParams,
    dropped: Mapping[str, int],
    *,
    with_images: bool,
) -> Catalogue:
    """The catalogue of a core's interactions, ids by first appearance.

    Args:
        raw: the raw folder, which holds the images.
        core: what is left of the source.
        texts: as of `texts.clean_texts`, of the core's items at least.
        params: what the core was made with.
        dropped: what the reading of the source has left out already, by reason.
        with_images: whether items have images.

    Raises:
        MacrecError: nothing is left.
    """
    if not len(core.interactions):
        raise MacrecError(_nothing_left(raw, core.dropped, params.k_core, dropped))
    item_keys, user_keys, interactions = _by_user(core.interactions)
    items = item_table(_picked(texts, item_keys))
    metrics = (
        table_1(len(user_keys), len(item_keys), interactions.num_rows)
        | {
            "filter": {"k_core": params.k_core, "rounds": core.rounds},
            "dropped": core.dropped | dict(dropped),
        }
        | empty_texts(items)
    )
    log_metrics(metrics)
    return Catalogue(
        items,
        ItemImages(image_parts(raw), item_keys) if with_images else ItemImages(),
        pa.table({"user_id": np.arange(len(user_keys), dtype=np.int32), "user_key": user_keys}),
        interactions,
        metrics,
    )


def _nothing_left(
    raw: Path, dropped: Mapping[str, int], k_core: int, before: Mapping[str, int]
) -> str:
    lost = dropped["interactions_outside_core"]
    unusable = dropped["interactions_without_metadata"] + dropped["interactions_without_image"]
    if not lost and not unusable:
        remedy = "correct the source, in which none can be read"
    elif not lost:
        remedy = "correct the source: of its items none has metadata, and an image if needed"
    else:
        remedy = "take more data"
        if k_core > MIN_SEQUENCE:
            remedy += ", or lower filter.k_core"
        if unusable:
            remedy += ", or mend the source's metadata, and images if needed"
    return (
        f"{raw}: of all interactions none is left, {lost} of them dropped by "
        f"filter.k_core={k_core}, all others before (dropped: {dict(dropped) | dict(before)}); "
        f"{remedy}"
    )


def _picked(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Rows of a table by their item_key, in the order of the keys."""
    row_of = {key: row for row, key in enumerate(table.column("item_key").to_pylist())}
    return table.take([row_of[key] for key in keys])


def _by_user(core: Interactions) -> tuple[list[str], pa.Array, pa.Table]:
    """Keys of items and users in the order of their ids, and artifact INTERACTIONS.

    Ids by first appearance in the chronological `core`.
    """
    users, user_numbers = renumbered(core.users)
    items, item_numbers = renumbered(core.items)
    order = np.argsort(users, kind="stable")  # within a user the chronological order stays
    table = interaction_table(np.bincount(users), items[order], pa.array(core.timestamps[order]))
    user_keys = core.user_keys.gather(user_numbers).to_arrow().cast(pa.string())
    return core.item_keys.gather(item_numbers).to_list(), user_keys, table


def interaction_table(lengths: np.ndarray, items: np.ndarray, timestamps: pa.Array) -> pa.Table:
    """Artifact INTERACTIONS of sequences that stand one after the other.

    Args:
        lengths: interactions of each user, [users].
        items: item ids, [n].
        timestamps: of the interactions, [n]; null where unknown.
    """
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


def log_metrics(metrics: Mapping[str, object]) -> None:
    """One line of sizes, one of what is not there."""
    log.info(
        "%d users, %d items, %d interactions, mean length %.2f",
        metrics["num_users"],
        metrics["num_items"],
        metrics["num_interactions"],
        metrics["average_length"],
    )
    log.info("dropped: %s; empty texts: %s", metrics["dropped"], metrics["items_with_empty_text"])
