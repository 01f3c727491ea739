"""Interactions of a source, their keys as numbers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa

_PART = 100_000  # interactions of a part, about, whose dictionary a processor's cache holds


@dataclass(frozen=True)
class Interactions:
    """Who took what, and when.

    Attributes:
        users: number of each interaction's user, [n] int32.
        items: number of each interaction's item, [n] int32.
        timestamps: in the source's unit, [n] int64.
        user_keys: key of each number; also of users without an interaction left.
        item_keys: key of each number; likewise.
    """

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    user_keys: pl.Series
    item_keys: pl.Series

    def __len__(self) -> int:
        return len(self.users)

    def chosen(self, rows: np.ndarray) -> Interactions:
        """Those at some positions, in their order, or those where `rows` [n] is true."""
        return replace(
            self,
            users=self.users[rows],
            items=self.items[rows],
            timestamps=self.timestamps[rows],
        )

    def rows(self) -> list[tuple[str, str, int]]:
        """User key, item key and timestamp of each."""
        users, items = self.user_keys.gather(self.users), self.item_keys.gather(self.items)
        return list(zip(users, items, self.timestamps.tolist(), strict=True))


def numbered_interactions(table: pl.DataFrame) -> Interactions:
    """Number the keys of interactions, users and items each from 0, in no particular order.

    Keys are looked up in dictionaries: exact, unlike a hash, and of whatever length.

    Args:
        table: columns user_key and item_key (text) and timestamp (Int64), without nulls. The keys
            are taken out of it, so that they lie in memory once (while a column is being
            taken, that one twice).
    """
    columns = [_taken(table, name) for name in ("user_key", "item_key")]
    # Arrow and NumPy work on one core, and release Python's lock.
    with ThreadPoolExecutor(len(columns)) as threads:
        (users, user_keys), (items, item_keys) = threads.map(_numbered, *zip(*columns, strict=True))
    del columns
    pa.default_memory_pool().release_unused()  # which it would keep for itself: 2 GB of 50 million
    timestamps = table.get_column("timestamp").to_numpy()
    return Interactions(users, items, timestamps, user_keys, item_keys)


def _taken(table: pl.DataFrame, name: str) -> tuple[pa.Array, np.ndarray]:
    """A column's keys, and the part of each, [n] uint16: equal keys are in one part."""
    column = table.drop_in_place(name)
    # Whole numbers of 16 bits are sorted by their digits, in one go.
    count = min(len(column) // _PART + 1, 1 << 16)
    parts = (column.hash() % count).cast(pl.UInt16).to_numpy()
    chunks = column.get_chunks()[::-1]
    del column
    arrays = [pa.array([], pa.large_string())]
    while chunks:  # each goes as it is copied
        arrays.append(chunks.pop().to_arrow(compat_level=pl.CompatLevel.oldest()))
    return pa.concat_arrays(arrays), parts


def _numbered(keys: pa.Array, parts: np.ndarray) -> tuple[np.ndarray, pl.Series]:
    """Number of each key, [n] int32, and the key of each number."""
    order = np.argsort(parts, kind="stable")
    ends = np.cumsum(np.bincount(parts))
    numbers = np.empty(len(keys), np.int32)
    dictionaries: list[pa.Array] = []
    known = 0
    # A dictionary of many millions misses the processor's cache at every key, that of a part not.
    for rows in np.split(order, ends[:-1]):
        encoded = keys.take(pa.array(rows)).dictionary_encode()
        numbers[rows] = encoded.indices.to_numpy()
        numbers[rows] += np.int32(known)
        known += len(encoded.dictionary)
        dictionaries.append(encoded.dictionary)
    return numbers, pl.Series(pa.concat_arrays(dictionaries), dtype=pl.String)
