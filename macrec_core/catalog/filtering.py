"""From coded interactions to sequences: duplicates, k-core, order, leave-one-out.

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

# Leave-one-out takes a user's last two interactions; one more must be left to learn from.
MIN_SEQUENCE = 3


def earliest_per_pair(interactions: pl.DataFrame) -> pl.DataFrame:
    """Each user's earliest interaction with each item, by (timestamp, place in the table).

    Args:
        interactions: columns of `ratings.coded_keys`, in file order.

    Returns:
        The same without repeated interactions, still in file order.
    """
    users, items = (_codes_of(interactions, name) for name in ("user_key", "item_key"))
    pairs = (users.astype(np.uint64) << np.uint64(32)) | items
    ordered = np.sort(pairs)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    # Few pairs are repeated; only their interactions are sorted.
    among = pl.Series(pairs).is_in(pl.Series(repeated).implode()).to_numpy()
    rows = np.flatnonzero(among)
    times = interactions.get_column("timestamp").gather(rows).to_numpy()
    order = rows[np.lexsort((rows, times, pairs[rows]))]
    later = order[1:][pairs[order[1:]] == pairs[order[:-1]]]
    kept = np.ones(len(pairs), dtype=bool)
    kept[later] = False
    return interactions.filter(pl.Series(kept))


def k_core(
    users: np.ndarray, items: np.ndarray, min_user: int, min_item: int
) -> tuple[np.ndarray, int]:
    """The largest set of interactions in which all users and items have enough of them.

    Args:
        users: user code of each interaction, [n], counting from 0.
        items: item code of each interaction, [n], counting from 0.
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
        table: columns of `ratings.coded_keys`, chronological.
        rounds: of the k-core.
        dropped: interactions, users and items left out, by reason.
    """

    table: pl.DataFrame
    rounds: int
    dropped: dict[str, int]


def core_of(
    interactions: pl.DataFrame,
    described: Iterable[str],
    pictured: Iterable[str] | None,
    k: int,
) -> Core:
    """Narrow interactions down, step by step; see the module's docstring.

    Args:
        interactions: columns of `ratings.coded_keys`, in file order.
        described: keys of items with metadata.
        pictured: keys of items with an image; None if they need none.
        k: of the k-core; a user keeps at least `MIN_SEQUENCE` in any case.
    """
    with_metadata = _has_item(interactions, described)
    wanted = with_metadata
    if pictured is not None:
        wanted = with_metadata & _has_item(interactions, pictured)
    single = earliest_per_pair(interactions.filter(pl.Series(wanted)))
    users, items = (_codes_of(single, name) for name in ("user_key", "item_key"))
    kept, rounds = k_core(users, items, max(k, MIN_SEQUENCE), k)
    described_count, known_count = int(with_metadata.sum()), int(wanted.sum())
    dropped = {
        "interactions_without_metadata": interactions.height - described_count,
        "interactions_without_image": described_count - known_count,
        "repeated_interactions": known_count - single.height,
        "interactions_outside_core": single.height - len(kept),
        "users_outside_core": _num_distinct(users) - _num_distinct(users[kept]),
        "items_outside_core": _num_distinct(items) - _num_distinct(items[kept]),
    }
    # A stable sort: at equal times the order of the file stays.
    table = single[kept].sort("timestamp", maintain_order=True)
    return Core(table, rounds, dropped)


def items_with_interactions(interactions: pl.DataFrame, least: int) -> set[str]:
    """Keys of items that occur often enough to survive a core of that many, repetitions included.

    Args:
        interactions: columns of `ratings.coded_keys`.
        least: interactions of an item.
    """
    keys = keys_by_code(interactions.get_column("item_key"))
    counts = np.bincount(_codes_of(interactions, "item_key"), minlength=len(keys))
    return set(keys.filter(pl.Series(counts >= max(least, 1))))


def keys_by_code(column: pl.Series) -> pl.Series:
    """All keys of a coded column, in the order of their codes."""
    kind = column.dtype
    assert isinstance(kind, pl.Categorical)
    return kind.categories.to_series()


def _codes_of(interactions: pl.DataFrame, name: str) -> np.ndarray:
    """Codes of a column, [n] uint32."""
    return interactions.get_column(name).to_physical().to_numpy()


def _has_item(interactions: pl.DataFrame, keys: Iterable[str]) -> np.ndarray:
    """For each interaction whether its item is among the keys, [n] bool."""
    wanted = pl.Series(list(keys), dtype=pl.String)
    known = keys_by_code(interactions.get_column("item_key")).is_in(wanted.implode())
    by_code = known.fill_null(False).to_numpy()
    by_row: np.ndarray = by_code[_codes_of(interactions, "item_key")]
    return by_row


def _num_distinct(codes: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(codes)))


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
