"""Processes of one thread each that do a work together, as those of `runtime.num_processes`.

They wait without computing between calls, so that another version can be measured in between.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

from macrec_core.errors import MacrecError
from stages.launch import loopback

_SECONDS_TO_END = 10.0


class Team:
    """Processes that each hold a member and carry out the same orders at the same time.

    A context manager: the processes end with it.

    Args:
        size: of the team.
        member: `module:name` of a class whose instances are made in the processes, where the
            others can be joined; given an order, an instance returns its answer.
    """

    def __init__(self, size: int, member: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for rank in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(member, theirs), daemon=True)
            with _environment(rank, size, Path(self._folder.name) / "meeting"):
                process.start()
            theirs.close()  # so that a member that ends is noticed
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(_SECONDS_TO_END)
            if process.is_alive():  # waits for a member that is gone
                process.kill()
                process.join()
        self._folder.cleanup()

    def __call__(self, order: str) -> list[Any]:
        """The answers of all members, in the order of their ranks.

        Raises:
            MacrecError: one has ended.
        """
        answers: dict[int, Any] = {}
        ranks: dict[Any, int] = {pipe: rank for rank, pipe in enumerate(self._pipes)}
        try:
            for pipe in self._pipes:
                pipe.send(order)
            # Whoever comes first: a member whose mate has ended may never answer.
            while waiting := [pipe for pipe, rank in ranks.items() if rank not in answers]:
                for ready in wait(waiting):
                    pipe = self._pipes[ranks[ready]]
                    answers[ranks[ready]] = pipe.recv()
        except (EOFError, OSError) as error:
            raise MacrecError(
                f"{order}: a process of the benchmark has ended; its error stands above, or none "
                "does if it was killed: then free memory and measure again"
            ) from error
        return [answers[rank] for rank in range(len(self._pipes))]


@contextmanager
def _environment(rank: int, size: int, meeting: Path) -> Iterator[None]:
    """What a process must find when it starts: torch reads the number of threads as it loads."""
    before = dict(os.environ)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size),
        MACREC_RENDEZVOUS=str(meeting), OMP_NUM_THREADS="1",
        GLOO_SOCKET_IFNAME=os.environ.get("GLOO_SOCKET_IFNAME", loopback()),
    )  # fmt: skip
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serve(member: str, pipe: Connection) -> None:
    module, _, name = member.partition(":")
    obey = getattr(import_module(module), name)()
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        pipe.send(obey(order))
