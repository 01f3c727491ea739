"""Runs the benchmarks: `python -m benchmarks [NAME...]`, each work in a process of its own.

Prints one table and keeps it in benchmarks/results/cpu.json and cpu.md; works that were not
named keep the rows of their last run. Nothing is written where a work fails.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Row
from benchmarks.table import (
    describe_machine,
    in_order,
    merged,
    read_rows,
    table,
    write_results,
)

WORKS = (
    "t5_training",
    "constrained_decoding",
    "rqvae_epoch",
    "sid_assignment",
    "build_seq2seq",
    "filter_50m",
    "embed_text",
    "embed_image",
    "repro_sample",
)
RESULTS = Path(__file__).parent / "results/cpu.json"


class WorkFailedError(Exception):
    """A work ended with an error, which stands above on standard error.

    Attributes:
        exit_code: the work's.
    """

    def __init__(self, name: str, exit_code: int) -> None:
        super().__init__(f"{name}: failed with exit code {exit_code}")
        self.exit_code = exit_code


def main(
    arguments: Sequence[str],
    results: Path = RESULTS,
    works: Sequence[str] = WORKS,
    package: str = "benchmarks",
) -> int:
    """Run works, print the table and keep it.

    Args:
        arguments: works to run; none means all, and then no older row is kept.
        results: the JSON file; it stays as it was where a work fails.
        works: all works, in the table's order.
        package: where their modules stand.

    Returns:
        The exit code: 2 for an unknown name, otherwise the failed work's, or 0.
    """
    if {"-h", "--help"} & {*arguments}:
        _say(f"usage: python -m benchmarks [WORK ...]; all works without one\n{_described(works)}")
        return 0
    unknown = [name for name in arguments if name not in works]
    if unknown:
        _say(f"error: no benchmark {', '.join(unknown)}; known: {', '.join(works)}")
        return 2
    chosen = [name for name in works if name in (arguments or works)]
    machine = describe_machine()
    try:
        measured = {name: _run(name, f"{package}.{name}") for name in chosen}
    except WorkFailedError as error:
        _say(f"error: {error}; no results are written")
        return error.exit_code
    older = read_rows(results) if arguments else []
    rows = in_order(merged(older, measured), works)
    write_results(results, rows, machine, measured, everything=not arguments)
    sys.stdout.write(table(rows))
    return 0


def _described(works: Sequence[str]) -> str:
    """A line a work: the first of its module, which is not imported for it."""
    lines = []
    for name in works:
        tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text())
        lines.append(f"  {name}: {(ast.get_docstring(tree) or '').splitlines()[0]}")
    return "\n".join(lines)


def _run(name: str, module: str) -> list[Row]:
    _say(f"{name} ...")
    start = time.monotonic()
    # As in the stages, which say why.
    env = {"GOMP_SPINCOUNT": "10000", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8192", **os.environ}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.worker", module, str(target)]
        # Standard output is the table's.
        done = subprocess.run(command, env=env, stdout=sys.stderr, check=False)
        if done.returncode:
            # A signal's negative number is no exit code.
            raise WorkFailedError(name, done.returncode if done.returncode > 0 else 1)
        rows = [Row(**entry) for entry in json.loads(target.read_text())]
    _say(f"{name}: {time.monotonic() - start:.0f} s")
    return rows


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
