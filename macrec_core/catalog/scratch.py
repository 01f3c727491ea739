"""What a download keeps between runs: locked while it runs, removed once it has succeeded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from macrec_core.catalog.locking import exclusive, lock_file

log = logging.getLogger(__name__)


class Scratch:
    """The scratch folder of one run.

    Use as a context manager around everything that may fail, the raw folder's coming into its
    place included: left without an error, what was claimed is removed; otherwise it stays for
    the next run. Other runs cannot claim it meanwhile.

    Args:
        folder: of all downloads; made when something is claimed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks = ExitStack()
        self._removals: dict[str, Callable[[], None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._locks:
            if error is None:
                for key, remove in self._removals.items():
                    try:
                        remove()
                    except OSError as failure:  # all that was wanted is there
                        log.warning("%s: its copy stays in %s (%s)", key, self.folder, failure)

    def path(self, key: str) -> Path:
        """Where what a key names, such as a URL, is kept; nobody else's before `claim`."""
        return self.folder / lock_file(self.folder, key).stem

    def claim(self, key: str, remove: Callable[[], None]) -> None:
        """Make it this run's own. Again is harmless: the first claim's removal counts.

        Args:
            key: as of `path`; also what the error calls it.
            remove: called if all goes well.

        Raises:
            MacrecError: another run has claimed it, or the folder cannot be written.
        """
        if key not in self._removals:
            self._locks.enter_context(exclusive(lock_file(self.folder / "locks", key), key))
            self._removals[key] = remove
