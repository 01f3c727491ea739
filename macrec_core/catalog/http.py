"""A release behind an HTTP server."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import httpx

from macrec_core.catalog.connections import Connections, RefusedError, host_of
from macrec_core.catalog.disk_errors import disk_errors_named
from macrec_core.catalog.images import ImageError
from macrec_core.catalog.partial import PartialFile
from macrec_core.catalog.reachability import Reachability
from macrec_core.catalog.retries import PassingError, check_status, with_retries
from macrec_core.catalog.scratch import Scratch
from macrec_core.catalog.source import Fetched, FetchError, FileCheck
from macrec_core.params.network import NetworkParams

log = logging.getLogger(__name__)

# Seconds between two signs of life of a large file.
_TELL_EVERY_S = 10.0
# Bytes in a time-out; a server that sends fewer may keep us waiting for ever.
_DIGITS = 20  # of a size; Python refuses to read thousands
_TRICKLE = 1024


@dataclass(frozen=True)
class ImageLimits:
    """What an image may take.

    Attributes:
        timeout_s: seconds of silence, or of a trickle, after which it is tried again.
        max_bytes: of one image.
    """

    timeout_s: float
    max_bytes: int


class HttpBase:
    """A release behind a URL; files are continued where an earlier try stopped.

    Args:
        url: the release's.
        connections: how servers are asked.
        scratch: keeps the copies.
        params: patience and limits.
        images: limits of images; None if none will be asked for.
    """

    def __init__(
        self,
        url: str,
        connections: Connections,
        scratch: Scratch,
        params: NetworkParams,
        images: ImageLimits | None,
    ) -> None:
        self._url = url.rstrip("/")
        self._connections = connections
        self._scratch = scratch
        self._params = params
        self._images = images
        self._copies: dict[str, PartialFile] = {}
        self._hosts = Reachability()

    def fetch(self, relative: str, check: FileCheck) -> Fetched:
        """Stream a file into the scratch folder, or finish or confirm what lies there.

        A copy is continued only if the server says, by ETag or Last-Modified, that the file is
        still the same; a finished copy is confirmed in the same way.

        Raises:
            FetchError: the server refuses, every try fails, or the file fails its check.
            MacrecError: another run fetches it, or it cannot be written.
        """
        url = f"{self._url}/{relative}"
        packed = relative.endswith(".gz")
        try:
            with disk_errors_named(self._scratch.folder):
                copy = self._copy(url)
                tried = partial(self._continue, url, copy, packed)
                with_retries(tried, url, self._params, copy.size)
        except (PassingError, RefusedError, httpx.HTTPError) as error:
            remedy = (
                error.remedy
                if isinstance(error, RefusedError)
                else "run again to continue, or check the address"
            )
            raise FetchError(
                url, _cause(error), f"{url}: cannot be fetched ({_reason(error)}); {remedy}"
            ) from error
        try:
            check(copy.whole, url, packed=packed, came_whole=False)
        except FetchError:
            copy.discard()  # a damaged copy must not be continued
            raise
        return Fetched(copy.whole, url)

    def load_image(self, url: str) -> bytes:
        """Fetch an image into memory.

        Raises:
            ImageError: with the cause.
            MacrecError: a host cannot be reached; see `Reachability`.
        """
        limits = self._images
        assert limits is not None  # given wherever images are wanted
        try:
            return with_retries(
                # There are many images, and failures are counted and listed in the end.
                lambda: self._image(url, limits),
                url,
                self._params,
                lambda: 0,
                logging.DEBUG,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            # Not of the URL: it may have led on to another host.
            self._hosts.not_reached(host_of(error.request.url), _reason(error))
            raise ImageError(_cause(error)) from error
        except (PassingError, RefusedError, httpx.HTTPError) as error:
            raise ImageError(_cause(error)) from error

    def images_key(self) -> str:
        """Nothing: behind a URL the same image is expected as long as a download is continued."""
        return ""

    def _copy(self, url: str) -> PartialFile:
        """The copy of a file, this run's own."""
        if url not in self._copies:
            path = self._scratch.path(url)
            # Looked at only when it is ours: what is damaged is removed at once.
            self._scratch.claim(url, lambda: self._copies[url].discard())
            self._copies[url] = PartialFile(path)
        return self._copies[url]

    def _continue(self, url: str, copy: PartialFile, packed: bool) -> None:
        """One try: fetch what is missing of the copy."""
        have = copy.size() if copy.validator else 0
        headers = {"Range": f"bytes={have}-", "If-Range": copy.validator} if have else {}
        with self._connections.answer(url, self._params.timeout_s, headers) as answer:
            if have and answer.status_code == 416:
                # Nothing lies beyond what we have: finished, if that is the whole.
                whole = copy.total in (None, have)  # by the answer that began it
                if not whole or answer.headers.get("Content-Range") != f"bytes */{have}":
                    raise _begun_anew(copy, "of another length than the copy's")
                copy.finish()
                return
            check_status(answer, self._params, (200, 206) if have else (200,))
            _check_encoding(answer, packed)
            if answer.status_code == 206:
                _check_range(answer, copy, have)
            else:
                total = _length(answer)
                self._check_size(total or 0)
                copy.begin(_validator(answer), total)
            copy.append(self._limited(answer, copy))
        size = copy.size()
        if copy.total is not None and size != copy.total:
            raise PassingError("cut", f"{size} of {copy.total} bytes came")
        copy.finish()

    def _limited(self, answer: httpx.Response, copy: PartialFile) -> Iterator[bytes]:
        """The body, as long as it keeps within what was promised and is allowed."""
        size, told = copy.size(), time.monotonic()
        for chunk in _flowing(answer.iter_raw(), self._params.timeout_s):
            size += len(chunk)
            if time.monotonic() > told + _TELL_EVERY_S:
                told = time.monotonic()
                log.info("%s: %.0f of %.0f MB", answer.url, size / 1e6, (copy.total or 0) / 1e6)
            if copy.total is not None and size > copy.total:
                raise _begun_anew(copy, f"longer than the promised {copy.total} bytes")
            self._check_size(size)
            yield chunk

    def _check_size(self, size: int) -> None:
        if size > self._params.max_file_bytes:
            raise RefusedError(
                "too_many_bytes",
                f"more than network.max_file_bytes={self._params.max_file_bytes}",
                "raise it if so large a file is meant",
            )

    def _image(self, url: str, limits: ImageLimits) -> bytes:
        with self._connections.answer(url, limits.timeout_s) as answer:
            self._hosts.reached(host_of(answer.url))
            check_status(answer, self._params, (200,))
            _check_encoding(answer, packed=False)
            _length(answer)  # without one, a cut image would pass for a broken one
            data = bytearray()
            for chunk in _flowing(answer.iter_raw(), limits.timeout_s):
                data += chunk
                if len(data) > limits.max_bytes:
                    raise RefusedError("too_many_bytes", "too_many_bytes")
        return bytes(data)


