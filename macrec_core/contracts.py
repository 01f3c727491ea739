"""Checks of tables against their contracts, whole tables or a chunk at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from macrec_core.errors import MacrecError
from macrec_core.schemas import Contract


def cast_table(path: Path, table: pa.Table, contract: Contract) -> pa.Table:
    """A table in the types of its contract.

    Raises:
        MacrecError: other columns, nulls where none may stand, or values that do not fit.
    """
    check_names(path, table.schema.names, contract)
    for field in contract.schema:
        if not field.nullable and table.column(field.name).null_count:
            _check_filled(path, field.name, table.column(field.name))
    try:
        return table.cast(contract.schema)
    # ValueError: what ArrowInvalid is, for values that the other type cannot hold.
    except (pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
        raise MacrecError(f"{path}: {contract.name} does not fit its schema: {error}") from error


def check_names(path: Path, names: Sequence[str], contract: Contract) -> None:
    """Check that a file or table has a contract's columns.

    Raises:
        MacrecError: naming file, columns expected and found.
    """
    if list(names) != contract.schema.names:
        raise MacrecError(
            f"{path}: {contract.name} has columns {list(names)}, expected {contract.schema.names}"
        )


def check_values(path: Path, table: pa.Table, contract: Contract) -> None:
    """Check types, nulls and NaN of those columns of a contract that a table has.

    Raises:
        MacrecError: naming file, column, expected and found.
    """
    for name in table.column_names:
        field, column = contract.schema.field(name), table.column(name)
        # As text: lists that differ only in their entries' nullability compare unequal.
        if _type_text(column.type) != _type_text(field.type):
            raise MacrecError(f"{path}: column '{name}' is {column.type}, expected {field.type}")
        if not field.nullable:
            _check_filled(path, name, column)


class KeyOrder:
    """Checks that a contract's keys ascend without repeats, over the chunks of one file.

    Args:
        path: file that errors name.
        contract: whose key it is; a table without all key columns is not checked.
    """

    def __init__(self, path: Path, contract: Contract) -> None:
        self._path = path
        self._contract = contract
        self._rows = 0
        self._last: pa.Table | None = None

    def check(self, table: pa.Table) -> None:
        """Check the next rows.

        Raises:
            MacrecError: a key that repeats, is missing or out of order.
        """
        names = self._contract.key
        if not names or table.num_rows == 0 or not set(names) <= set(table.column_names):
            return
        if self._contract.dense_key:
            self._check_dense(np.asarray(table.column(names[0])))
        else:
            keys = table.select(names).replace_schema_metadata()
            self._check_ascending(pa.concat_tables([self._last, keys]) if self._last else keys)
            self._last = keys.slice(keys.num_rows - 1)
        self._rows += table.num_rows

    def _check_dense(self, ids: NDArray[np.int64]) -> None:
        wrong = np.flatnonzero(ids != np.arange(self._rows, self._rows + len(ids)))
        if len(wrong):
            raise MacrecError(
                f"{self._path}: column '{self._contract.key[0]}' has {ids[wrong[0]]} in row "
                f"{self._rows + wrong[0]}, expected 0..{self._rows + len(ids) - 1} in order"
            )

    def _check_ascending(self, keys: pa.Table) -> None:
        """Every row above the one before it, from the last key column to the first."""
        above = np.zeros(keys.num_rows - 1, dtype=bool)
        equal = np.ones(keys.num_rows - 1, dtype=bool)
        for name in reversed(keys.column_names):
            column = keys.column(name)
            one, next_one = column.slice(0, len(column) - 1), column.slice(1)
            same = np.asarray(pc.equal(one, next_one), dtype=bool)
            above = np.asarray(pc.less(one, next_one), dtype=bool) | (same & above)
            equal &= same
        if equal.any():
            raise MacrecError(
                f"{self._path}: key {keys.column_names} repeats in {equal.sum()} rows, "
                "expected one row a key"
            )
        if not above.all():
            row = self._rows - bool(self._last) + int(np.flatnonzero(~above)[0]) + 1
            raise MacrecError(
                f"{self._path}: rows are not in the order of key {keys.column_names}, "
                f"first in row {row}"
            )


def check_same_items(path: Path, rows: int, reference: Path, expected: int) -> None:
    """Check that an item-level artifact covers as many items as the catalogue.

    Raises:
        MacrecError: naming both files and counts.
    """
    if rows != expected:
        raise MacrecError(
            f"{path}: holds {rows} items, {reference} holds {expected}; "
            "run `dvc repro`, or make both from one catalogue"
        )


def _type_text(kind: pa.DataType) -> str:
    return str(kind).replace(" not null", "").replace("element:", "item:")


def _check_filled(path: Path, name: str, column: pa.ChunkedArray) -> None:
    if column.null_count:
        raise MacrecError(f"{path}: column '{name}' has {column.null_count} nulls, expected none")
    values = column
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        values = pc.list_flatten(values)
        if values.null_count:
            raise MacrecError(
                f"{path}: column '{name}' has {values.null_count} nulls inside its lists, "
                "expected none"
            )
    if pa.types.is_floating(values.type):
        broken = len(values) - (pc.sum(pc.is_finite(values)).as_py() or 0)
        if broken:
            raise MacrecError(f"{path}: column '{name}' has {broken} NaN or infinite values")
