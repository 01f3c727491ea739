"""Which URL gave which item's image, kept a block of items at a time between runs.

The blocks of a search lie in a scratch folder keyed by everything that an outcome depends on:
item keys, URLs, the image params, Pillow, the code that decodes. A block is written when all its
items are searched and never in part, so that a run that is killed at any moment loses no more
than the blocks it was at, and the run after it goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import PIL
import pyarrow as pa

from macrec_core.artifacts import read_artifact, write_artifact
from macrec_core.catalog import images
from macrec_core.catalog.disk_errors import disk_errors_named
from macrec_core.catalog.images import DecodedImage
from macrec_core.catalog.scratch import Scratch
from macrec_core.errors import MacrecError
from macrec_core.files import file_sha256
from macrec_core.params.data import ImageParams
from macrec_core.schemas import IMAGE_TRIALS

log = logging.getLogger(__name__)

# Items a block: what is lost by a kill, and a row group of the packed images.
BLOCK_ITEMS = 128
NO_URL = "no_url"
# Causes that another try will not change. All others may pass: a server's errors by themselves,
# a forbidden host when the params allow it, a missing local file when it is put there.
PERMANENT = frozenset(
    {NO_URL, "bad_url", "status_404", "status_410", "too_many_pixels", "undecodable"}
)


@dataclass(frozen=True)
class Trial:
    """One URL that was asked for.

    Attributes:
        key: the item's.
        url: empty for an item that has none.
        cause: why it gave no usable image, one word; empty if it did.
        image: what it gave.
    """

    key: str
    url: str
    cause: str
    image: DecodedImage | None = None

    @property
    def may_pass(self) -> bool:
        """Whether another try may end otherwise."""
        return bool(self.cause) and self.cause not in PERMANENT


class TrialBlocks:
    """The trials of all items, `BLOCK_ITEMS` items a file.

    Args:
        folder: of this search; see `claimed_trials`.
        keys: of all items, sorted.

    Attributes:
        folder: as given.
        starts: place of the first item of every block.
    """

    def __init__(self, folder: Path, keys: Sequence[str]) -> None:
        self.folder = folder
        self.starts = range(0, len(keys), BLOCK_ITEMS)
        self._keys = keys

    def keys(self, start: int) -> Sequence[str]:
        """Keys of the items of a block."""
        return self._keys[start : start + BLOCK_ITEMS]

    def causes(self, start: int) -> dict[str, list[Trial]]:
        """An earlier run's trials of a block by item, without their images; empty if not there.

        A file that cannot be read is logged and counts as not there.
        """
        path = self._path(start)
        if not path.exists():
            return {}
        try:
            table = read_artifact(path, IMAGE_TRIALS, ["item_key", "url", "cause"])
        except MacrecError as error:
            log.warning("%s; its images are fetched again", error)
            return {}
        rows = [Trial(*row) for row in zip(*(c.to_pylist() for c in table.columns), strict=True)]
        return {key: list(trials) for key, trials in groupby(rows, lambda trial: trial.key)}

    def read(self, start: int, columns: Sequence[str] | None = None) -> pa.Table:
        """A block's trials (IMAGE_TRIALS), in the order of the items and of their URLs.

        Args:
            start: of the block.
            columns: the only ones to read; None for all.

        Raises:
            MacrecError: the block is missing or broken.
        """
        try:
            return read_artifact(self._path(start), IMAGE_TRIALS, columns)
        except MacrecError as error:
            raise MacrecError(
                f"{error}; what is left of an earlier run is damaged: delete the file and run again"
            ) from error

    def save(self, start: int, trials: Mapping[str, Sequence[Trial]]) -> None:
        """Keep a block's trials; those of items that `trials` lacks stay as an earlier run left.

        Raises:
            MacrecError: the disk is full or cannot be written.
        """
        older: dict[str, list[Trial]] = {}
        if len(trials) < len(self.keys(start)):
            rows = [_trial(row) for row in self.read(start).to_pylist()]
            older = {key: list(same) for key, same in groupby(rows, lambda trial: trial.key)}
        merged = {**older, **trials}
        table = _table([trial for key in self.keys(start) for trial in merged[key]])
        with disk_errors_named(self._path(start)):
            write_artifact(self._path(start), table, IMAGE_TRIALS)

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:09d}.parquet"


def claimed_trials(
    scratch: Scratch, urls: Mapping[str, Sequence[str]], params: ImageParams, content: str
) -> Path:
    """The folder of a search's blocks, this run's own.

    Its name differs wherever an earlier search's outcomes must not be used.

    Args:
        scratch: keeps it.
        urls: item key to URLs.
        params: of which only those that shape an image count.
        content: tells apart contents that the same URLs may have; see `folder_content`.

    Raises:
        MacrecError: another run makes the same search, or the folder cannot be written.
    """
    search = _search_key(urls, params, content)
    folder = scratch.folder / search
    scratch.claim(search, lambda: shutil.rmtree(folder, ignore_errors=True))
    return folder


def folder_content(folder: Path) -> str:
    """A text that changes when a file of a local folder of images does, by size and time."""
    return files_content(sorted(folder.iterdir())) if folder.is_dir() else ""


def files_content(paths: Iterable[Path]) -> str:
    """The same of single files, which need not be there."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = path.stat()
            state = [found.st_size, found.st_mtime_ns]
        except (OSError, ValueError):  # not there, or no name that a file can have
            state = []
        digest.update(json.dumps([path.name, *state]).encode() + b"\n")
    return digest.hexdigest()


def _search_key(urls: Mapping[str, Sequence[str]], params: ImageParams, content: str) -> str:
    shaping = [params.max_side, params.max_pixels, params.jpeg_quality]
    code = [PIL.__version__, file_sha256(Path(images.__file__)), IMAGE_TRIALS.version, BLOCK_ITEMS]
    digest = hashlib.sha256(json.dumps([shaping, code, content]).encode())
    for key in sorted(urls):
        digest.update(json.dumps([key, *urls[key]]).encode() + b"\n")
    return f"images-{digest.hexdigest()[:32]}"


def _trial(row: Mapping[str, object]) -> Trial:
    width, height, jpeg = row["width"], row["height"], row["image"]
    assert isinstance(width, int) and isinstance(height, int) and isinstance(jpeg, bytes)
    image = None if row["cause"] else DecodedImage(width, height, jpeg)
    return Trial(str(row["item_key"]), str(row["url"]), str(row["cause"]), image)


def _table(trials: Iterable[Trial]) -> pa.Table:
    rows = [(trial, trial.image or DecodedImage(0, 0, b"")) for trial in trials]
    return pa.table(
        {
            "item_key": pa.array([trial.key for trial, _ in rows], pa.string()),
            "url": pa.array([trial.url for trial, _ in rows], pa.string()),
            "cause": pa.array([trial.cause for trial, _ in rows], pa.string()),
            "width": pa.array([image.width for _, image in rows], pa.int32()),
            "height": pa.array([image.height for _, image in rows], pa.int32()),
            "image": pa.array([image.jpeg for _, image in rows], pa.binary()),
        }
    )
