"""A release behind an HTTP server."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx

from macrec_core.catalog.images import ImageError
from macrec_core.catalog.source import checked_url
from macrec_core.errors import MacrecError

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Retry:
    """How often to try, and how long to wait.

    Attributes:
        attempts: tries in a row that bring nothing new before giving up.
        first_wait_s: seconds before the second try; doubled for each further one.
    """

    attempts: int = 5
    first_wait_s: float = 0.5


class _TryAgainError(Exception):
    """A failure that may pass by itself."""


class _RefusedError(Exception):
    """An answer that will not change, such as 404."""


class HttpBase:
    """A release behind a URL; files are continued where an earlier try stopped.

    Use as a context manager: left without an error, it removes its copies of files.
    """

    def __init__(
        self,
        url: str,
        scratch: Path,
        timeout_s: float,
        max_image_bytes: int,
        retry: Retry,
    ) -> None:
        self._url = url.rstrip("/")
        self._scratch = scratch
        self._max_image_bytes = max_image_bytes
        self._retry = retry
        self._fetched: list[str] = []
        self._client = httpx.Client(timeout=timeout_s, follow_redirects=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()
        if error is None:
            for relative in self._fetched:
                self.discard(relative)

    def origin(self, relative: str) -> str:
        """The file's URL."""
        return f"{self._url}/{relative}"

    def fetch(self, relative: str) -> Path:
        """Stream a file into the scratch folder, or finish or confirm what lies there.

        A copy is continued only if the server says, by ETag or Last-Modified, that the file is
        still the same; a finished copy is confirmed in the same way.

        Raises:
            MacrecError: the server refuses, or every try fails.
        """
        url = self.origin(relative)
        self._scratch.mkdir(parents=True, exist_ok=True)
        copy = self._copy_path(relative)
        self._fetched.append(relative)

        def size() -> int:
            return copy.stat().st_size if copy.exists() else 0

        try:
            self._with_retries(lambda: self._continue(url, copy), url, size)
        except (
            _TryAgainError,
            _RefusedError,
            httpx.HTTPError,
            httpx.InvalidURL,
            OSError,
        ) as error:
            raise MacrecError(
                f"{url}: cannot be fetched ({_reason(error)}); check the address, or run again "
                "to continue"
            ) from error
        return copy

    def load_image(self, url: str) -> bytes:
        """Fetch an image into memory."""
        checked_url(url)
        try:
            return self._with_retries(lambda: self._image(url), url, lambda: 0)
        except httpx.TimeoutException as error:
            raise ImageError("timeout") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ImageError("connection") from error
        except (_TryAgainError, _RefusedError) as error:
            raise ImageError(str(error)) from error

    def discard(self, relative: str) -> None:
        """Remove the scratch copy of a file, whole or not."""
        copy = self._copy_path(relative)
        copy.unlink(missing_ok=True)
        _validator_path(copy).unlink(missing_ok=True)

    def _copy_path(self, relative: str) -> Path:
        digest = hashlib.sha256(self.origin(relative).encode()).hexdigest()
        return self._scratch / digest[:32]

    def _continue(self, url: str, copy: Path) -> None:
        """One try: fetch what is missing of the copy."""
        mark = _validator_path(copy)
        validator = mark.read_text() if copy.exists() and mark.exists() else ""
        have = copy.stat().st_size if validator else 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        with self._client.stream("GET", url, headers=headers) as answer:
            if answer.status_code == 416 and have:
                # Nothing lies beyond what we have: finished, if that is the whole.
                if answer.headers.get("Content-Range") == f"bytes */{have}":
                    return
                copy.unlink()
                raise _TryAgainError("the server's file is shorter than the copy; begun anew")
            _check_status(answer.status_code)
            total: int | None
            if answer.status_code == 206:
                total = _total_of_range(answer, have)
            else:
                total = _length(answer)
                copy.unlink(missing_ok=True)
                mark.write_text(_validator(answer))
            with copy.open("ab") as file:
                for chunk in answer.iter_raw():
                    file.write(chunk)
        size = copy.stat().st_size
        if total is not None and size != total:
            if size > total:
                copy.unlink()
            raise _TryAgainError(f"{size} of {total} bytes came")

    def _image(self, url: str) -> bytes:
        with self._client.stream("GET", url) as answer:
            _check_status(answer.status_code)
            data = bytearray()
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > self._max_image_bytes:
                    raise ImageError("too_many_bytes")
        return bytes(data)

    def _with_retries(
        self, action: Callable[[], Result], url: str, size: Callable[[], int]
    ) -> Result:
        """Try until it works, or until `attempts` tries in a row have brought no further byte."""
        failures, most = 0, size()
        while True:
            try:
                return action()
            except (_TryAgainError, httpx.TransportError) as error:
                failures = 1 if size() > most else failures + 1
                most = max(most, size())
                if isinstance(error, httpx.UnsupportedProtocol) or failures >= self._retry.attempts:
                    raise
                wait = self._retry.first_wait_s * 2 ** (failures - 1)
                log.debug("%s: %s; again in %.1f s", url, _reason(error), wait)
                time.sleep(wait)


def _check_status(status: int) -> None:
    if status in (408, 425, 429) or status >= 500:
        raise _TryAgainError(f"status_{status}")
    if status not in (200, 206):
        raise _RefusedError(f"status_{status}")


def _validator_path(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.validator")


def _validator(answer: httpx.Response) -> str:
    """What If-Range may hold: a strong ETag, else the date; empty if the server gives neither."""
    etag = str(answer.headers.get("ETag", ""))
    if etag.startswith('"'):
        return etag
    return str(answer.headers.get("Last-Modified", ""))


def _total_of_range(answer: httpx.Response, have: int) -> int:
    value = str(answer.headers.get("Content-Range", ""))
    span, _, total = value.removeprefix("bytes ").partition("/")
    if span.partition("-")[0] != str(have) or not total.isdigit():
        raise _TryAgainError(f"answered with range '{value}', asked from byte {have}")
    return int(total)


def _length(answer: httpx.Response) -> int | None:
    value = str(answer.headers.get("Content-Length", ""))
    return int(value) if value.isdigit() else None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
