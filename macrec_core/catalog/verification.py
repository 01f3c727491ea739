"""What a fetched text file must be before anything reads it."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from macrec_core.catalog.source import FetchError
from macrec_core.files import file_sha256
from macrec_core.params.network import NetworkParams

# Of a shorter text the ratio says nothing: a hundred equal lines pack very well.
_SHORT = 1 << 20
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Check:
    """Checks of one file.

    Attributes:
        limits: what unpacking may give at most.
        sha256: what the file as it came must have, in hexadecimal; None if nobody knows.
    """

    limits: NetworkParams
    sha256: str | None

    def __call__(self, path: Path, name: str, *, packed: bool, came_whole: bool) -> None:
        """Read a whole file once.

        Args:
            path: the file.
            name: what the error calls it.
            packed: whether it is a gzip file.
            came_whole: whether nothing may be missing; a text over the network without a hash
                must end with a line's end, since a wrong length would otherwise go unseen.

        Raises:
            FetchError: another hash, a cut or damaged gzip file, a web page, or too much text.
        """
        if self.sha256 is not None:
            found = file_sha256(path)
            if found != self.sha256:
                raise FetchError(
                    name,
                    "sha256",
                    f"{name}: has SHA-256 {found}, the params' sha256 says {self.sha256}; fetch "
                    "it again, or correct the params",
                )
        last = self._read(path, name, packed)
        if not (packed or came_whole or self.sha256 or last in (b"\n", b"")):
            raise FetchError(
                name,
                "cut",
                f"{name}: ends within a line, so it may be cut; give its hash in the params' "
                "sha256 if it is whole",
            )

    def _read(self, path: Path, name: str, packed: bool) -> bytes:
        """Read the text within the limits and return its last byte."""
        size = path.stat().st_size
        text = _Text(name, self.limits, self._most(size) if packed else size)
        try:
            with gzip.open(path, "rb") if packed else path.open("rb") as file:
                while block := file.read(_BLOCK):
                    text.take(block)
                if packed and not size:
                    raise EOFError("it is empty")
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            page = "; it begins like a web page" if _is_page(path) else ""
            raise FetchError(
                name, "no_gzip", f"{name}: is no whole gzip file ({error}{page}); fetch it again"
            ) from error
        return text.last

    def _most(self, size: int) -> int:
        """Bytes that a gzip file of this size may hold."""
        by_ratio = max(_SHORT, int(self.limits.max_unpacked_ratio * size))
        return min(self.limits.max_unpacked_bytes, by_ratio)


class _Text:
    """Follows a text block by block.

    Args:
        name: what errors call it.
        limits: of a line's length.
        most: bytes that it may have.
    """

    def __init__(self, name: str, limits: NetworkParams, most: int) -> None:
        self._name, self._limits, self._most = name, limits, most
        self._size, self._line = 0, 0
        self.last = b""

    def take(self, block: bytes) -> None:
        """Check the next block; see `Check`."""
        if not self._size and block.lstrip()[:1] == b"<":
            raise FetchError(
                self._name,
                "web_page",
                f"{self._name}: is a web page, not the release's file; read it, "
                "and correct the base",
            )
        self._size += len(block)
        if self._size > self._most:
            raise FetchError(
                self._name,
                "gzip_bomb",
                f"{self._name}: unpacks to more than {self._most} bytes "
                "(network.max_unpacked_bytes, network.max_unpacked_ratio), like a gzip bomb; "
                "raise the limits if it is none",
            )
        self._measure(block)
        self.last = block[-1:]

    def _measure(self, block: bytes) -> None:
        """Check the lengths of the lines that end in a block, and of the one that begins last."""
        lines = [self._line + block.find(b"\n")] if b"\n" in block else []
        rest = len(block) - (block.rfind(b"\n") + 1)
        self._line = rest if lines else self._line + rest
        longest = self._limits.max_line_bytes
        if len(block) > longest:  # lines within a block cannot be longer than it
            lines += map(len, block.split(b"\n")[1:])
        if max(self._line, *lines, 0) > longest:
            raise FetchError(
                self._name,
                "long_line",
                f"{self._name}: has a line of more than network.max_line_bytes={longest} bytes; "
                "raise the limit if that is right",
            )


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512).lstrip()[:1] == b"<"
