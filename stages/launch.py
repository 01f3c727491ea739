"""Runs one stage in several processes of this machine, as `runtime.num_processes` says.

The process that DVC starts then only starts the workers, each with the same command line, waits
for them and ends as they end. Under `torchrun` or `accelerate launch` it is a worker itself:

    torchrun --nproc-per-node 2 -m stages train_gr ...
    accelerate launch --multi_gpu --num_processes 2 -m stages train_gr ...

Not `torchrun` for all, because it loads torch to do nothing but wait (3 s, 300 MB), and because
its workers live on when it is killed, and write beside those of the next run.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import IO, TYPE_CHECKING

import typer

from macrec_core.errors import LostContactError, MacrecError

if TYPE_CHECKING:
    from macrec_core.params.whole import RuntimeParams

# In the environment of a worker that this module has started: the file by which the workers
# find each other. A port could be taken before they use it, and be open to other machines.
_MEETING = "MACREC_RENDEZVOUS"
_SECONDS_BETWEEN_LOOKS = 0.05
# After one has failed: for the others to end by themselves, and then to end when told to.
_SECONDS_TO_FOLLOW = 3.0
_SECONDS_TO_STOP = 5.0
_LAST_LINES = 30


def share_work(params: RuntimeParams) -> None:
    """Return in a process that does the work; one that only starts such processes ends here.

    To be called before anything heavy is imported.

    Args:
        params: section `runtime`.

    Raises:
        MacrecError: a worker was killed.
        typer.Exit: the workers have ended, well or with an error that they have told.
    """
    if "WORLD_SIZE" in os.environ:
        _work()
    elif params.num_processes > 1:
        _launch(params)
        raise typer.Exit


def _work() -> None:
    """Be one of several: only the first tells what all of them do."""
    if int(os.environ.get("RANK", "0")):
        logging.getLogger().setLevel(logging.ERROR)
    if _MEETING in os.environ:
        threading.Thread(target=_end_with_launcher, daemon=True).start()


def _end_with_launcher() -> None:
    # Nothing is ever written: the pipe ends when the launcher does, however it ends.
    os.read(0, 1)
    os._exit(1)


@dataclass(frozen=True)
class _Worker:
    """A started process.

    Attributes:
        rank: its number.
        process: handle; its input ends when the launcher does.
        output: what it has said, None where the user sees it at once.
    """

    rank: int
    process: Popen[bytes]
    output: IO[bytes] | None


def _launch(params: RuntimeParams) -> None:
    workers: list[_Worker] = []
    with tempfile.TemporaryDirectory(prefix="macrec-") as folder:
        environment = _environment(params, Path(folder))
        try:
            for rank in range(params.num_processes):
                workers.append(_started(rank, environment))
            failed = _first_failure(workers)
        finally:
            _stop([worker.process for worker in workers])
    if failed is not None:
        _tell(failed, params.num_processes)


def _environment(params: RuntimeParams, folder: Path) -> dict[str, str]:
    """What all workers share, by the names that torch and Accelerate read."""
    count = params.num_processes
    # As torch counts them by itself, in one process.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    defaults = {
        "OMP_NUM_THREADS": str(params.num_threads or max(1, (cores or 1) // count)),
        # Nothing leaves the machine.
        "GLOO_SOCKET_IFNAME": loopback(),
    }
    return {
        **defaults,
        **os.environ,
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        _MEETING: str(folder / "rendezvous"),
    }


def loopback() -> str:
    """The network interface on which nothing leaves the machine."""
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def _command() -> list[str]:
    """This command line again."""
    return [sys.executable, "-m", "stages", *sys.argv[1:]]


def _started(rank: int, environment: dict[str, str]) -> _Worker:
    # The first one's words go to the user. What the others say would mix with them and be the
    # same; it is kept in case that one of them fails.
    output = tempfile.TemporaryFile() if rank else None
    process = Popen(
        _command(),
        env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        stdin=PIPE,
        stdout=output,
        stderr=output,
    )
    return _Worker(rank, process, output)


def _first_failure(workers: list[_Worker]) -> _Worker | None:
    """Wait for all, or for the failure of one; the one whose end made the others end, if any."""
    while True:
        codes = [worker.process.poll() for worker in workers]
        if not any(code is None for code in codes) or any(codes):
            break
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if not any(codes):
        return None
    # Of an error that all meet the first worker tells, and one whose partner is gone is not the
    # one to blame: so that all who are about to end are heard.
    deadline = time.monotonic() + _SECONDS_TO_FOLLOW
    while time.monotonic() < deadline and None in [w.process.poll() for w in workers]:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return min((w for w in workers if w.process.returncode), key=_blame)


def _blame(worker: _Worker) -> tuple[bool, bool, int]:
    code = worker.process.returncode
    return code > 0, code == LostContactError.exit_code, worker.rank


def _stop(processes: list[Popen[bytes]]) -> None:
    for end in (Popen.terminate, Popen.kill):
        running = [process for process in processes if process.poll() is None]
        deadline = time.monotonic() + _SECONDS_TO_STOP
        for process in running:
            end(process)
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except TimeoutExpired:
                continue


def _tell(failed: _Worker, count: int) -> None:
    """Say how a worker has ended.

    Raises:
        MacrecError: it was killed.
        typer.Exit: it has told itself.
    """
    name = f"process {failed.rank + 1} of {count} (rank {failed.rank})"
    code = failed.process.returncode
    if failed.output is not None:
        failed.output.seek(0)
        lines = failed.output.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
        for line in lines:
            typer.echo(f"{name}: {line}", err=True)
    if code > 0:
        raise typer.Exit(code)
    try:
        reason = signal.Signals(-code).name
    except ValueError:
        reason = "unknown"
    hint = "; memory may have run out" if -code == signal.SIGKILL else ""
    raise MacrecError(
        f"{name} was killed by signal {-code} ({reason}{hint}), and the others were stopped; run "
        "the same again to go on from the last checkpoint"
    )
