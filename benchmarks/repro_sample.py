"""The sample's whole pipeline, `dvc repro` in a fresh clone of HEAD, and again with nothing to do.

Rows: `repro_sample`, all stages in runs an hour (20 are three minutes a run); and `repro_sample
no-op`, the best of five (1,800 are two seconds). Seconds, and those of each stage, are logged.

There is no plain version: what the stages do is measured plain by the other works, and DVC is
what starts them. The ceiling of the first row is the same processor time spread evenly over all
cores; DVC runs one stage at a time, and a stage computes on as many threads as
`runtime.num_threads`. A no-op has no ceiling of its own: DVC reads its files, and that is all;
the peak memory beside it is that of the run before it.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Row, row, seconds

ROOT = Path(__file__).resolve().parents[1]
_REPEATED = 5
_HOUR = 3600.0
_STARTED = re.compile(r"Running stage '(.+)':")
_HIDDEN = ("GIT_", "DVC_", "MACREC_", "PYTHONPATH")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Repro:
    """One run of all stages.

    Attributes:
        seconds: of the whole command.
        processor_seconds: of the command and all that it started, over all cores.
        stages: seconds of each stage, DVC's own work after it included.
        as_committed: the results are those of the committed dvc.lock, byte for byte.
        no_op_seconds: best of the runs after it, in which nothing had changed.
    """

    seconds: float
    processor_seconds: float
    stages: Mapping[str, float]
    as_committed: bool
    no_op_seconds: float


def run() -> list[Row]:
    """Measure both rows."""
    _warn_of_changes()
    with tempfile.TemporaryDirectory(prefix="repro_sample.") as folder:
        measured = reproduce(ROOT, Path(folder))
    cores = os.cpu_count() or 1
    log.info(
        "dvc repro: %.1f s, %.1f s of processor time on %d cores; results %s; no-op: %.2f s",
        measured.seconds, measured.processor_seconds, cores,
        "as committed" if measured.as_committed else "differ from the committed dvc.lock",
        measured.no_op_seconds,
    )  # fmt: skip
    for name, took in measured.stages.items():
        log.info("%s: %.1f s", name, took)
    ceiling = _HOUR * cores / measured.processor_seconds
    return [
        row("repro_sample", "runs/h", _HOUR / measured.seconds, ceiling=ceiling),
        row("repro_sample no-op", "runs/h", _HOUR / measured.no_op_seconds),
    ]


def reproduce(repository: Path, folder: Path) -> Repro:
    """Clone a repository's HEAD, and run its pipeline until it is up to date, and further.

    Args:
        repository: root of a git repository with a DVC pipeline.
        folder: existing empty folder for the clone.

    Raises:
        subprocess.CalledProcessError: git or dvc failed; their messages are on standard error.
        RuntimeError: a run right after a complete one had something to do.
    """
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(repository), str(clone)], check=True)
    env = _environment(folder)
    before = _processor_seconds()
    start = time.perf_counter()
    stages = _stage_seconds(clone, env)
    took = time.perf_counter() - start
    used = _processor_seconds() - before
    changes = subprocess.run(
        ["git", "status", "--porcelain", "--", "dvc.lock"],
        cwd=clone, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    no_op = min(seconds(lambda: _no_op(clone, env)) for _ in range(_REPEATED))
    return Repro(took, used, stages, not changes, no_op)


def _stage_seconds(clone: Path, env: dict[str, str]) -> dict[str, float]:
    """Seconds from each stage's start to the next's, while the output goes to standard error."""
    begun: list[tuple[str, float]] = []
    command = [sys.executable, "-m", "dvc", "repro"]
    with subprocess.Popen(
        command, cwd=clone, env=env, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None  # asked for
        for line in process.stdout:
            sys.stderr.write(line)
            if found := _STARTED.match(line):
                begun.append((found[1], time.perf_counter()))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    ends = [moment for _, moment in begun[1:]] + [time.perf_counter()]
    return {name: end - start for (name, start), end in zip(begun, ends, strict=True)}


def _no_op(clone: Path, env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=clone, env=env, text=True, stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode or _STARTED.search(done.stdout):
        raise RuntimeError(f"a second `dvc repro` was no no-op:\n{done.stdout}{done.stderr}")


def _environment(folder: Path) -> dict[str, str]:
    """This environment, its Python first, without anyone's settings of git, DVC or the project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
        "DVC_GLOBAL_CONFIG_DIR": str(folder),
        "DVC_SYSTEM_CONFIG_DIR": str(folder),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
    }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _warn_of_changes() -> None:
    status = ["git", "status", "--porcelain", "--untracked-files=no"]
    if subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=True).stdout:
        log.warning("%s has changes that are not committed; HEAD is measured, without them", ROOT)
