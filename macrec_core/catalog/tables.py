"""Reads the two tables of source `files`: interactions and items, Parquet or CSV.

Unlike a release that others made, one's own table has no broken rows that must be lived with:
the first that breaks a rule stops the reading.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TextIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.exceptions import PanicException, PolarsError

from macrec_core.catalog.descriptions import Descriptions
from macrec_core.catalog.interactions import Interactions, numbered_interactions
from macrec_core.catalog.metadata import KEY_PATTERN, bad_lines
from macrec_core.catalog.texts import clean_texts
from macrec_core.errors import MacrecError

log = logging.getLogger(__name__)

# Of a damaged Parquet file Polars may also break an assertion of its own.
_UNREADABLE = (PolarsError, PanicException, OSError)

SUFFIXES = (".parquet", ".csv")
_SHOWN = 60  # letters of a text in an error
_LONGEST = 1 << 24  # letters of a CSV field, when a broken one is looked for
# A record of a CSV file, without the end of its line: quotes only around whole fields, and doubled
# inside them.
_FIELD = r'(?:"(?:[^"]|"")*"|[^",\r\n]*)'
_RECORD = re.compile(f"{_FIELD}(?:,{_FIELD})*")
_INTERACTIONS = ("user", "item", "timestamp")
_IGNORED = ("rating",)  # known, of no use here
_ITEMS = ("item", "title")
_MORE_OF_ITEMS = ("description", "brand", "categories", "image")


def read_interactions(path: Path) -> Interactions:
    """Interactions of a table with columns user, item and timestamp, in its order.

    Args:
        path: the file. user and item are text or whole numbers. timestamp is a whole number, or
            in Parquet a date or time, which becomes microseconds since 1970.

    Raises:
        MacrecError: the file cannot be read, or a column or row breaks a rule.
    """
    table = _scanned(path, _INTERACTIONS, _IGNORED)
    _tell_ignored(path, table, (*_INTERACTIONS, *_IGNORED))
    schema = table.collect_schema()
    keys = [_key(path, schema, name).alias(f"{name}_key") for name in ("user", "item")]
    named = table.select(*keys, _time(path, schema)).with_row_index("row", offset=1)
    good = pl.all_horizontal(
        pl.col("user_key").str.contains(KEY_PATTERN),
        pl.col("item_key").str.contains(KEY_PATTERN),
        pl.col("timestamp").is_not_null(),
    ).fill_null(False)
    readable, broken = _collected(
        path, [named.filter(good).drop("row"), named.filter(~good).select("row")]
    )
    expected = "a user, an item and a whole-number timestamp (such as seconds since 1970; dates in "
    expected += "Parquet alone, as dates or times)"
    _check_rows(path, table, broken, _INTERACTIONS, expected)
    return numbered_interactions(readable)


def read_items(path: Path, wanted: Set[str]) -> Descriptions:
    """Items of a table with columns item and title, maybe description, brand and categories.

    Args:
        path: the file. item is text or a whole number; the others are text, or in Parquet also
            lists of text.
        wanted: keys of the items whose texts are needed.

    Raises:
        MacrecError: the file cannot be read, or a column or row breaks a rule.
    """
    table, keyed = _items(path)
    _tell_ignored(path, table, (*_ITEMS, *_MORE_OF_ITEMS))
    good = pl.col("item_key").str.contains(KEY_PATTERN).fill_null(False)
    numbered = keyed.with_row_index("row", offset=1)
    keys, broken, chosen = _collected(
        path,
        [
            keyed.filter(good).select("item_key"),
            numbered.filter(~good).select("row"),
            keyed.filter(pl.col("item_key").is_in(list(wanted))),
        ],
    )
    _check_rows(path, table, broken, ("item",), "an item")
    found = set(keys.get_column("item_key"))
    first = chosen.unique("item_key", keep="first", maintain_order=True)
    texts = clean_texts(_records(first))
    return Descriptions(found, texts, keys.height - len(found), bad_lines([]))


def image_paths(path: Path, wanted: Set[str]) -> dict[str, list[str]]:
    """Item key to the path of its image, for the wanted items that the table has.

    Args:
        path: the items table.
        wanted: item keys.

    Raises:
        MacrecError: the file cannot be read, or has no column image.
    """
    table, keyed = _items(path)
    if "image" not in table.collect_schema():
        raise MacrecError(
            f"{path}: has no column 'image', which modality 'image' needs; add one with the "
            "path of each item's picture, or remove image from modalities"
        )
    chosen = keyed.select("item_key", "image").filter(pl.col("item_key").is_in(list(wanted)))
    (rows,) = _collected(path, [chosen.unique("item_key", keep="first", maintain_order=True)])
    return {key: [image] if image else [] for key, image in rows.iter_rows()}


def _items(path: Path) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """The items table as it is, and with a column item_key, its columns checked."""
    table = _scanned(path, _ITEMS, _MORE_OF_ITEMS)
    schema = table.collect_schema()
    for name, kind in schema.items():
        if name not in (*_ITEMS[1:], *_MORE_OF_ITEMS):
            continue
        kinds = (
            (pl.String, pl.Null) if name == "image" else (pl.String, pl.Null, pl.List(pl.String))
        )
        if kind not in kinds:
            raise _wrong_type(
                path, name, kind, "text" if name == "image" else "text, or lists of it"
            )
    # No other column of a Parquet file has been checked.
    known = [name for name in schema if name in (*_ITEMS, *_MORE_OF_ITEMS)]
    return table, table.select(known).with_columns(_key(path, schema, "item").alias("item_key"))


def _records(items: pl.DataFrame) -> Iterator[tuple[str, Mapping[str, object]]]:
    for row in items.iter_rows(named=True):
        yield row["item_key"], row


def _scanned(path: Path, needed: Sequence[str], known: Sequence[str]) -> pl.LazyFrame:
    """The file, lazily; of a CSV file everything as text."""
    if path.suffix == ".parquet":
        _check_parquet(path, [name for name in (*needed, *known) if name not in _IGNORED])
        table = pl.scan_parquet(path, glob=False)
    else:
        _check_header(path)
        table = pl.scan_csv(path, infer_schema=False, glob=False)
    try:
        found = table.collect_schema().names()
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    missing = [name for name in needed if name not in found]
    if missing:
        raise MacrecError(
            f"{path}: has no column {', '.join(missing)}; it needs {', '.join(needed)} and may "
            f"have {', '.join(known)} (found: {_shortened(found)}){_separator_hint(path, found)}"
        )
    return table


def _shortened(names: Sequence[str]) -> str:
    """Names as Python writes them, which shows blanks; of a file that is no table a few."""
    shown = [repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...") for name in names[:10]]
    return ", ".join(shown) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _separator_hint(path: Path, names: Sequence[str]) -> str:
    if path.suffix == ".csv" and len(names) == 1 and any(sign in names[0] for sign in ";\t|"):
        return "; between fields must stand commas"
    return ""


def _tell_ignored(path: Path, table: pl.LazyFrame, known: Sequence[str]) -> None:
    unknown = [name for name in table.collect_schema().names() if name not in known]
    if unknown:
        log.warning("%s: columns without a meaning here are ignored: %s", path, unknown)


def _check_parquet(path: Path, columns: Sequence[str]) -> None:
    """Check that columns of a Parquet file can be read: Polars ends the process over some damages.

    (It asks for as much memory as a damaged length says.)
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=columns):
                batch.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _check_header(path: Path) -> None:
    """Check that no column of a CSV file stands twice: Polars would rename the second."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next(filter(None, csv.reader(file)), [])  # Polars skips blank lines too
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error
    # Spreadsheets leave empty columns, which have no name and no meaning here.
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise MacrecError(
            f"{path}: column {', '.join(twice)} stands there more than once; rename or remove one"
        )


def _unreadable(path: Path, error: BaseException) -> MacrecError:
    rule = (
        "as CSV it must be UTF-8, with commas between fields, in each row at most as many fields "
        "as in the header, and quotes around fields that hold a comma, a line's end or a quote, "
        "which is doubled there"
        if path.suffix == ".csv"
        else "it must be a Parquet file that pyarrow reads"
    )
    # Advice to programmers follows the first line.
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if path.suffix == ".csv":
        reason = _first_broken_record(path) or reason
    return MacrecError(f"{path}: cannot be read ({reason}); {rule}: correct it")


def _first_broken_record(path: Path) -> str:
    """Where a CSV file breaks the rules, which Polars does not tell; empty if all is well."""
    lines: list[str] = []

    def remembered(file: TextIO) -> Iterator[str]:
        for line in file:
            lines.append(line)
            yield line

    row, limit = 0, csv.field_size_limit(_LONGEST)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(remembered(file))
            width = len(next(filter(None, reader), []))
            lines.clear()
            for row, fields in enumerate(reader, start=1):
                text = "".join(lines).strip("\r\n")
                lines.clear()
                place = f"row {row}, up to line {reader.line_num}, has"
                if len(fields) > width:
                    return f"{place} {len(fields)} fields, the header {width}: {text[:_SHOWN]!r}"
                if not _RECORD.fullmatch(text):
                    return f"{place} a quote at a wrong place: {text[:_SHOWN]!r}"
    except csv.Error as error:  # a quote that is not closed
        first = reader.line_num - len(lines) + 1
        return f"row {row + 1}, from line {first}: {error}: {''.join(lines[:1])[:_SHOWN]!r}"
    except (OSError, UnicodeDecodeError):
        return ""  # which Polars has told
    finally:
        csv.field_size_limit(limit)
    return ""


def _key(path: Path, schema: pl.Schema, name: str) -> pl.Expr:
    kind = schema[name]
    if not (kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise _wrong_type(path, name, kind, "text or whole numbers")
    return pl.col(name).cast(pl.String)


def _time(path: Path, schema: pl.Schema) -> pl.Expr:
    kind, column = schema["timestamp"], pl.col("timestamp")
    if kind in (pl.Date, pl.Datetime):
        return column.dt.timestamp("us")
    if kind.is_integer() or kind in (pl.String, pl.Null):
        return column.cast(pl.Int64, strict=False)
    raise _wrong_type(path, "timestamp", kind, "whole numbers, or in Parquet dates or times")


def _wrong_type(path: Path, name: str, kind: pl.DataType, expected: str) -> MacrecError:
    return MacrecError(f"{path}: column '{name}' holds {kind}; expected {expected}")


def _collected(path: Path, frames: Sequence[pl.LazyFrame]) -> list[pl.DataFrame]:
    # With the projection pushed down, Polars would not notice a CSV row of too many fields.
    whole = pl.QueryOptFlags(projection_pushdown=path.suffix != ".csv")
    try:
        return pl.collect_all(frames, engine="streaming", optimizations=whole)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _check_rows(
    path: Path, table: pl.LazyFrame, broken: pl.DataFrame, columns: Sequence[str], expected: str
) -> None:
    """Stop if there are broken rows, and show the first one."""
    if broken.is_empty():
        return
    row = int(broken.item(0, "row"))
    (shown,) = _collected(path, [table.select(columns).slice(row - 1, 1)])
    values = ", ".join(f"{name}={value!r}" for name, value in shown.row(0, named=True).items())
    raise MacrecError(
        f"{path}: row {row} has {values}; expected {expected}, keys without white space and "
        f"control characters (such rows: {broken.height}); correct or remove them"
    )
