"""Which hosts can be reached, so that a dead one costs minutes and not days."""

from __future__ import annotations

import threading
from collections import Counter

from macrec_core.errors import MacrecError

# Images in a row for which a host could not be reached, each after all its tries.
_GONE_AFTER = 3


class Reachability:
    """Ends a run whose images lie behind a host that cannot be reached; for many threads.

    Only a connection that does not come about counts: it says something about the host, whereas
    an answer that breaks off may be the fault of one image. Nothing is concluded about the
    images, which may well be there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: Counter[str] = Counter()

    def reached(self, host: str) -> None:
        """The host answered, whatever it said."""
        with self._lock:
            self._failed[host] = 0

    def not_reached(self, host: str, reason: str) -> None:
        """All tries for an image found no connection.

        Raises:
            MacrecError: that was so for several images in a row.
        """
        with self._lock:
            self._failed[host] += 1
            failed = self._failed[host]
        if failed >= _GONE_AFTER:
            raise MacrecError(
                f"{host}: cannot be reached ({reason}), tried for {failed} images in a row; run "
                "again to continue when it can, or take it from network.allowed_hosts, so that "
                "its images count as missing"
            )
