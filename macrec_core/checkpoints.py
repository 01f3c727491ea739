"""Training checkpoints that live outside DVC's outputs.

A training's folder is keyed by a hash of everything its result depends on
(`macrec_core.runtime.fingerprint`), so that an interrupted training goes on where it stopped,
a finished one is exported again without training, and one of other parameters or data is
never met.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from macrec_core.errors import MacrecError
from macrec_core.files import full_disk_named

log = logging.getLogger(__name__)


class Checkpoints:
    """Saves and finds the state of one training.

    Args:
        folder: the training's own folder; made if missing.
        every_s: seconds between saves; 0 saves at every chance.
        writes: False saves nothing; of several processes of equal state only the first saves.
    """

    def __init__(self, folder: Path, every_s: float, writes: bool = True) -> None:
        self._file = folder / "state.pt"
        self._every_s = every_s
        self._writes = writes
        self._last = time.monotonic()
        self._reached: str | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def last(self) -> str:
        """The last saved state, as an error message names it: file, and how far it had come."""
        return f"{self._file} at {self._reached}" if self._reached else "none was saved"

    def load(self) -> dict[str, Any] | None:
        """The last saved state, or None at a fresh start.

        Raises:
            MacrecError: the file is damaged.
        """
        if not self._file.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception as error:  # of bytes that are no pickle torch raises almost anything
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MacrecError(
                f"{self._file}: is no readable checkpoint ({reason}); "
                "delete it to train from the start"
            ) from error
        self._reached = str(state.get("progress", "the end"))
        log.info("going on from %s at %s", self._file, self._reached)
        return state

    def offer(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save `state()` if the last save is long enough ago."""
        if self._writes and time.monotonic() - self._last >= self._every_s:
            self.save(state())

    def save(self, state: dict[str, Any]) -> None:
        """Save now; a kill at any moment leaves the older or the newer state whole."""
        if not self._writes:
            return
        # One name: what a kill or a full disk leaves is overwritten by the next save.
        temporary = self._file.with_suffix(".tmp")
        with full_disk_named(self._file):
            with temporary.open("wb") as file:
                _save(state, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._file)
        self._last = time.monotonic()
        self._reached = str(state.get("progress", "the end"))


def _save(state: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:
        # After a failed write torch fails to end its file, and raises that instead.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise
