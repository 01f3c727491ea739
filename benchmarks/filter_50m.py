"""Up to 50 million ratings from a CSV file to their chronological 5-core.

The ratings are made up: users and items drawn by Zipf's laws, in the proportions of Amazon Books
(a user for every 3 ratings, an item for every 17), on random days, some of them twice. What is
measured begins with the file and ends with the core in memory; metadata is read elsewhere.

Plain is the same in lists, sets and counters, at 2 million ratings, and must give the same core.
The ceiling is the rate at which Polars splits the same file into fields and counts them. Each
size has a process of its own, whose peak memory, before plain runs, is the row's.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.measure import Row, interleaved, row, seconds
from benchmarks.plain_filter import core_plainly
from benchmarks.worker import peak_memory_mb
from macrec_core.catalog.filtering import Core, core_of
from macrec_core.catalog.ratings import read_ratings

log = logging.getLogger(__name__)

_SIZES = (1_000_000, 5_000_000, 10_000_000, 50_000_000)
_PLAIN_SIZE = 2_000_000
_PART = 1_000_000  # ratings made at a time
_K = 5


@dataclass(frozen=True)
class Measured:
    """What one size took.

    Attributes:
        seconds: of ours.
        plain_seconds: of plain, where it ran.
        scan_seconds: of a mere scan of the file.
        peak_mb: of the process, before plain ran.
        kept: interactions in the core.
        rounds: of the core.
    """

    seconds: float
    plain_seconds: float | None
    scan_seconds: float
    peak_mb: float
    kept: int
    rounds: int


def run(sizes: Sequence[int] = _SIZES, plain_size: int = _PLAIN_SIZE) -> list[Row]:
    """One row for each number of ratings; plain in that of `plain_size`."""
    rows = []
    for size in sorted({*sizes, plain_size}):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ratings.csv"
            write_ratings(path, size)
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                found = process.submit(measure, path, size, size == plain_size).result()
        plain = None if found.plain_seconds is None else size / found.plain_seconds
        rows.append(
            row(
                f"filter_50m {size / 1e6:g}M", "ratings/s", size / found.seconds, plain,
                size / found.scan_seconds, found.peak_mb,
            )
        )  # fmt: skip
        log.info(
            "%s: %.1f s, %.0f MB; %d interactions left after %d rounds",
            rows[-1].work, found.seconds, found.peak_mb, found.kept, found.rounds,
        )  # fmt: skip
    return rows


def measure(path: Path, size: int, with_plain: bool) -> Measured:
    """Measure one file of `size` ratings."""
    described = item_keys(size)
    cores: list[Core] = []
    peaks: list[float] = []
    plain: list[list[tuple[str, str, int]]] = []

    def ours() -> None:
        cores.append(core_of(read_ratings(path).interactions, described, None, _K))
        peaks.append(peak_memory_mb())

    def plainly() -> None:
        plain.append(core_plainly(path, set(described), _K))

    if with_plain:
        took, plain_took = interleaved(ours, plainly, 1)
        assert cores[0].interactions.rows() == plain[0]
    else:
        took, plain_took = seconds(ours), None
    return Measured(
        took,
        plain_took,
        seconds(lambda: _scan(path)),
        peaks[0],
        len(cores[0].interactions),
        cores[0].rounds,
    )


def _scan(path: Path) -> None:
    """Split every line into its fields, and count them."""
    lines = pl.scan_csv(path, has_header=False, infer_schema=False, quote_char=None)
    lines.select(pl.all().count()).collect(engine="streaming")


def item_keys(size: int) -> list[str]:
    """Keys of all items of a file of `size` ratings."""
    return [f"B{number:09d}" for number in range(_num_items(size))]


def _num_items(size: int) -> int:
    return max(size // 17, 10)


def write_ratings(path: Path, size: int) -> None:
    """Write `size` made-up ratings, a part at a time."""
    rng = np.random.default_rng(0)
    users, items = _Zipf(max(size // 3, 10), 0.6, rng), _Zipf(_num_items(size), 0.8, rng)
    with path.open("wb") as file:
        for start in range(0, size, _PART):
            count = min(_PART, size - start)
            part = pl.DataFrame(
                {
                    "item": items.draw(count),
                    "user": users.draw(count),
                    "stars": rng.integers(1, 6, count),
                    "day": rng.integers(10_000, 17_800, count),
                }
            )
            part.select(
                pl.format("B{}", pl.col("item").cast(pl.String).str.zfill(9)),
                pl.format("A{}", pl.col("user").cast(pl.String).str.zfill(13)),
                pl.format("{}.0", "stars"),
                pl.col("day") * 86_400,
            ).write_csv(file, include_header=False)


class _Zipf:
    """Numbers below `count`, the n-th most frequent with a weight of n^-exponent."""

    def __init__(self, count: int, exponent: float, rng: np.random.Generator) -> None:
        weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
        self._shares = np.cumsum(weights) / weights.sum()
        self._numbers = rng.permutation(count)
        self._rng = rng

    def draw(self, count: int) -> np.ndarray:
        places = np.searchsorted(self._shares, self._rng.random(count))
        numbers: np.ndarray = self._numbers[np.minimum(places, len(self._numbers) - 1)]
        return numbers
