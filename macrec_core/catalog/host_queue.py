"""Work that waits for hosts, none of which is asked too often at once."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import Counter
from typing import Generic, TypeVar

Task = TypeVar("Task")


class HostQueue(Generic[Task]):
    """Tasks by host, given out to threads: of those whose host is free, the one of lowest rank.

    A host that is slow keeps only its own tasks waiting.

    Args:
        limit: tasks of one host that are out at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[str, list[tuple[int, int, Task]]] = {}  # heaps
        self._count = itertools.count()  # of equal ranks, the first comes first
        self._out: Counter[str] = Counter()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, host: str, rank: int, task: Task) -> None:
        """Let a task wait for its host."""
        with self._changed:
            heap = self._waiting.setdefault(host, [])
            heapq.heappush(heap, (rank, next(self._count), task))
            self._changed.notify()

    def take(self) -> tuple[str, Task] | None:
        """Wait for a task whose host is free, to be followed by `release`; None once closed."""
        with self._changed:
            while not self._closed:
                free = [host for host in self._waiting if self._out[host] < self._limit]
                if free:
                    return self._give_out(min(free, key=lambda host: self._waiting[host][0][:2]))
                self._changed.wait()
            return None

    def release(self, host: str) -> None:
        """Say that a task of a host no longer occupies it."""
        with self._changed:
            self._out[host] -= 1
            if not self._out[host]:
                del self._out[host]
            self._changed.notify()

    def close(self) -> None:
        """Give out nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _give_out(self, host: str) -> tuple[str, Task]:
        _, _, task = heapq.heappop(self._waiting[host])
        if not self._waiting[host]:
            del self._waiting[host]
        self._out[host] += 1
        return host, task
