"""Processes of one thread each that do a work together, as those of `runtime.num_processes`.

They wait without computing between calls, so that another version can be measured in between.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from macrec_core.errors import MacrecError

Member = Callable[[str], object]  # given an order, its answer


class Team:
    """Processes that each hold a member and carry out the same orders at the same time.

    Args:
        size: of the team.
        member: makes one in its process, where the others are joined; an importable function.
    """

    def __init__(self, size: int, member: Callable[[], Member]) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        self._pipes, self._processes = [], []
        for rank in range(size):
            ours, theirs = context.Pipe()
            arguments = (rank, size, self._folder.name, member, theirs)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()  # so that a member that ends is noticed
            self._pipes.append(ours)
            self._processes.append(process)

    def __call__(self, order: str) -> list[Any]:
        """The answers of all members.

        Raises:
            MacrecError: one has ended.
        """
        try:
            for pipe in self._pipes:
                pipe.send(order)
            return [pipe.recv() for pipe in self._pipes]
        except (EOFError, BrokenPipeError) as error:
            raise MacrecError(
                "a process of the benchmark has ended; its error stands above, or none does if "
                "it was killed: then free memory and measure again"
            ) from error

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join()
        self._folder.cleanup()


def _serve(
    rank: int, size: int, folder: str, member: Callable[[], Member], pipe: Connection
) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size),
        OMP_NUM_THREADS="1",
        MACREC_RENDEZVOUS=str(Path(folder) / "meeting"),
    )  # fmt: skip
    obey = member()
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        pipe.send(obey(order))
