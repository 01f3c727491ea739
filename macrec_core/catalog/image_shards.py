"""The images of a raw folder: `images/part-00000.parquet`, `part-00001.parquet`, ...

Rows ascend by item key through all parts. A part ends before the image that would take it beyond
`images.shard_mb`, so that parts depend on the images and never on when they came.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from macrec_core.artifacts import artifact_writer, read_chunks, read_json
from macrec_core.catalog.image_trials import TrialBlocks
from macrec_core.catalog.manifest import MANIFEST
from macrec_core.contracts import KeyOrder
from macrec_core.errors import MacrecError
from macrec_core.progress import Progress
from macrec_core.schemas import IMAGE_FAILURES, IMAGES, RAW_IMAGES

# The manifest's name of the number of parts.
SHARDS = "image_shards"
# Images in memory at once, and a row group of artifact IMAGES.
_CHUNK = 2048


def write_shards(blocks: TrialBlocks, raw: Path, shard_mb: int, progress: Progress) -> int:
    """Pack what a search has found into `images/` of a raw folder.

    Args:
        blocks: of the finished search.
        raw: the folder.
        shard_mb: MiB of images a part; a single image may be more.
        progress: told of each block.

    Returns:
        Number of parts, at least one.

    Raises:
        MacrecError: a block is missing or broken, or the disk is full.
    """
    progress.start("packing images", len(blocks.starts))
    parts = 0
    for number, rows in groupby(
        _numbered(_found(blocks, progress), shard_mb << 20), lambda pair: pair[0]
    ):
        _write_part(_part(raw, number), (table for _, table in rows))
        parts = number + 1
    if not parts:
        _write_part(_part(raw, 0), [RAW_IMAGES.schema.empty_table()])
    return max(parts, 1)


def write_failures(blocks: TrialBlocks, raw: Path) -> None:
    """List the URLs that failed, and the items without any, in `image_failures.parquet`.

    Raises:
        MacrecError: a block is missing or broken, or the disk is full.
    """
    path = raw / "image_failures.parquet"
    with artifact_writer(path, IMAGE_FAILURES) as writer:
        for start in blocks.starts:
            trials = blocks.read(start, IMAGE_FAILURES.schema.names)
            failed = trials.filter(pc.not_equal(trials.column("cause"), ""))
            if failed.num_rows:
                writer.write(failed)


def image_parts(raw: Path) -> list[Path]:
    """The parts of a raw folder that its manifest counts.

    Raises:
        MacrecError: the manifest counts none.
    """
    manifest = raw / MANIFEST
    counts = read_json(manifest).get("counts")
    parts = counts.get(SHARDS) if isinstance(counts, dict) else None
    if not isinstance(parts, int):
        raise MacrecError(
            f"{manifest}: counts.{SHARDS}={parts!r}, expected the number of files in "
            f"{raw / 'images'}; run download again, with image among the modalities"
        )
    return [_part(raw, number) for number in range(parts)]


def pictured_items(raw: Path) -> list[str]:
    """Keys of the items that have an image, ascending.

    Raises:
        MacrecError: a part is missing, broken or out of order.
    """
    order = KeyOrder(raw / "images", RAW_IMAGES)
    keys: list[str] = []
    for path in image_parts(raw):
        for chunk in read_chunks(path, RAW_IMAGES, 1 << 16, ["item_key"]):
            order.check(chunk)
            keys += chunk.column("item_key").to_pylist()
    return keys


@dataclass(frozen=True)
class ItemImages:
    """The images of a catalogue's items, which stay in the raw folder until they are written.

    Attributes:
        parts: of the raw folder; see `image_parts`.
        keys: of the items, in the order of their ids; empty where there are no images.
    """

    parts: Sequence[Path] = ()
    keys: Sequence[str] = ()

    def write(self, path: Path, info: Mapping[str, object] | None = None) -> None:
        """Write artifact IMAGES, in the order of item ids.

        Never more than a chunk of images is in memory: the raw folder's order is another one, so
        they pass through a temporary file beside the target.

        Args:
            path: target file.
            info: small facts about the origin, kept in the file's metadata.

        Raises:
            MacrecError: a part is missing or broken, or the disk is full.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryFile(dir=path.parent) as spool,
            artifact_writer(path, IMAGES, info) as writer,
        ):
            for chunk in self._chunks(spool):
                writer.write(chunk)

    def _chunks(self, spool: BinaryIO) -> Iterator[pa.Table]:
        if not self.keys:
            yield IMAGES.schema.empty_table()
            return
        columns, begins, sizes = self._spooled(spool)
        for first in range(0, len(self.keys), _CHUNK):
            rows = slice(first, first + _CHUNK)
            images = []
            for begin, size in zip(begins[rows], sizes[rows], strict=True):
                spool.seek(begin)
                images.append(spool.read(size))
            table = {"item_id": np.arange(len(self.keys), dtype=np.int32)[rows]}
            table |= {name: values[rows] for name, values in columns.items()}
            yield pa.table({**table, "image": pa.array(images, pa.binary())})

    def _spooled(self, spool: BinaryIO) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Copy the items' images into a file; their other columns, first bytes and sizes."""
        item_of = {key: item for item, key in enumerate(self.keys)}
        count = len(self.keys)
        columns = {
            "url": np.full(count, None, dtype=object),
            "width": np.zeros(count, np.int32),
            "height": np.zeros(count, np.int32),
        }
        begins, sizes = np.zeros(count, np.int64), np.zeros(count, np.int64)
        for path in self.parts:
            for chunk in read_chunks(path, RAW_IMAGES, _CHUNK):
                for row in chunk.to_pylist():
                    item = item_of.get(row["item_key"])
                    if item is None:
                        continue
                    for name, values in columns.items():
                        values[item] = row[name]
                    begins[item], sizes[item] = spool.tell(), len(row["image"])
                    spool.write(row["image"])
        return columns, begins, sizes


def _part(raw: Path, number: int) -> Path:
    return raw / "images" / f"part-{number:05d}.parquet"


def _found(blocks: TrialBlocks, progress: Progress) -> Iterator[pa.Table]:
    for start in blocks.starts:
        trials = blocks.read(start)
        yield trials.filter(pc.equal(trials.column("cause"), "")).select(RAW_IMAGES.schema.names)
        progress.advance()


def _numbered(tables: Iterable[pa.Table], limit: int) -> Iterator[tuple[int, pa.Table]]:
    """The rows of the tables, cut where a part ends, each piece with its part's number."""
    number, used = 0, 0
    for table in tables:
        first = 0
        for row, size in enumerate(pc.binary_length(table.column("image")).to_pylist()):
            if used and used + size > limit:
                if row > first:
                    yield number, table.slice(first, row - first)
                number, used, first = number + 1, 0, row
            used += size
        if table.num_rows > first:
            yield number, table.slice(first)


def _write_part(path: Path, tables: Iterable[pa.Table]) -> None:
    with artifact_writer(path, RAW_IMAGES) as writer:
        for table in tables:
            writer.write(table)
