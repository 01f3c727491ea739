"""Work that waits for hosts, none of which is asked too often at once."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Generic, TypeVar

Task = TypeVar("Task")


class HostQueue(Generic[Task]):
    """Tasks by host, given out to threads: hosts in turn, a host's tasks first come, first served.

    A host that is slow keeps only its own tasks waiting.

    Args:
        limit: tasks of one host that are out at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[str, deque[Task]] = {}
        self._out: Counter[str] = Counter()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, host: str, task: Task) -> None:
        """Let a task wait for its host."""
        with self._changed:
            self._waiting.setdefault(host, deque()).append(task)
            self._changed.notify()

    def take(self) -> tuple[str, Task] | None:
        """Wait for a task whose host is free, to be followed by `release`; None once closed."""
        with self._changed:
            while not self._closed:
                free = (host for host in self._waiting if self._out[host] < self._limit)
                host = next(free, None)
                if host is not None:
                    return host, self._give_out(host)
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

    def _give_out(self, host: str) -> Task:
        tasks = self._waiting.pop(host)
        task = tasks.popleft()
        if tasks:
            self._waiting[host] = tasks  # behind the other hosts
        self._out[host] += 1
        return task
