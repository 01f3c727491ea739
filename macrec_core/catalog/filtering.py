"""From numbered interactions to sequences: duplicates, k-core, order, leave-one-out.

The order of steps is the authors', fixed where it was undefined: known items only; one
interaction per user and item, the earliest; chronological by (timestamp, place in the file);
k-core until nothing changes; ids by first appearance in that order. (The core does not depend
on the order of its interactions, so they are sorted after it, when there are fewer.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from macrec_core.catalog.interactions import Interactions

# Leave-one-out takes a user's last two interactions; one more must be left to learn from.
MIN_SEQUENCE = 3


def earliest_per_pair(interactions: Interactions) -> Interactions:
    """Each user's earliest interaction with each item, by (timestamp, place in the file).

    Args:
        interactions: in file order.

    Returns:
        The same without repeated interactions, still in file order.
    """
    pairs = interactions.users.astype(np.uint64) << np.uint64(32)
    pairs |= interactions.items.astype(np.uint64)
    ordered = np.sort(pairs)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    # Few pairs are repeated; only their interactions are sorted.
    among = pl.Series(pairs).is_in(pl.Series(repeated).implode()).to_numpy()
    rows = np.flatnonzero(among)
    times = interactions.timestamps[rows]
    order = rows[np.lexsort((rows, times, pairs[rows]))]
    later = order[1:][pairs[order[1:]] == pairs[order[:-1]]]
    kept = np.ones(len(pairs), dtype=bool)
    kept[later] = False
    return interactions.chosen(kept)


def k_core(
    users: np.ndarray, items: np.ndarray, min_user: int, min_item: int
) -> tuple[np.ndarray, int]:
    """The largest set of interactions in which all users and items have enough of them.

    Args:
        users: number of each interaction's user, [n], from 0.
        items: number of each interaction's item, [n], from 0.
        min_user: interactions that each user keeps at least.
        min_item: interactions that each item keeps at least.

    Returns:
        Positions of the kept interactions, ascending, and the number of rounds.
    """
    kept = np.arange(len(users))
    rounds = 0
    while True:
        rounds += 1
        enough = (np.bincount(users) >= min_user)[users]
        enough &= (np.bincount(items) >= min_item)[items]
        if enough.all():
            return kept, rounds
        kept, users, items = kept[enough], users[enough], items[enough]


@dataclass(frozen=True)
class Core:
    """Interactions that are left.

    Attributes:
        interactions: chronological.
        rounds: of the k-core.
        dropped: interactions, users and items left out, by reason.
    """

    interactions: Interactions
    rounds: int
    dropped: dict[str, int]


def core_of(
    interactions: Interactions,
    described: Iterable[str],
    pictured: Iterable[str] | None,
    k: int,
) -> Core:
    """Narrow interactions down, step by step; see the module's docstring.

    Args:
        interactions: in file order.
        described: keys of items with metadata.
        pictured: keys of items with an image; None if they need none.
        k: of the k-core; a user keeps at least `MIN_SEQUENCE` in any case.
    """
    with_metadata = _has_item(interactions, described)
    wanted = with_metadata
    if pictured is not None:
        wanted = with_metadata & _has_item(interactions, pictured)
    single = earliest_per_pair(interactions.chosen(wanted))
    users, items = single.users, single.items
    kept, rounds = k_core(users, items, max(k, MIN_SEQUENCE), k)
    described_count, known_count = int(with_metadata.sum()), int(wanted.sum())
    dropped = {
        "interactions_without_metadata": len(interactions) - described_count,
        "interactions_without_image": described_count - known_count,
        "repeated_interactions": known_count - len(single),
        "interactions_outside_core": len(single) - len(kept),
        "users_outside_core": _num_distinct(users) - _num_distinct(users[kept]),
        "items_outside_core": _num_distinct(items) - _num_distinct(items[kept]),
    }
    core = single.chosen(kept)
    # A stable sort: at equal times the order of the file stays.
    return Core(core.chosen(np.argsort(core.timestamps, kind="stable")), rounds, dropped)


def items_with_interactions(interactions: Interactions, least: int) -> set[str]:
    """Keys of items that occur often enough to survive a core of that many, repetitions included.

    Args:
        interactions: of which each counts.
        least: interactions of an item.
    """
    keys = interactions.item_keys
    counts = np.bincount(interactions.items, minlength=len(keys))
    return set(keys.filter(pl.Series(counts >= max(least, 1))))


def _has_item(interactions: Interactions, keys: Iterable[str]) -> np.ndarray:
    """For each interaction whether its item is among the keys, [n] bool."""
    wanted = pl.Series(list(keys), dtype=pl.String)
    known = interactions.item_keys.is_in(wanted.implode()).to_numpy()
    by_row: np.ndarray = known[interactions.items]
    return by_row


def _num_distinct(numbers: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(numbers)))


def renumbered(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number values by first appearance.

    Args:
        values: whole numbers from 0, [n], not much larger than n.

    Returns:
        The number of each value, [n] int32, and the values in the order of their numbers.
    """
    if not len(values):
        return values.astype(np.int32), values
    first = np.full(int(values.max()) + 1, len(values))
    # Of several assignments to one place the last one stays: backwards, the first appearance.
    first[values[::-1]] = np.arange(len(values))[::-1]
    found = np.flatnonzero(first < len(values))
    distinct = found[np.argsort(first[found])]
    numbers = np.zeros(len(first), dtype=np.int32)
    numbers[distinct] = np.arange(len(distinct), dtype=np.int32)
    return numbers[values], distinct


def leave_one_out(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions and splits of users' interactions.

    Args:
        lengths: interactions of each user, [users], each at least `MIN_SEQUENCE`.

    Returns:
        For every interaction, users one after the other: its position in its sequence from 0, and
        its split: the last one `test`, the last but one `valid`, others `train`.
    """
    starts = np.cumsum(lengths) - lengths
    position = np.arange(lengths.sum()) - np.repeat(starts, lengths)
    left = np.repeat(lengths, lengths) - position  # 1 for the last
    split = np.where(left == 1, "test", np.where(left == 2, "valid", "train"))
    return position.astype(np.int32), split


def table_1(users: int, items: int, interactions: int) -> dict[str, object]:
    """The figures of the paper's Table 1; sparsity is a fraction."""
    return {
        "num_users": users,
        "num_items": items,
        "num_interactions": interactions,
        "sparsity": 1 - interactions / (users * items),
        "average_length": interactions / users,
    }
