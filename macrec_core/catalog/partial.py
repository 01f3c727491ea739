"""A file on its way from a server, which survives being cut anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from macrec_core.artifacts import read_json, write_json
from macrec_core.errors import MacrecError


class PartialFile:
    """`<name>.part` while bytes come, `<name>` once all have; `<name>.json` says of what.

    Args:
        whole: path of the finished file.
    """

    def __init__(self, whole: Path) -> None:
        self.whole = whole
        self._part = whole.with_name(f"{whole.name}.part")
        self._state = whole.with_name(f"{whole.name}.json")
        self.validator, self.total = self._read_state()

    def size(self) -> int:
        """Bytes that are there."""
        for path in (self.whole, self._part):
            if path.exists():
                return path.stat().st_size
        return 0

    def begin(self, validator: str, total: int | None) -> None:
        """Start anew.

        Args:
            validator: what tells whether a server's file is still the same; empty for nothing.
            total: bytes of the whole, None if the server does not tell.
        """
        # The bytes go before the state that describes them: cut in between, none are left over.
        self._remove_bytes()
        self._describe(validator, total)

    def expect(self, total: int) -> None:
        """Bytes of the whole, told later than at the beginning."""
        self._describe(self.validator, total)

    def append(self, chunks: Iterable[bytes]) -> None:
        """Write what comes, also if it then breaks off."""
        with self._part.open("ab") as file:
            for chunk in chunks:
                file.write(chunk)

    def finish(self) -> None:
        """All has come: the file takes its name."""
        if self.whole.exists():
            return
        if self.total is None:
            self._describe(self.validator, self._part.stat().st_size)
        with self._part.open("rb+") as file:
            os.fsync(file.fileno())
        self._part.replace(self.whole)

    def discard(self) -> None:
        """Remove all of it."""
        self._remove_bytes()
        self._state.unlink(missing_ok=True)
        for leftover in self.whole.parent.glob(f".{self._state.name}.*"):  # of killed runs
            leftover.unlink(missing_ok=True)
        self.validator, self.total = "", None

    def _describe(self, validator: str, total: int | None) -> None:
        write_json(self._state, {"validator": validator, "total": total})
        self.validator, self.total = validator, total

    def _remove_bytes(self) -> None:
        self.whole.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def _read_state(self) -> tuple[str, int | None]:
        if not self._state.exists():
            return "", None
        try:
            state = read_json(self._state)
        except MacrecError:  # damaged: then nothing is known about the bytes, and they go
            self.discard()
            return "", None
        validator, total = state.get("validator"), state.get("total")
        return (
            validator if isinstance(validator, str) else "",
            total if isinstance(total, int) else None,
        )
