"""What `benchmarks.gpu` measures with: a clock that waits for the GPU, its limits, its table.

A GPU works through what it has been told long after the call has returned, so that every time
here is taken after `synchronise`.
"""

from __future__ import annotations

import fcntl
import gc
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.measure import Row
from macrec_core.runtime import Runtime

log = logging.getLogger("benchmarks.gpu")

_SIDE, _SMALL_SIDE = 8192, 256  # of the matrices whose product is the machine's limit
_PRODUCTS, _ROUNDS = 10, 5
_HEADER = (
    "work", "unit", "ours", "plain", "ratio", "ceiling", "share of ceiling", "peak MB", "seconds",
    "goal", "reached",
)  # fmt: skip


@dataclass(frozen=True)
class GpuRow(Row):
    """A row with the goal it is measured against.

    Attributes:
        seconds: that the goal speaks of; None where it speaks of something else.
        goal: in words.
        reached: None where the work was not run as the goal demands (`--small`).
        details: whatever else is worth keeping, as JSON.
    """

    seconds: float | None = None
    goal: str | None = None
    reached: bool | None = None
    details: Mapping[str, object] = field(default_factory=dict)


class Budget:
    """Seconds that a work may take, of those that the whole call has left.

    Args:
        seconds: for this work.
        deadline: of the whole call, on `time.monotonic`'s clock.
    """

    def __init__(self, seconds: float, deadline: float) -> None:
        self._end = min(time.monotonic() + seconds, deadline)

    @property
    def left(self) -> float:
        """Seconds; not below 0."""
        return max(0.0, self._end - time.monotonic())

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        return self.left == 0


@dataclass(frozen=True)
class Machine:
    """Where a work runs.

    Attributes:
        runtime: device and precision of training, as `runtime.start` chose them.
        matrix_rate: FLOP/s of matrix products, of bfloat16 on a GPU, measured in the same call.
        small: sizes of a test; no goal is then reached or missed.
    """

    runtime: Runtime
    matrix_rate: float
    small: bool

    @property
    def device(self) -> torch.device:
        """The runtime's."""
        return self.runtime.device

    def verdict(self, reached: bool) -> bool | None:
        """`reached`, unless nothing can be said of it."""
        return None if self.small else reached

    def start(self) -> None:
        """Before a work: memory of the last one is given back and its peak forgotten."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_memory_mb(self) -> float:
        """Highest GPU memory since `start` in 10^6 bytes; on a CPU the process's, ever."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6

    def seconds(self, function: Callable[[], object]) -> float:
        """Seconds that a call takes, until the device has done all of it."""
        self.synchronise()
        start = time.perf_counter()
        function()
        self.synchronise()
        return time.perf_counter() - start

    def synchronise(self) -> None:
        """Return once the device has nothing left to do."""
        synchronise(self.device)


def synchronise(device: torch.device) -> None:
    """Return once a device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device, dtype: torch.dtype, small: bool) -> float:
    """FLOP/s of 8192 x 8192 x 8192 products of random numbers: the median of five times ten.

    On a CPU, which nobody asks for its limit here, the matrices are small.
    """
    side = _SIDE if device.type == "cuda" and not small else _SMALL_SIDE
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def products() -> float:
        synchronise(device)
        start = time.perf_counter()
        for _ in range(_PRODUCTS):
            torch.mm(a, b, out=out)
        synchronise(device)
        return time.perf_counter() - start

    products()
    seconds = sorted(products() for _ in range(_ROUNDS))[_ROUNDS // 2]
    return _PRODUCTS * 2 * side**3 / seconds


def gpu_row(
    machine: Machine,
    work: str,
    unit: str,
    ours: float,
    *,
    flops: float | None = None,
    plain: float | None = None,
    seconds: float | None = None,
    goal: str | None = None,
    reached: bool | None = None,
    details: Mapping[str, object] | None = None,
) -> GpuRow:
    """A row with ratio, ceiling and share worked out, and the peak memory of now.

    Args:
        machine: where it ran.
        work: the work's name, and after a space which of its cases.
        unit: of the rates.
        ours: rate.
        flops: operations of one unit; the ceiling is the matrix rate over them.
        plain: rate of the plain version.
        seconds: see `GpuRow`.
        goal: see `GpuRow`.
        reached: see `GpuRow`; ignored with `--small`.
        details: see `GpuRow`.
    """
    ceiling = None if flops is None else machine.matrix_rate / flops
    return GpuRow(
        work, unit, ours, plain, None if plain is None else ours / plain, ceiling,
        None if ceiling is None else ours / ceiling, machine.peak_memory_mb(), seconds, goal,
        None if reached is None else machine.verdict(reached), dict(details or {}),
    )  # fmt: skip


def keep(path: Path, new: Iterable[GpuRow]) -> list[dict[str, object]]:
    """Add rows to a JSON file, and write the table beside it; a row of the same name gives way.

    Several processes may write to one file.

    Returns:
        All entries of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        older = json.loads(path.read_text()) if path.exists() else []
        entries = {(entry["work"], entry["unit"]): entry for entry in older}
        entries |= {(row.work, row.unit): asdict(row) for row in new}
        values = list(entries.values())
        _replace(path, json.dumps(values, indent=1, allow_nan=False) + "\n")
        _replace(path.with_suffix(".md"), "# Speed on a GPU\n\n" + table(values))
    return values


def table(entries: Sequence[Mapping[str, object]]) -> str:
    """Entries of the JSON file as a Markdown table, padded so that a terminal shows it well."""
    cells = [list(_HEADER)] + [_cells(entry) for entry in entries]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in cells
    ]  # fmt: skip
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def _cells(entry: Mapping[str, object]) -> list[str]:
    reached = "" if entry["reached"] is None else "yes" if entry["reached"] else "no"
    ratio, share = entry["ratio"], entry["share_of_ceiling"]
    return [
        str(entry["work"]), str(entry["unit"]), _number(entry["ours"]), _number(entry["plain"]),
        f"{ratio:.2f} x" if isinstance(ratio, float) else "", _number(entry["ceiling"]),
        f"{100 * share:.1f} %" if isinstance(share, float) else "",
        _number(entry["peak_memory_mb"]), _number(entry["seconds"]), str(entry["goal"] or ""),
        reached,
    ]  # fmt: skip


def _number(value: object) -> str:
    if not isinstance(value, int | float):
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """While no other process that asks for it holds the folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
