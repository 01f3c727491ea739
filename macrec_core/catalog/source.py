"""Where the files of a release come from: what is common, and a local folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from macrec_core.catalog.connections import RefusedError, parsed_url
from macrec_core.catalog.image_trials import folder_content
from macrec_core.catalog.images import ImageError
from macrec_core.errors import MacrecError

log = logging.getLogger(__name__)


class FetchError(MacrecError):
    """A base that does not give a file as it must be; another base may.

    Args:
        origin: the file, as the manifest names it.
        cause: one word for the manifest, such as `status_404`.
        message: all that the user needs.
    """

    def __init__(self, origin: str, cause: str, message: str) -> None:
        super().__init__(message)
        self.origin, self.cause = origin, cause


class FileCheck(Protocol):
    """What a file must pass, as `macrec_core.catalog.verification.Check`."""

    def __call__(self, path: Path, name: str, *, packed: bool, came_whole: bool) -> None:
        """Raise `FetchError` unless the file is what it should be."""


@dataclass(frozen=True)
class Fetched:
    """A checked local copy of a file.

    Attributes:
        path: the copy.
        origin: how the manifest names where it came from.
        failed: of bases that were asked in vain, origin and cause.
    """

    path: Path
    origin: str
    failed: dict[str, str] = field(default_factory=dict)


class Base(Protocol):
    """A place that holds a release."""

    def fetch(self, relative: str, check: FileCheck) -> Fetched:
        """A whole and checked local copy of a file; raises `FetchError`."""

    def load_image(self, url: str) -> bytes:
        """The bytes of an image; raises `ImageError`. Called from several threads."""

    def images_key(self) -> str:
        """Changes where an image may have become another one under the same URL."""


@dataclass(frozen=True)
class LocalBase:
    """A folder in the release's layout, images by file name under `images/`.

    Attributes:
        folder: the folder.
        label: what the manifest calls it, so that the manifest names no place of this machine.
    """

    folder: Path
    label: str

    def fetch(self, relative: str, check: FileCheck) -> Fetched:
        """The file in place; nothing is copied."""
        path, origin = self.folder / relative, f"{self.label}/{relative}"
        if not path.is_file():
            raise FetchError(
                origin,
                "missing",
                f"{path}: does not exist; put the release's file there, or correct the folder, "
                "category or layout",
            )
        try:
            check(path, origin, packed=relative.endswith(".gz"), came_whole=True)
        except OSError as error:
            raise FetchError(
                origin, "unreadable", f"{path}: cannot be read ({error}); mend or replace it"
            ) from error
        return Fetched(path, origin)

    def load_image(self, url: str) -> bytes:
        """The file under `images/` that has the URL's last path component as its name."""
        try:
            name = parsed_url(url).path.rsplit("/", 1)[-1]
        except RefusedError as error:
            raise ImageError(error.cause) from error
        if name in ("", ".", "..") or "\\" in name or "\0" in name:
            raise ImageError("bad_url")
        try:
            return (self.folder / "images" / name).read_bytes()
        except FileNotFoundError as error:
            raise ImageError("no_file") from error
        except (OSError, ValueError) as error:
            raise ImageError("unreadable_file") from error

    def images_key(self) -> str:
        """Names, sizes and times of the files under `images/`."""
        return folder_content(self.folder / "images")


class Mirrors:
    """Bases that hold the same release: each file comes from the first that gives it.

    Args:
        bases: in the order in which they are asked, at least one.
        pictures: those of them that are asked for images, at least one; several servers would
            only ask for the same URL again.
    """

    def __init__(self, bases: Sequence[Base], pictures: Sequence[Base]) -> None:
        self._bases = bases
        self._pictures = pictures

    def fetch(self, relative: str, check: FileCheck) -> Fetched:
        """The file of the first base that gives it as it must be.

        Raises:
            FetchError: none does; the message tells why, base by base.
        """
        failed: dict[str, str] = {}
        reasons: list[str] = []
        for place, base in enumerate(self._bases, start=1):
            try:
                found = base.fetch(relative, check)
            except FetchError as error:
                failed[error.origin] = error.cause
                reasons.append(str(error))
                if len(self._bases) > 1:
                    log.warning("base %d of %d: %s", place, len(self._bases), error)
            else:
                return Fetched(found.path, found.origin, failed)
        raise FetchError(relative, "no_base", "; ".join(reasons))

    def load_image(self, url: str) -> bytes:
        """The image from the first of them that has it; the last one's `ImageError` if none has."""
        *others, last = self._pictures
        for base in others:
            try:
                return base.load_image(url)
            except ImageError as error:
                log.debug("%s: %s; the next base is asked", url, error)
        return last.load_image(url)

    def images_key(self) -> str:
        """Those of all bases that are asked for images."""
        return "\n".join(base.images_key() for base in self._pictures)


def is_url(text: str) -> bool:
    """Whether a base is a URL rather than a folder."""
    return "://" in text


def data_root() -> Path:
    """What a relative folder of the params is relative to: $MACREC_DATA, or where we are."""
    return Path(os.environ.get("MACREC_DATA") or Path.cwd())


def find_folder(text: str, root: Path) -> Path:
    """A folder that the params name.

    Args:
        text: its path.
        root: what a relative one is relative to.

    Raises:
        MacrecError: it is not there.
    """
    folder = root / text  # an absolute text stands for itself
    if not folder.is_dir():
        raise MacrecError(
            f"{folder}: is no folder; correct it in dataset_specs (folder, or bases), give "
            "--folder, or set MACREC_DATA to the folder that relative ones are in (without it: "
            "where you are)"
        )
    return folder
