"""The only Parquet reading and writing: contracts are checked on both ways.

Written with pyarrow, since Polars drops `not null` and metadata. A write goes to a temporary
file in the target's folder, is synced, and renamed, so that a reader sees the old file or the
whole new one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from macrec_core.errors import MacrecError
from macrec_core.schemas import Contract, contract_of

_NAME = b"macrec.artifact"
_VERSION = b"macrec.version"
_INFO = b"macrec.info"


def write_artifact(
    path: Path, table: pa.Table, contract: Contract, info: Mapping[str, object] | None = None
) -> None:
    """Check a table against its contract and write it atomically.

    Args:
        path: target file; its folder is made if missing.
        table: columns in the contract's order, castable to its types.
        contract: what the table must meet.
        info: small facts about the origin (encoder, weight hash), kept in the metadata.

    Raises:
        MacrecError: the table breaks the contract; nothing is written.
    """
    table = _cast(path, table, contract)
    check_table(path, table, contract)
    metadata = {
        _NAME: contract.name.encode(),
        _VERSION: str(contract.version).encode(),
        _INFO: json.dumps(dict(info or {}), sort_keys=True).encode(),
    }
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd")


def read_artifact(path: Path, contract: Contract) -> pa.Table:
    """Read a table and check it against its contract.

    Raises:
        MacrecError: missing or truncated file, other artifact, other version, other columns,
            nulls, NaN, or a key that repeats; the message names file and column.
    """
    table = read_any(path)
    _check_identity(path, table, contract)
    check_table(path, table, contract)
    return table


def read_embeddings(path: Path) -> np.ndarray:
    """Read artifact `embeddings` of whatever width as a writable [N, width] float32 array.

    Raises:
        MacrecError: see `read_artifact`.
    """
    contract = contract_of("embeddings", read_any(path).schema)
    assert contract is not None  # the name is a known one
    return matrix(read_artifact(path, contract), "embedding").copy()


def read_any(path: Path) -> pa.Table:
    """Read an artifact of a kind not known beforehand; its contract is not checked."""
    try:
        # partitioning=None: a folder named `text=1` above the file is not a column.
        return pq.read_table(path, partitioning=None)
    except FileNotFoundError as error:
        raise MacrecError(f"{path}: does not exist; run the stage that makes it") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise MacrecError(
            f"{path}: is no readable Parquet file ({error}); make it again"
        ) from error


def artifact_name(table: pa.Table) -> str:
    """The artifact name in a table's metadata, or an empty string."""
    name: bytes = (table.schema.metadata or {}).get(_NAME, b"")
    return name.decode()


def artifact_info(table: pa.Table) -> dict[str, object]:
    """The facts that `write_artifact` was given."""
    info: dict[str, object] = json.loads((table.schema.metadata or {}).get(_INFO, b"{}"))
    return info


def check_table(path: Path, table: pa.Table, contract: Contract) -> None:
    """Check columns, types, nulls, NaN and key of a table.

    Raises:
        MacrecError: naming file, column, expected and found.
    """
    expected, found = contract.schema, table.schema
    if expected.names != found.names:
        raise MacrecError(
            f"{path}: {contract.name} has columns {found.names}, expected {expected.names}"
        )
    for field in expected:
        column = table.column(field.name)
        # As text: lists that differ only in their entries' nullability compare unequal.
        if _type_text(column.type) != _type_text(field.type):
            raise MacrecError(
                f"{path}: column '{field.name}' is {column.type}, expected {field.type}"
            )
        if not field.nullable:
            _check_filled(path, field.name, column)
    _check_key(path, table, contract)


def check_same_items(path: Path, rows: int, reference: Path, expected: int) -> None:
    """Check that an item-level artifact covers as many items as the catalogue.

    Raises:
        MacrecError: naming both files and counts.
    """
    if rows != expected:
        raise MacrecError(
            f"{path}: holds {rows} items, {reference} holds {expected}; "
            "make both from one catalogue"
        )


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    temporary.chmod(0o755)
    try:
        yield temporary
        older = temporary.with_suffix(".older.tmp")
        if path.exists():
            path.replace(older)
        temporary.replace(path)
        shutil.rmtree(older, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically, keys sorted, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        MacrecError: missing file, broken JSON, or no object.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise MacrecError(f"{path}: does not exist; run the stage that makes it") from error
    except (OSError, ValueError) as error:
        raise MacrecError(f"{path}: is no readable JSON file ({error}); make it again") from error
    if not isinstance(value, dict):
        raise MacrecError(f"{path}: holds {type(value).__name__}, expected a JSON object")
    return value


def matrix(table: pa.Table, column: str) -> np.ndarray:
    """A fixed-size-list column as a [rows, width] array."""
    array = table.column(column).combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # a column without chunks stays chunked
        array = pa.concat_arrays(array.chunks)
    width = array.type.list_size
    return np.asarray(array.flatten()).reshape(-1, width)


def fixed_lists(values: np.ndarray) -> pa.Array:
    """A [rows, width] array as a fixed-size-list column with non-null entries."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    kind = pa.list_(pa.field("item", flat.type, nullable=False), values.shape[1])
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)


def lists(values: np.ndarray, offsets: np.ndarray) -> pa.Array:
    """Variable-length lists from flat values and [rows + 1] offsets."""
    flat = pa.array(values)
    kind = pa.list_(pa.field("item", flat.type, nullable=False))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat, type=kind)


def _type_text(kind: pa.DataType) -> str:
    return str(kind).replace(" not null", "").replace("element:", "item:")


def _cast(path: Path, table: pa.Table, contract: Contract) -> pa.Table:
    if table.schema.names != contract.schema.names:
        raise MacrecError(
            f"{path}: {contract.name} has columns {table.schema.names}, "
            f"expected {contract.schema.names}"
        )
    for field in contract.schema:
        if not field.nullable and table.column(field.name).null_count:
            _check_filled(path, field.name, table.column(field.name))
    try:
        return table.cast(contract.schema)
    except (pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
        raise MacrecError(f"{path}: {contract.name} does not fit its schema: {error}") from error


def _check_identity(path: Path, table: pa.Table, contract: Contract) -> None:
    metadata = table.schema.metadata or {}
    found = (metadata.get(_NAME, b"").decode(), metadata.get(_VERSION, b"").decode())
    expected = (contract.name, str(contract.version))
    if found != expected:
        raise MacrecError(
            f"{path}: is artifact '{found[0]}' version '{found[1]}', "
            f"expected '{expected[0]}' version '{expected[1]}'; run its stage again"
        )


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


def _check_key(path: Path, table: pa.Table, contract: Contract) -> None:
    if not contract.key or table.num_rows == 0:
        return
    keys = table.select(contract.key)
    if contract.dense_key:
        (name,) = contract.key
        ids = np.asarray(keys.column(name))
        wrong = np.flatnonzero(ids != np.arange(len(ids)))
        if len(wrong):
            raise MacrecError(
                f"{path}: column '{name}' has {ids[wrong[0]]} in row {wrong[0]}, "
                f"expected 0..{len(ids) - 1} in order"
            )
        return
    groups = keys.group_by(list(contract.key)).aggregate([([], "count_all")])
    if groups.num_rows != table.num_rows:
        raise MacrecError(
            f"{path}: key {list(contract.key)} repeats in {table.num_rows - groups.num_rows} rows, "
            "expected one row a key"
        )
    order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in contract.key])
    if not np.array_equal(np.asarray(order), np.arange(table.num_rows)):
        raise MacrecError(f"{path}: rows are not in the order of key {list(contract.key)}")
