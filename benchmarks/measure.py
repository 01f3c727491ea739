"""What a benchmark measures, and the machine's limits that it is compared with.

A work is a module of this package with `run() -> list[Row]`; its rows' names begin with the
module's, so that the runner knows whose they are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_SIDE = 2048  # of the matrices: large enough to fill the caches of every level
_COPIED = 1 << 28  # bytes, many times a last-level cache
_ROUNDS = 8


@dataclass(frozen=True)
class Row:
    """One line of the table. Rates: the bigger, the better.

    Attributes:
        work: the module's name, and after a space which of its cases.
        unit: of the three rates, for example "examples/s".
        ours: rate of this project's code.
        plain: rate of the plain version in the same run; None where there is none.
        ratio: ours / plain.
        ceiling: what the machine's limit, measured in the same run, would allow.
        share_of_ceiling: ours / ceiling.
        peak_memory_mb: resident memory at its highest, 10^6 bytes; the runner fills in the
            whole process's, plain version included, where a work does not state its own.
    """

    work: str
    unit: str
    ours: float
    plain: float | None
    ratio: float | None
    ceiling: float | None
    share_of_ceiling: float | None
    peak_memory_mb: float | None


def row(
    work: str,
    unit: str,
    ours: float,
    plain: float | None = None,
    ceiling: float | None = None,
    peak_memory_mb: float | None = None,
) -> Row:
    """A row with its ratio and its share of the ceiling worked out."""
    return Row(
        work,
        unit,
        ours,
        plain,
        None if plain is None else ours / plain,
        ceiling,
        None if ceiling is None else ours / ceiling,
        peak_memory_mb,
    )


def interleaved(
    ours: Callable[[], object], plain: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Least seconds of each of two functions, run in turn: ours, plain, ours, plain.

    On a machine with other users, each then sees the same good and bad moments; the least of
    several is the one that was disturbed least. Neither is run before the clock starts: what
    should not be measured (compilation, first allocations) the caller does before.

    Args:
        ours: the function to measure.
        plain: what it is compared with.
        rounds: runs of each.
    """
    best_ours = best_plain = float("inf")
    for _ in range(rounds):
        best_ours = min(best_ours, seconds(ours))
        best_plain = min(best_plain, seconds(plain))
    return best_ours, best_plain


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def seconds(function: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def matrix_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of a 2048 x 2048 x 2048 product on the CPU with torch's threads, best of 8."""
    import torch

    a = torch.randn(_SIDE, _SIDE).to(dtype)
    b = torch.randn(_SIDE, _SIDE).to(dtype)
    out = torch.empty_like(a)
    torch.mm(a, b, out=out)  # the first call chooses a kernel and packs
    best = min(seconds(lambda: torch.mm(a, b, out=out)) for _ in range(_ROUNDS))
    return 2 * _SIDE**3 / best / 1e9


def memory_bandwidth() -> float:
    """GB/s (10^9 bytes) read and written by a copy of 256 MiB with torch's threads, best of 8.

    Bytes that the processor reads only to overwrite them are not counted.
    """
    import torch

    source = torch.ones(_COPIED, dtype=torch.uint8)
    target = torch.zeros_like(source)
    best = min(seconds(lambda: target.copy_(source)) for _ in range(_ROUNDS))
    return 2 * _COPIED / best / 1e9
