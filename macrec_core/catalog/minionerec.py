"""MiniOneRec's layout: item texts, and a CSV row for every purchase with what came before it.

MiniOneRec sorts all purchases by time and cuts them into training, validation and test rows, so
that a user has many rows or none in a file. Here the rows of the given files, in their order,
are put together again to whole sequences: a user's first row gives its history and its item, each
further row one item more, and its history must be the end of the sequence so far.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from macrec_core.catalog.family import find_published
from macrec_core.catalog.filtering import MIN_SEQUENCE
from macrec_core.catalog.manifest import RawContents, describe_file
from macrec_core.catalog.published import Sequences, read_item_records, text_of, uncompressed
from macrec_core.errors import MacrecError
from macrec_core.params.data import MiniOneRecSource

_COLUMNS = ("user_id", "history_item_id", "item_id")


@dataclass(frozen=True)
class Row:
    """One purchase.

    Attributes:
        place: file and line, as an error names it.
        user: key.
        history: item ids before it, maybe cut to the last few.
        item: item id.
    """

    place: str
    user: str
    history: list[int]
    item: int


@dataclass(frozen=True)
class Rebuilt:
    """Sequences put together from rows.

    Attributes:
        sequences: of users with enough interactions for leave-one-out, in the order of their
            first rows.
        counts: rows, the longest history, and users whose first history is as long as that and
            so maybe cut.
        dropped: users with fewer interactions, and their interactions.
    """

    sequences: Sequences
    counts: dict[str, int]
    dropped: dict[str, int]


def gather_minionerec(
    source: MiniOneRecSource, folder: Path, label: str, target: Path
) -> RawContents:
    """Check the files and lay them into a raw folder, as `item.json`, `rows.0.csv`, ...

    Args:
        source: names of the files; each may exist with or without `.gz`.
        folder: where they lie.
        label: what the manifest calls the folder.
        target: existing empty folder.

    Raises:
        MacrecError: a file is missing or breaks a rule; the message names it.
    """
    named = {"item.json": source.item_file}
    named |= {f"rows.{number}.csv": file for number, file in enumerate(source.row_files)}
    files = {}
    for kept, file in named.items():
        path = find_published(folder, file)
        if path is None:
            raise MacrecError(
                f"{folder / file}: does not exist, nor with .gz; correct the dataset's folder, "
                "item_file or row_files"
            )
        (target / kept).write_bytes(uncompressed(path))
        files[kept] = describe_file(path, f"{label}/{path.name}", kept=True)
    num_items = len(read_item_records(target / "item.json"))
    rebuilt = rebuilt_sequences(target, num_items)
    users = len(rebuilt.sequences.user_keys)
    return RawContents(
        files, {"users": users, "items": num_items, **rebuilt.counts, **rebuilt.dropped}
    )


def rebuilt_sequences(raw: Path, num_items: int) -> Rebuilt:
    """Whole sequences of the rows in a raw folder.

    The longest history of all rows is taken for the length to which histories are cut.

    Raises:
        MacrecError: a row that cannot be read, names an item beyond the catalogue, or whose
            history is not the end of its user's sequence so far.
    """
    paths = sorted(raw.glob("rows.*.csv"), key=lambda path: int(path.suffixes[0][1:]))
    rows = [row for path in paths for row in read_rows(path, num_items)]
    if not rows:
        raise MacrecError(f"{raw}: its CSV files hold no row; expected one for every purchase")
    cut = max(len(row.history) for row in rows)
    bought: dict[str, list[int]] = {}
    maybe_cut = 0
    for row in rows:
        if row.user not in bought:
            bought[row.user] = list(row.history)
            maybe_cut += len(row.history) == cut
        _check_history(row, bought[row.user], cut)
        bought[row.user].append(row.item)
    whole = {user: items for user, items in bought.items() if len(items) >= MIN_SEQUENCE}
    if not whole:
        raise MacrecError(f"{raw}: no user has {MIN_SEQUENCE} interactions for leave-one-out")
    short = [items for user, items in bought.items() if user not in whole]
    counts = {
        "rows": len(rows),
        "longest_history": cut,
        "users_with_maybe_cut_history": maybe_cut,
    }
    dropped = {
        "users_with_too_few_interactions": len(short),
        "interactions_of_those_users": sum(map(len, short)),
    }
    items = [np.asarray(found, np.int32) for found in whole.values()]
    return Rebuilt(Sequences(list(whole), items), counts, dropped)


def read_rows(path: Path, num_items: int) -> Iterator[Row]:
    """Rows of a CSV file.

    Raises:
        MacrecError: a column is missing, or a row has no user, no list of known item ids, or no
            known item.
    """
    reader = csv.DictReader(io.StringIO(text_of(path), newline=""), strict=True)
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise MacrecError(f"{path}: has no columns {missing}; expected {list(_COLUMNS)}")
    try:
        for fields in reader:
            yield _row(f"{path}: line {reader.line_num}", fields, num_items)
    except csv.Error as error:
        raise MacrecError(f"{path}: line {reader.line_num} is no CSV row ({error})") from error


def _row(place: str, fields: Mapping[str, str | None], num_items: int) -> Row:
    user, listed, item = (fields[name] for name in _COLUMNS)
    try:
        # Lists written by Python; of whole numbers alone, they are JSON too.
        history, found = json.loads(listed or ""), json.loads(item or "")
    except (ValueError, RecursionError) as error:
        raise MacrecError(
            f"{place}: history_item_id={listed!r}, item_id={item!r}: expected a list of item ids "
            "and an item id"
        ) from error
    if not user or not isinstance(history, list) or not history:
        raise MacrecError(f"{place}: expected a user and a history of one item at least")
    wrong = [each for each in [*history, found] if not _is_item(each, num_items)]
    if wrong:
        raise MacrecError(
            f"{place}: item {wrong[0]!r} is not in the catalogue of {num_items} items; use files "
            "of one release"
        )
    return Row(place, user, history, found)


def _is_item(value: object, num_items: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < num_items


def _check_history(row: Row, so_far: Sequence[int], cut: int) -> None:
    if row.history != list(so_far[-cut:]):
        raise MacrecError(
            f"{row.place}: user {row.user!r} has history {row.history}, but its rows so far end in "
            f"{list(so_far[-cut:])}; name row_files in the order of time, all of one release"
        )
