"""Finds an image for every item: the first of its URLs that gives a decodable one."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from urllib.parse import urlsplit

from macrec_core.catalog.host_queue import HostQueue
from macrec_core.catalog.image_counts import Pace, Tally
from macrec_core.catalog.image_trials import NO_URL, PERMANENT, Trial, TrialBlocks
from macrec_core.catalog.images import ImageError, decode_image
from macrec_core.params.data import ImageParams
from macrec_core.progress import Progress

log = logging.getLogger(__name__)

Load = Callable[[str], bytes]

# Blocks searched at once. An item that waits long for its host holds up its own block only, and
# what 16 blocks hold of reduced images is below 100 MB.
_OPEN_BLOCKS = 16


@dataclass
class _Block:
    """A block whose items are being searched.

    Attributes:
        start: place of its first item.
        left: searches not yet finished.
        trials: of the finished ones, by item.
    """

    start: int
    left: int
    trials: dict[str, list[Trial]] = field(default_factory=dict)


@dataclass
class _Search:
    """One item's search.

    Attributes:
        block: the item's.
        key: the item's.
        urls: not yet asked for, best first.
        known: causes of URLs that an earlier run found useless for good.
        trials: what was asked for so far.
    """

    block: _Block
    key: str
    urls: deque[str]
    known: Mapping[str, str]
    trials: list[Trial] = field(default_factory=list)

    def next_url(self) -> str | None:
        """The next URL to ask for, past those known to be useless; None if none is left."""
        while self.urls:
            cause = self.known.get(storable(self.urls[0]))
            if cause is None:
                return self.urls.popleft()
            self.trials.append(Trial(self.key, storable(self.urls.popleft()), cause))
        if not self.trials:
            self.trials.append(Trial(self.key, "", NO_URL))
        return None


def find_images(
    urls: Mapping[str, Sequence[str]],
    load: Load,
    params: ImageParams,
    blocks: TrialBlocks,
    progress: Progress,
) -> Tally:
    """Search until every block is kept.

    What an earlier run has found is not searched again, nor what it found to be missing for
    good; where a cause may have passed, the item's URLs are asked for once more.

    Args:
        urls: item key to URLs, best first.
        load: bytes behind a URL; raises `ImageError`. Called from `params.concurrency` threads,
            for one host from at most `params.per_host`.
        params: limits.
        blocks: where trials are kept.
        progress: told of each item.

    Raises:
        MacrecError: more than `params.max_failure_rate` of the items have no image.
    """
    tally = Tally(len(urls))
    todo = _unfinished(blocks, tally)
    tally.check(params, blocks.folder)
    left = sum(todo.values())
    if left < len(urls):
        log.info(
            "images: %d of %d items were settled by an earlier run, at %s",
            len(urls) - left, len(urls), blocks.folder,
        )  # fmt: skip
    pace = Pace(left)
    progress.start("images", left)
    crew = _Crew(load, params)
    waiting, open_blocks = deque(todo), 0
    try:
        while waiting or open_blocks:
            if waiting and open_blocks < _OPEN_BLOCKS:
                for search in _searches(urls, blocks, waiting.popleft()):
                    crew.begin(search)
                open_blocks += 1
                continue
            search = crew.finished()
            progress.advance(status=pace.advance())
            block = search.block
            block.trials[search.key] = search.trials
            block.left -= 1
            if not block.left:
                open_blocks -= 1
                blocks.save(block.start, block.trials)
                tally.add(block.trials)
                tally.check(params, blocks.folder)
    finally:
        crew.dismiss()
    return tally


def storable(url: str) -> str:
    """The URL without lone surrogates, which no UTF-8 file can hold."""
    return url.encode("utf-8", "replace").decode("utf-8")


def _unfinished(blocks: TrialBlocks, tally: Tally) -> dict[int, int]:
    """First items of blocks with searches to do, and their number; the rest goes into the tally."""
    todo = {}
    for start in blocks.starts:
        settled = _settled(blocks.causes(start))
        tally.add(settled)
        if len(settled) < len(blocks.keys(start)):
            todo[start] = len(blocks.keys(start)) - len(settled)
    return todo


def _searches(urls: Mapping[str, Sequence[str]], blocks: TrialBlocks, start: int) -> list[_Search]:
    """The searches that a block still needs."""
    earlier = blocks.causes(start)
    settled = _settled(earlier)
    keys = [key for key in blocks.keys(start) if key not in settled]
    block = _Block(start, len(keys))
    searches = []
    for key in keys:
        trials = earlier.get(key, [])
        known = {trial.url: trial.cause for trial in trials if trial.cause in PERMANENT}
        searches.append(_Search(block, key, deque(urls[key]), known))
    return searches


def _settled(trials: Mapping[str, list[Trial]]) -> dict[str, list[Trial]]:
    """The trials of items that have an image, or for good have none."""
    return {
        key: of_item
        for key, of_item in trials.items()
        if not of_item[-1].cause or not any(trial.may_pass for trial in of_item)
    }


class _Crew:
    """Threads that load and decode.

    Daemons: an interrupted program does not wait for the slowest server.
    """

    def __init__(self, load: Load, params: ImageParams) -> None:
        self._load = load
        self._params = params
        self._queue: HostQueue[tuple[_Search, str]] = HostQueue(params.per_host)
        self._finished: SimpleQueue[_Search | BaseException] = SimpleQueue()
        for _ in range(params.concurrency):
            threading.Thread(target=self._work, daemon=True).start()

    def begin(self, search: _Search) -> None:
        """Search for an item's image, or for the rest of its URLs."""
        url = search.next_url()
        if url is None:
            self._finished.put(search)
        else:
            # Earlier blocks first, with all URLs of their items: a kill finds few of them open.
            self._queue.put(_host(url), search.block.start, (search, url))

    def finished(self) -> _Search:
        """Wait for a search that has ended; an unexpected error of a thread is raised here."""
        outcome = self._finished.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def dismiss(self) -> None:
        """Let the threads end after what they are at."""
        self._queue.close()

    def _work(self) -> None:
        while (taken := self._queue.take()) is not None:
            host, (search, url) = taken
            try:
                self._try(search, url, host)
            except BaseException as error:  # raised again in `finished`
                self._finished.put(error)

    def _try(self, search: _Search, url: str, host: str) -> None:
        try:
            try:
                data = self._load(url)
            finally:
                self._queue.release(host)  # decoding does not occupy the host
            image = decode_image(data, self._params)
        except ImageError as error:
            search.trials.append(Trial(search.key, storable(url), str(error)))
            self.begin(search)
        else:
            search.trials.append(Trial(search.key, storable(url), "", image))
            self._finished.put(search)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""  # `load` says what is wrong with it