def _flowing(chunks: Iterator[bytes], timeout_s: float) -> Iterator[bytes]:
    """The chunks, as long as more than a trickle comes.

    Raises:
        httpx.ReadTimeout: fewer than `_TRICKLE` bytes came in `timeout_s` seconds.
    """
    since, size = time.monotonic(), 0
    for chunk in chunks:
        size += len(chunk)
        if time.monotonic() > since + timeout_s:
            if size < _TRICKLE:
                raise httpx.ReadTimeout(f"{size} bytes in {timeout_s} s")
            since, size = time.monotonic(), 0
        yield chunk


def _begun_anew(copy: PartialFile, why: str) -> PassingError:
    copy.discard()
    return PassingError("changed", f"the server's file is {why}; begun anew")


def _check_encoding(answer: httpx.Response, packed: bool) -> None:
    """Refuse a body that was encoded though we asked for none; its length would say nothing.

    Some servers call a gzip file, sent as it is, encoded; nothing is decoded then.
    """
    encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity" and not (packed and encoding in ("gzip", "x-gzip")):
        raise RefusedError("encoded", f"answered with Content-Encoding {encoding!r}")


def _check_range(answer: httpx.Response, copy: PartialFile, have: int) -> None:
    """Make sure that a part continues the copy."""
    value = str(answer.headers.get("Content-Range", ""))
    span, _, total = value.removeprefix("bytes ").partition("/")
    if span.partition("-")[0] != str(have) or not _is_size(total):
        raise _begun_anew(copy, f"sent as range {value!r}, asked from byte {have}")
    if copy.total is not None and int(total) != copy.total:
        raise _begun_anew(copy, f"{total} bytes long instead of {copy.total}")
    if _validator(answer) not in ("", copy.validator):
        raise _begun_anew(copy, "another one by its ETag or date")
    if copy.total is None:  # the first answer came in chunks
        copy.expect(int(total))


def _validator(answer: httpx.Response) -> str:
    """What If-Range may hold: a strong ETag, else the date; empty if the server gives neither."""
    etag, date = (str(answer.headers.get(name, "")) for name in ("ETag", "Last-Modified"))
    # What is not ASCII cannot be sent back.
    if etag.startswith('"') and etag.isascii():
        return etag
    return date if date.isascii() else ""


def _length(answer: httpx.Response) -> int | None:
    """Bytes that are promised; None if they come in chunks, whose end is marked.

    Raises:
        RefusedError: neither, so that nobody could tell whether all has come.
    """
    value = str(answer.headers.get("Content-Length", ""))
    if _is_size(value):
        return int(value)
    if "chunked" in answer.headers.get("Transfer-Encoding", "").lower():
        return None
    raise RefusedError("no_length", "the server tells no length, a cut would go unseen")


def _is_size(text: str) -> bool:
    return text.isdecimal() and len(text) <= _DIGITS


def _cause(error: Exception) -> str:
    if isinstance(error, PassingError | RefusedError):
        return error.cause
    return "timeout" if isinstance(error, httpx.TimeoutException) else "connection"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
