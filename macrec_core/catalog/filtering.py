"""From raw ratings to sequences: duplicates, order, k-core, leave-one-out.

The order of steps is the authors', fixed where it was undefined: known items only; one
interaction per user and item, the earliest; chronological by (timestamp, line of the file);
k-core until nothing changes; ids by first appearance in that order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from macrec_core.catalog.metadata import KEY_PATTERN, BadLines
from macrec_core.errors import MacrecError

# Leave-one-out takes a user's last two interactions; one more must be left to learn from.
MIN_SEQUENCE = 3


@dataclass(frozen=True)
class Ratings:
    """Readable lines of a ratings file.

    Attributes:
        table: columns line (from 1), user_key, item_key, timestamp; in file order.
        bad_lines: lines that are no `item,user,rating,timestamp`.
        blank_lines: lines without anything, ignored.
    """

    table: pl.DataFrame
    bad_lines: BadLines
    blank_lines: int


def read_ratings(path: Path) -> Ratings:
    """Read a ratings file without header: item, user, rating, timestamp (seconds).

    Raises:
        MacrecError: the file cannot be read.
    """
    parsed = _parsed(path)
    good = parsed.filter("good").select("line", "user_key", "item_key", "timestamp")
    bad = parsed.filter(~pl.col("good") & ~pl.col("blank")).select("line")
    blank = parsed.filter("blank").select(pl.len())
    try:
        table, bad_table, blank_table = pl.collect_all([good, bad, blank])
    except (PolarsError, OSError) as error:
        raise MacrecError(f"{path}: cannot be read ({error}); run download again") from error
    numbers = bad_table.get_column("line")
    return Ratings(
        table, BadLines(len(numbers), tuple(numbers.head(10).to_list())), blank_table.item()
    )


def _parsed(path: Path) -> pl.LazyFrame:
    """All lines, with columns `blank` (nothing in it) and `good` (four readable parts)."""
    # Everything as text, and a fifth column that shows lines with too many parts: Polars would
    # refuse a ragged line, or drop what is too much, without a word.
    columns = ("item_key", "user_key", "rating", "timestamp", "excess")
    lines = pl.scan_csv(
        path,
        has_header=False,
        schema=dict.fromkeys(columns, pl.String),
        quote_char=None,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        missing_columns="insert",
        extra_columns="ignore",
        row_index_name="line",
        row_index_offset=1,
    )
    is_key = [pl.col(name).str.contains(KEY_PATTERN) for name in ("item_key", "user_key")]
    return (
        lines.with_columns(pl.all_horizontal(pl.col(*columns).is_null()).alias("blank"))
        .with_columns(
            pl.col("rating").cast(pl.Float64, strict=False),
            pl.col("timestamp").cast(pl.Int64, strict=False),
        )
        .with_columns(
            pl.all_horizontal(
                *is_key,
                pl.col("rating").is_finite(),
                pl.col("timestamp").is_not_null(),
                pl.col("excess").is_null(),
            )
            .fill_null(False)
            .alias("good")
        )
    )


def earliest_per_pair(ratings: pl.DataFrame) -> pl.DataFrame:
    """Sort by (timestamp, line) and keep each user's first interaction with each item."""
    return ratings.sort("timestamp", "line").unique(
        subset=["user_key", "item_key"], keep="first", maintain_order=True
    )


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
        user_counts, item_counts = np.bincount(users[kept]), np.bincount(items[kept])
        enough = (user_counts[users[kept]] >= min_user) & (item_counts[items[kept]] >= min_item)
        if enough.all():
            return kept, rounds
        kept = kept[enough]


@dataclass(frozen=True)
class Core:
    """Interactions that are left.

    Attributes:
        table: columns as of `Ratings.table`, chronological.
        rounds: of the k-core.
        dropped: interactions, users and items left out, by reason.
    """

    table: pl.DataFrame
    rounds: int
    dropped: dict[str, int]


def core_of(
    ratings: pl.DataFrame,
    described: Iterable[str],
    pictured: Iterable[str] | None,
    k: int,
) -> Core:
    """Narrow ratings down, step by step; see the module's docstring.

    Args:
        ratings: as of `Ratings.table`.
        described: keys of items with metadata.
        pictured: keys of items with an image; None if they need none.
        k: of the k-core; a user keeps at least `MIN_SEQUENCE` in any case.
    """
    with_metadata = _of_items(ratings, described)
    known = with_metadata if pictured is None else _of_items(with_metadata, pictured)
    single = earliest_per_pair(known)
    users, items = single.get_column("user_key"), single.get_column("item_key")
    kept, rounds = k_core(codes(users), codes(items), max(k, MIN_SEQUENCE), k)
    table = single[kept]
    dropped = {
        "interactions_without_metadata": ratings.height - with_metadata.height,
        "interactions_without_image": with_metadata.height - known.height,
        "repeated_interactions": known.height - single.height,
        "interactions_outside_core": single.height - table.height,
        "users_outside_core": users.n_unique() - table.get_column("user_key").n_unique(),
        "items_outside_core": items.n_unique() - table.get_column("item_key").n_unique(),
    }
    return Core(table, rounds, dropped)


def _of_items(ratings: pl.DataFrame, keys: Iterable[str]) -> pl.DataFrame:
    wanted = pl.DataFrame({"item_key": pl.Series(list(keys), dtype=pl.String)})
    return ratings.join(wanted, on="item_key", how="semi", maintain_order="left")


def codes(values: pl.Series) -> np.ndarray:
    """Number each value by first appearance, from 0."""
    numbered = values.unique(maintain_order=True).to_frame("value").with_row_index("code")
    joined = values.to_frame("value").join(numbered, on="value", how="left", maintain_order="left")
    return joined.get_column("code").to_numpy().astype(np.int32)


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
