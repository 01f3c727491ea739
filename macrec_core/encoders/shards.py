"""Vectors kept a shard of items at a time, so that a killed run goes on where it stopped.

A catalogue's shards lie in a folder keyed by everything that a vector depends on: weights,
tokenizer, settings, input files, code, libraries, device, precision. Another run never meets them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from macrec_core.artifacts import atomic_path
from macrec_core.errors import MacrecError
from macrec_core.processes import ALONE, Processes
from macrec_core.runtime import Runtime, code_files, fingerprint

log = logging.getLogger(__name__)

# Items a shard: what a kill can lose, and what is sorted by length at once. With real texts,
# batches of 1,024 tokens then hold 0.6 % padding, and those of 8,192 hold 5 %.
SHARD_ITEMS = 2048
# Modules of macrec_core whose change makes older vectors stale: those that dvc.yaml lists.
CODE = ("encoders", "processes", "runtime")
LIBRARIES = ("pillow", "timm", "tokenizers", "torchvision")


def run_folder(scratch: Path, settings: Sequence[str], data: Path, runtime: Runtime) -> Path:
    """The folder of one run's shards.

    Args:
        scratch: of all runs of one stage.
        settings: parameters, weights and whatever else shapes the vectors, as texts.
        data: the file that is embedded.
        runtime: device and precision; which of several equal devices and how many processes
            does not matter.
    """
    here = replace(runtime, device=torch.device(runtime.device.type), processes=ALONE)
    libraries = [f"{name} {version(name)}" for name in LIBRARIES]
    return scratch / fingerprint([*settings, *libraries], [data], code_files(*CODE), here)


class Shards:
    """Vectors [items, width] of a catalogue in files of `SHARD_ITEMS` rows.

    Iterating gives the shards' vectors in the order of the items, one in memory at a time.

    Args:
        folder: of this run.
        num_items: items of the catalogue.
        processes: shard i belongs to process i modulo their number.

    Attributes:
        size: items a shard; the last may have fewer.
        starts: first item of every shard.
    """

    def __init__(self, folder: Path, num_items: int, processes: Processes) -> None:
        self.size = SHARD_ITEMS
        self.starts = range(0, num_items, self.size)
        self._folder = folder
        self._num_items = num_items
        self._own = self.starts[processes.rank :: processes.count]

    def missing(self) -> list[int]:
        """First items of this process's shards that are not there whole; damage is logged."""
        missing = []
        for start in self._own:
            try:
                if self._path(start).exists():
                    self._load(start)
                    continue
            except MacrecError as error:
                log.warning("%s; it is computed again", error)
            missing.append(start)
        if len(missing) < len(self._own):
            log.info("%d of %d shards are at %s", len(self._own) - len(missing), len(self._own),
                     self._folder)  # fmt: skip
        return missing

    def rows_of(self, start: int) -> int:
        """Items of the shard that begins at `start`."""
        return min(self.size, self._num_items - start)

    def save(self, start: int, vectors: np.ndarray, counts: Mapping[str, int]) -> None:
        """Keep one shard: [items, width] float32, and what was counted on the way."""
        assert vectors.shape[0] == self.rows_of(start) and vectors.dtype == np.float32
        facts = {"sha256": _sha256(vectors), "counts": json.dumps(dict(counts))}
        with atomic_path(self._path(start)) as temporary:
            save_file({"vectors": np.ascontiguousarray(vectors)}, temporary, facts)

    def counts(self) -> dict[str, float]:
        """Sums of the shards' counts."""
        total: Counter[str] = Counter()
        for start in self.starts:
            total.update(self._load(start)[1])
        return dict(total)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The vectors of every shard.

        Raises:
            MacrecError: a shard is missing or damaged.
        """
        for start in self.starts:
            yield self._load(start)[0]

    def discard(self) -> None:
        """Remove the folder, once the vectors are elsewhere."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:09d}.safetensors"

    def _load(self, start: int) -> tuple[np.ndarray, dict[str, int]]:
        path = self._path(start)
        try:
            with safe_open(path, framework="numpy") as file:
                facts, vectors = file.metadata(), file.get_tensor("vectors")
            if _sha256(vectors) != facts["sha256"] or len(vectors) != self.rows_of(start):
                raise ValueError("its checksum or number of rows is wrong")
            counts: dict[str, int] = json.loads(facts["counts"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise MacrecError(
                f"{path}: is no whole shard of vectors ({error}); delete it and run again"
            ) from error
        return vectors, counts


def _sha256(vectors: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors).data).hexdigest()
