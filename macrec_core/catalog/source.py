"""Where the files of a release come from: what is common, and a local folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from macrec_core.catalog.images import ImageError
from macrec_core.errors import MacrecError


class Base(Protocol):
    """A place that holds a release."""

    def origin(self, relative: str) -> str:
        """How the manifest names a file of this place."""

    def fetch(self, relative: str) -> Path:
        """A whole local copy of a file; raises `MacrecError`."""

    def load_image(self, url: str) -> bytes:
        """The bytes of an image; raises `ImageError`."""

    def discard(self, relative: str) -> None:
        """Remove the copy that `fetch` made of a file."""


@dataclass(frozen=True)
class LocalBase:
    """A folder in the release's layout, images by file name under `images/`.

    Attributes:
        folder: the folder.
        label: what the manifest calls it, so that the manifest names no place of this machine.
    """

    folder: Path
    label: str

    def origin(self, relative: str) -> str:
        """The label and the path below it."""
        return f"{self.label}/{relative}"

    def fetch(self, relative: str) -> Path:
        """The file in place; nothing is copied."""
        path = self.folder / relative
        if not path.is_file():
            raise MacrecError(
                f"{path}: does not exist; put the release's file there or correct the folder"
            )
        return path

    def load_image(self, url: str) -> bytes:
        """The file under `images/` that has the URL's last path component as its name."""
        name = checked_url(url).path.rsplit("/", 1)[-1]
        if name in ("", ".", "..") or "\\" in name or "\0" in name:
            raise ImageError("bad_url")
        try:
            return (self.folder / "images" / name).read_bytes()
        except FileNotFoundError as error:
            raise ImageError("no_file") from error
        except (OSError, ValueError) as error:
            raise ImageError("unreadable_file") from error

    def discard(self, relative: str) -> None:
        """Nothing was copied, nothing is removed."""


def is_url(text: str) -> bool:
    """Whether a base is a URL rather than a folder."""
    return "://" in text


def checked_url(url: str) -> httpx.URL:
    """A parsed URL that is http or https and names a host.

    Raises:
        ImageError: `bad_url`, for any other.
    """
    try:
        parsed = httpx.URL(url)
        urlsplit(url)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise ImageError("bad_url") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ImageError("bad_url")
    return parsed
