"""How long-running core functions report progress, without knowing who draws it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives progress; a stage draws it as a bar or as plain lines."""

    def start(self, description: str, total: int) -> None:
        """Begin a task of `total` units."""

    def advance(self, units: int = 1, status: str = "") -> None:
        """Report `units` more done; `status` is a short text such as a loss."""


class Silent:
    """Ignores progress; the default wherever a `Progress` is accepted."""

    def start(self, description: str, total: int) -> None:
        """Do nothing."""

    def advance(self, units: int = 1, status: str = "") -> None:
        """Do nothing."""
