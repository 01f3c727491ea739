"""Amazon ratings: one `item,user,rating,timestamp` a line, streamed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from macrec_core.catalog.interactions import Interactions, numbered_interactions
from macrec_core.catalog.metadata import KEY_PATTERN, BadLines
from macrec_core.errors import MacrecError

# Parts of a line beyond the fourth, which must be empty.
_EXCESS = ("excess_5", "excess_6", "excess_7", "excess_8")


@dataclass(frozen=True)
class Ratings:
    """Readable lines of a ratings file.

    Attributes:
        interactions: in file order; timestamps in seconds.
        bad_lines: lines that are no `item,user,rating,timestamp`.
        blank_lines: lines without anything, or of commas alone, ignored.
    """

    interactions: Interactions
    bad_lines: BadLines
    blank_lines: int


def read_ratings(path: Path) -> Ratings:
    """Read a ratings file without header: item, user, rating, timestamp (seconds).

    The file streams through; what stays in memory is 16 bytes a rating and each key once, and
    until the keys are numbered each as often as it is rated.

    Raises:
        MacrecError: the file cannot be read.
    """
    parsed = _parsed(path)
    good = parsed.filter("good").select("user_key", "item_key", "timestamp")
    bad = parsed.filter(~pl.col("good") & ~pl.col("blank")).select("line")
    blank = parsed.filter("blank").select(pl.len())
    try:
        table, bad_table, blank_table = pl.collect_all([good, bad, blank], engine="streaming")
    except (PolarsError, OSError) as error:
        raise MacrecError(f"{path}: cannot be read ({error}); run download again") from error
    numbers = bad_table.get_column("line")
    bad_lines = BadLines(len(numbers), tuple(numbers.head(10).to_list()))
    return Ratings(numbered_interactions(table), bad_lines, blank_table.item())


def _parsed(path: Path) -> pl.LazyFrame:
    """All lines, with columns `blank` (nothing in it) and `good` (four readable parts)."""
    # Everything as text, and more columns, which show lines with too many parts: Polars would
    # refuse a ragged line, or drop what is too much, without a word. Of a field's end it takes a
    # carriage return away.
    columns = ("item_key", "user_key", "rating", "timestamp", *_EXCESS)
    lines = pl.scan_csv(
        path,
        has_header=False,
        schema=dict.fromkeys(columns, pl.String),
        quote_char=None,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        missing_columns="insert",
        extra_columns="ignore",
        glob=False,
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
                pl.col(*_EXCESS).is_null(),
            )
            .fill_null(False)
            .alias("good")
        )
    )
