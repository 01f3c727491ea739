"""The only Parquet reading and writing: contracts are checked on both ways.

Written with pyarrow, since Polars drops `not null` and metadata. A write goes to a temporary
file in the target's folder, is synced, and renamed, so that a reader sees the old file or the
whole new one.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from macrec_core.contracts import KeyOrder, cast_table, check_names, check_values
from macrec_core.contracts import check_same_items as check_same_items
from macrec_core.errors import MacrecError
from macrec_core.files import full_disk_named
from macrec_core.schemas import Contract, contract_of

# What pyarrow raises over a file that is no Parquet, or a damaged one.
_DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)

_NAME = b"macrec.artifact"
_VERSION = b"macrec.version"
_INFO = b"macrec.info"


class ArtifactWriter:
    """Writes one artifact a chunk at a time; see `artifact_writer`.

    Args:
        path: target file, which errors name.
        contract: what the chunks must meet.
        parquet: the open file.
    """

    def __init__(self, path: Path, contract: Contract, parquet: pq.ParquetWriter) -> None:
        self._path = path
        self._contract = contract
        self._parquet = parquet
        self._order = KeyOrder(path, contract)

    def write(self, table: pa.Table) -> None:
        """Check the next rows and append them as a row group of their own.

        Raises:
            MacrecError: they break the contract, alone or after the rows before them.
        """
        table = cast_table(self._path, table, self._contract)
        check_values(self._path, table, self._contract)
        self._order.check(table)
        self._parquet.write_table(table)


@contextmanager
def artifact_writer(
    path: Path, contract: Contract, info: Mapping[str, object] | None = None
) -> Iterator[ArtifactWriter]:
    """A writer of chunks whose file takes its place if the block succeeds.

    Equal chunks give equal bytes; the chunks' sizes are part of them.

    Args:
        path: target file; its folder is made if missing.
        contract: what the chunks must meet, keys across chunks included.
        info: small facts about the origin (encoder, weight hash), kept in the metadata.

    Raises:
        MacrecError: a file is there that is no such artifact.
    """
    metadata = {
        _NAME: contract.name.encode(),
        _VERSION: str(contract.version).encode(),
        _INFO: json.dumps(dict(info or {}), sort_keys=True).encode(),
    }
    # Tokens and vectors inside lists: a dictionary or minima of them cost as much time as all
    # else together, and without the dictionary zstd makes the files smaller. A dense key takes
    # no room as differences.
    dense = contract.key if contract.dense_key else ()
    flat = [field.name for field in contract.schema if not pa.types.is_nested(field.type)]
    _check_same_kind(path, contract)
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(
            temporary,
            contract.schema.with_metadata(metadata),
            compression="zstd",
            use_dictionary=[name for name in flat if name not in dense],
            column_encoding=dict.fromkeys(dense, "DELTA_BINARY_PACKED"),
            write_statistics=flat,
        ) as parquet,
    ):
        yield ArtifactWriter(path, contract, parquet)


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
    with artifact_writer(path, contract, info) as writer:
        writer.write(table)


def read_artifact(path: Path, contract: Contract, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table and check it against its contract.

    Args:
        path: the file.
        contract: what it must meet.
        columns: the only ones to read and check; None for all. The key is checked only if its
            columns are among them.

    Raises:
        MacrecError: missing or truncated file, other artifact, other version, other columns,
            nulls, NaN, or a key that repeats; the message names file and column.
    """
    with _opened(path, contract) as file:
        table = file.read(columns=columns)
    check_values(path, table, contract)
    KeyOrder(path, contract).check(table)
    return table if columns is None else table.select(columns)


