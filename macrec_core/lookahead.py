"""Making the next while the last is in use, without changing what is made or its order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_NO_MORE = object()


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items; a thread makes one more while the caller works with the last.

    Pays where both release Python's lock for most of their time, as NumPy and Arrow do. An
    error in making an item is raised where the item would have come.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "lookahead") as pool:
        waiting = pool.submit(next, source, _NO_MORE)
        while (item := waiting.result()) is not _NO_MORE:
            waiting = pool.submit(next, source, _NO_MORE)
            yield item  # type: ignore[misc]  # the sentinel is no T


def in_threads(
    work: Callable[[T], R],
    items: Iterable[T],
    threads: int,
    start: Callable[[], object] = lambda: None,
) -> Iterator[R]:
    """The results of `work` in the order of the items, which several threads work on.

    At most two items a thread are begun before the caller has taken the first of their results.
    An error is raised where the result would have come.

    Args:
        work: called once with each item.
        items: taken by the caller's thread.
        threads: threads that work.
        start: called first in each thread.
    """
    with ThreadPoolExecutor(threads, "worker", start) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
