"""One work in a process of its own: `python -m benchmarks.worker MODULE ROWS.json`.

The runner's child. A process for each work, so that its peak memory is its own and nothing of
one work (threads, allocator, caches) reaches the next.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

from benchmarks.measure import Row


def run_module(module: str) -> list[Row]:
    """The rows of a work's `run()`, their peak memory filled in.

    Raises:
        ValueError: no rows, or one that does not begin with the work's name.
    """
    name = module.rpartition(".")[2]
    rows: list[Row] = import_module(module).run()
    if not rows:
        raise ValueError(f"{module}.run() gave no rows; give at least one")
    for row in rows:
        if row.work.split(" ")[0] != name:
            raise ValueError(
                f"{module}.run() gave a row named {row.work!r}; begin it with {name!r}, by which "
                "its results are found again"
            )
    peak = peak_memory_mb()
    return [row if row.peak_memory_mb else replace(row, peak_memory_mb=peak) for row in rows]


def peak_memory_mb() -> float:
    """The highest resident memory of this process or of the largest process it started."""
    # Linux counts KiB, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    kilobytes = max(_own_peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    return kilobytes * unit / 1e6


def _own_peak() -> int:
    """As getrusage counts it, but without what the parent process held when it started this."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    _, _module, _target = sys.argv
    Path(_target).write_text(json.dumps([asdict(row) for row in run_module(_module)]))