def read_chunks(
    path: Path, contract: Contract, rows: int, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Read and check a table of any length, `rows` rows at a time; the last chunk may be shorter.

    Args:
        path: the file.
        contract: what it must meet.
        rows: rows a chunk.
        columns: as in `read_artifact`.

    Raises:
        MacrecError: see `read_artifact`; a key is checked up to the chunk that is given out.
    """
    order = KeyOrder(path, contract)
    with _opened(path, contract) as file:
        for batch in file.iter_batches(rows, columns=columns):
            table = pa.Table.from_batches([batch])
            check_values(path, table, contract)
            order.check(table)
            yield table if columns is None else table.select(columns)


def read_embeddings(path: Path) -> np.ndarray:
    """Read artifact `embeddings` of whatever width as a writable [N, width] float32 array.

    Raises:
        MacrecError: see `read_artifact`.
    """
    with _opened(path) as file:
        contract = contract_of("embeddings", file.schema_arrow)
    assert contract is not None  # the name is a known one
    return matrix(read_artifact(path, contract), "embedding").copy()


def read_any(path: Path) -> pa.Table:
    """Read an artifact of a kind not known beforehand; its contract is not checked."""
    with _opened(path) as file:
        return file.read()


def read_schema(path: Path) -> pa.Schema:
    """The columns and metadata of an artifact of a kind not known beforehand."""
    with _opened(path) as file:
        return file.schema_arrow


def artifact_name(table: pa.Table) -> str:
    """The artifact name in a table's metadata, or an empty string."""
    name: bytes = (table.schema.metadata or {}).get(_NAME, b"")
    return name.decode()


def artifact_info(table: pa.Table) -> dict[str, object]:
    """The facts that `write_artifact` was given."""
    info: dict[str, object] = json.loads((table.schema.metadata or {}).get(_INFO, b"{}"))
    return info


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place if the block succeeds.

    Raises:
        MacrecError: a folder is there.
        FullDiskError: of what the block writes, too.
    """
    if path.is_dir():
        raise MacrecError(f"{path}: is a folder, where a file is to be written; name a file")
    with full_disk_named(path):
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
def atomic_folder(path: Path, *own: str) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place if the block succeeds.

    Args:
        path: target folder, or a link to it.
        own: see `check_replaceable`.

    Raises:
        MacrecError: a file there would be lost that is none of its own.
        FullDiskError: of what the block writes, too.
    """
    path = path.resolve()  # a link stays, and leads to the new folder
    check_replaceable(path, *own)
    with full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
        temporary.chmod(0o755)
        try:
            yield temporary
            check_replaceable(path, *own)  # the block may have taken hours
            older = temporary.with_suffix(".older.tmp")
            if path.exists():
                path.replace(older)
            temporary.replace(path)
            shutil.rmtree(older, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(path: Path, *own: str) -> None:
    """Check, before long work, that `atomic_folder` may replace what is at a place.

    Args:
        path: where a folder is to be written.
        own: patterns (of fnmatch, part by part) of all files that such a folder has, relative
            to it.

    Raises:
        MacrecError: a file is there that is none of them, or the folder cannot be replaced.
    """
    if path.is_mount():
        raise MacrecError(
            f"{path}: is a disk's root, which cannot be replaced; name a folder below it"
        )
    entries = path.rglob("*") if path.is_dir() else ()
    files = (entry for entry in entries if entry.is_symlink() or not entry.is_dir())
    names = (file.relative_to(path) for file in files)
    foreign = next((n for n in names if not any(_fits(n, each) for each in own)), None)
    if foreign is None and (path.is_dir() or not path.exists()):
        return
    found = "is a file"
    if foreign is not None:
        found = f"holds {foreign}, which no earlier run is known to have written"
    raise MacrecError(
        f"{path}: {found}, and would be lost, since the folder is replaced as a whole; name "
        "another folder, or move what is there"
    )


def _fits(name: Path, pattern: str) -> bool:
    # `match` alone compares the last parts only.
    return len(name.parts) == len(Path(pattern).parts) and name.match(pattern)


def remove_leftovers(path: Path) -> None:
    """Clear up after killed runs of `atomic_folder(path)`; no run may be under way.

    A folder that was about to be replaced comes back.
    """
    if not path.exists():
        for older in path.parent.glob(f".{glob.escape(path.name)}.*.older.tmp"):
            older.replace(path)
            break
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically, keys sorted, so that equal values give equal bytes.

    Raises:
        MacrecError: a file is there that is no JSON object.
    """
    if _beginning(path).strip()[:1] not in (b"", b"{"):
        raise _foreign_file(path, "JSON object")
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


@contextmanager
def _opened(path: Path, contract: Contract | None = None) -> Iterator[pq.ParquetFile]:
    """An open Parquet file, checked to be the contract's artifact with its columns."""
    try:
        # A buffer, so that a column of many gigabytes is not read at once.
        with pq.ParquetFile(path, buffer_size=1 << 20) as file:
            if contract is not None:
                _check_identity(path, file.schema_arrow, contract)
                check_names(path, file.schema_arrow.names, contract)
            yield file
    except FileNotFoundError as error:
        raise MacrecError(f"{path}: does not exist; run the stage that makes it") from error
    except _DAMAGED as error:
        raise MacrecError(
            f"{path}: is no readable Parquet file ({error}); make it again"
        ) from error


def _check_same_kind(path: Path, contract: Contract) -> None:
    """Check that nothing but an earlier artifact, maybe a damaged one, is replaced."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except FileNotFoundError:
        return
    except _DAMAGED:
        if _beginning(path)[:4] in (b"", b"PAR1"):
            return
        metadata = {}
    if metadata.get(_NAME) != contract.name.encode():
        raise _foreign_file(path, f"artifact '{contract.name}'")


def _beginning(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(64)


def _foreign_file(path: Path, expected: str) -> MacrecError:
    return MacrecError(
        f"{path}: is no {expected}, and would be lost; name another file, or move what is there"
    )


def _check_identity(path: Path, schema: pa.Schema, contract: Contract) -> None:
    metadata = schema.metadata or {}
    found = (metadata.get(_NAME, b"").decode(), metadata.get(_VERSION, b"").decode())
    expected = (contract.name, str(contract.version))
    if found != expected:
        raise MacrecError(
            f"{path}: is artifact '{found[0]}' version '{found[1]}', "
            f"expected '{expected[0]}' version '{expected[1]}'; run its stage again"
        )
