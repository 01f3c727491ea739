"""From numbered interactions to sequences: duplicates, k-core, order, leave-one-out.

The order of steps is the authors', fixed where it was undefined: known items only; one
interaction per user and item, the earliest; chronological by (timestamp, place in the file);
k-core until nothing changes; ids by first appearance in that order. (Who is in the core depends
on who took what alone. So it is found from the pairs of user and item, and the earliest
interactions are chosen and sorted after it, when there are fewer.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from macrec_core.catalog.interactions import Interactions

log = logging.getLogger(__name__)

# Leave-one-out takes a user's last two interactions; one more must be left to learn from.
MIN_SEQUENCE = 3

_HALF = np.uint64(32)  # bits
_TOLD_FROM = 0.05  # share of interactions


def earliest_per_pair(interactions: Interactions) -> Interactions:
    """Each user's earliest interaction with each item, by (timestamp, place in the file).

    Args:
        interactions: in file order.

    Returns:
        The same without repeated interactions, still in file order.
    """
    pairs = _pairs(interactions)
    ordered = np.sort(pairs)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    # Few pairs are repeated; only their interactions are sorted.
    among = pl.Series(pairs).is_in(pl.Series(repeated).implode()).to_numpy()
    rows = np.flatnonzero(among)
    times = interactions.timestamps[rows]
    order = rows[np.lexsort((rows, times, pairs[rows]))]
    later = order[1:][pairs[order[1:]] == pairs[order[:-1]]]
    kept = np.ones(len(pairs), dtype=bool)
    kept[later] = False
    return interactions.chosen(kept)


def distinct_pairs(interactions: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """Who took what, however often: the users and the items of all pairs, [n] int32 each.

    By user, then by item: what is counted a user lies side by side, which is quick.
    """
    pairs = _pairs(interactions)
    pairs.sort()
    new = np.ones(len(pairs), dtype=bool)
    np.not_equal(pairs[1:], pairs[:-1], out=new[1:])
    pairs = pairs[new]
    return (pairs >> _HALF).astype(np.int32), pairs.astype(np.uint32).view(np.int32)


def _pairs(interactions: Interactions) -> np.ndarray:
    """User and item of each interaction as one number, [n] uint64."""
    pairs = interactions.users.astype(np.uint64) << _HALF
    pairs |= interactions.items.astype(np.uint64)
    return pairs


@dataclass(frozen=True)
class Members:
    """Who is in a k-core.

    Attributes:
        users: for each user whether they are, [users] bool.
        items: for each item whether it is, [items] bool.
        pairs: pairs of the two.
        rounds: after which nothing changed.
    """

    users: np.ndarray
    items: np.ndarray
    pairs: int
    rounds: int


def k_core(users: np.ndarray, items: np.ndarray, min_user: int, min_item: int) -> Members:
    """The largest set of pairs in which all users and items have enough of them.

    Args:
        users: number of each pair's user, [n], from 0; quickest in their order.
        items: number of each pair's item, [n], from 0.
        min_user: pairs that each user keeps at least, 1 or more.
        min_item: pairs that each item keeps at least, 1 or more.
    """
    user_counts, item_counts = np.bincount(users), np.bincount(items)
    rounds = 0
    while True:
        rounds += 1
        enough_users, enough_items = user_counts >= min_user, item_counts >= min_item
        enough = enough_users[users]
        enough &= enough_items[items]
        if enough.all():
            return Members(enough_users, enough_items, len(users), rounds)
        # Late rounds lose few pairs: counting those is quicker than counting what is left.
        lost = ~enough
        user_counts -= np.bincount(users[lost], minlength=len(user_counts))
        item_counts -= np.bincount(items[lost], minlength=len(item_counts))
        users, items = users[enough], items[enough]


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
    _tell_unknown(interactions, with_metadata)
    known = interactions.chosen(wanted)
    users, items = distinct_pairs(known)
    members = k_core(users, items, max(k, MIN_SEQUENCE), k)
    dropped = {
        "interactions_without_metadata": len(interactions) - int(with_metadata.sum()),
        "interactions_without_image": int(with_metadata.sum()) - len(known),
        "repeated_interactions": len(known) - len(users),
        "interactions_outside_core": len(users) - members.pairs,
        "users_outside_core": _num_distinct(users) - int(members.users.sum()),
        "items_outside_core": _num_distinct(items) - int(members.items.sum()),
    }
    del users, items
    core = earliest_per_pair(known.chosen(_by_members(known, members)))
    return Core(_chronological(core), members.rounds, dropped)


def _tell_unknown(interactions: Interactions, with_metadata: np.ndarray) -> None:
    """Warn if keys of interactions and metadata look as if they did not belong together."""
    lost = len(with_metadata) - int(with_metadata.sum())
    if lost > _TOLD_FROM * len(with_metadata):
        first = int(interactions.items[np.argmin(with_metadata)])
        log.warning(
            "%d of %d interactions (%.0f %%) are dropped, with items that have no metadata, the "
            "first %r; if they should, correct the keys",
            lost, len(with_metadata), 100 * lost / len(with_metadata),
            interactions.item_keys[first],
        )  # fmt: skip


def _by_members(interactions: Interactions, members: Members) -> np.ndarray:
    """For each interaction whether its user and its item are in the core, [n] bool."""
    inside: np.ndarray = members.users[interactions.users]
    inside &= members.items[interactions.items]
    return inside


def _chronological(interactions: Interactions) -> Interactions:
    """By timestamp; at equal times the order of the file stays."""
    times = pl.DataFrame({"time": interactions.timestamps}).with_row_index("row")
    rows = times.sort("time", maintain_order=True).get_column("row")
    return interactions.chosen(rows.to_numpy())


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
