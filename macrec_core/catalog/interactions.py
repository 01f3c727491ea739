"""Interactions of a source, their keys as numbers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa


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
    """Number the keys of interactions, users and items each from 0 by first appearance.

    Keys are looked up in a dictionary: exact, unlike a hash, and of whatever length.

    Args:
        table: columns user_key and item_key (text) and timestamp, without nulls. The keys are
            taken out of it, so that only those of one column lie in memory twice.
    """
    columns = [_taken(table, name) for name in ("user_key", "item_key")]
    # Arrow looks up on one core, and releases Python's lock.
    with ThreadPoolExecutor(len(columns)) as threads:
        (users, user_keys), (items, item_keys) = threads.map(_numbered, columns)
    del columns
    timestamps = table.get_column("timestamp").cast(pl.Int64).to_numpy()
    return Interactions(users, items, timestamps, user_keys, item_keys)


def _taken(table: pl.DataFrame, name: str) -> pa.ChunkedArray:
    chunks = [chunk.to_arrow() for chunk in table.drop_in_place(name).get_chunks()]
    return pa.chunked_array(chunks, pa.large_string())


def _numbered(keys: pa.ChunkedArray) -> tuple[np.ndarray, pl.Series]:
    """Number of each key, [n] int32, and the key of each number."""
    encoded = keys.dictionary_encode().combine_chunks()
    numbers: np.ndarray = encoded.indices.to_numpy()
    return numbers, pl.Series(encoded.dictionary, dtype=pl.String)
