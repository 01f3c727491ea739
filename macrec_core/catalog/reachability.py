"""Which hosts still answer, so that a dead one costs minutes and not days."""

from __future__ import annotations

import threading
from collections import Counter

from macrec_core.errors import MacrecError

# Images of a host that in a row had no answer, each after all its tries: then it is gone.
_GONE_AFTER = 3


class Reachability:
    """What became of the requests to each host; used from many threads.

    A host that never answered is given up, and its images count as missing. One that did answer
    before ends the run: its images are there, and a later run gets them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._silent: Counter[str] = Counter()
        self._answered: set[str] = set()

    def is_gone(self, host: str) -> bool:
        """Whether asking the host is no use."""
        with self._lock:
            return self._silent[host] >= _GONE_AFTER

    def answered(self, host: str) -> None:
        """The host gave an answer, be it a refusal."""
        with self._lock:
            self._silent[host] = 0
            self._answered.add(host)

    def silent(self, host: str, reason: str) -> None:
        """The host gave none, however often it was asked.

        Raises:
            MacrecError: it had answered before, and now is gone.
        """
        with self._lock:
            self._silent[host] += 1
            gone = self._silent[host] >= _GONE_AFTER
        if gone and host in self._answered:
            raise MacrecError(
                f"{host}: answered before, and now has not for {_GONE_AFTER} images in a row "
                f"({reason}); see whether the network is up, and run again to continue"
            )
