"""Trying again, with longer and longer waits, what may pass by itself."""

from __future__ import annotations

import email.utils
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception

from macrec_core.catalog.connections import RefusedError
from macrec_core.params.network import NetworkParams

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class PassingError(Exception):
    """A failure that may pass by itself.

    Attributes:
        cause: one word for counting, such as `status_503`.
        wait_s: seconds that the server asks to wait (Retry-After), 0 for none.
    """

    def __init__(self, cause: str, explanation: str, wait_s: float = 0.0) -> None:
        super().__init__(explanation)
        self.cause = cause
        self.wait_s = wait_s


def with_retries(
    action: Callable[[], Result],
    name: str,
    params: NetworkParams,
    size: Callable[[], int],
    level: int = logging.INFO,
) -> Result:
    """Act until it works, or until `attempts` tries in a row have brought no further byte.

    Args:
        action: raises `PassingError` or `httpx.TransportError` where another try may help.
        name: what is fetched, for the log.
        params: patience.
        size: bytes that are there already.
        level: at which failed tries are logged.

    Raises:
        PassingError: of the last try.
        httpx.TransportError: of the last try.
    """
    patience = _Patience(name, params, size, level)
    retrying = Retrying(
        retry=retry_if_exception(_may_pass),
        after=patience.count,
        wait=patience.wait,
        stop=patience.is_out,
        before_sleep=patience.tell,
        sleep=time.sleep,
        reraise=True,
    )
    return retrying(action)


def check_status(answer: httpx.Response, params: NetworkParams, allowed: tuple[int, ...]) -> None:
    """Let an allowed status through.

    Raises:
        PassingError: too many requests, or a fault of the server.
        RefusedError: any other status, or a longer wait than is allowed.
    """
    status = answer.status_code
    if status in allowed:
        return
    if status not in (408, 425, 429) and status < 500:
        raise RefusedError(f"status_{status}", f"status_{status}")
    wait = _retry_after(answer.headers.get("Retry-After", ""))
    if wait > params.max_wait_s:
        raise RefusedError(
            f"status_{status}",
            f"status_{status}, asks to wait {wait:.0f} s, more than "
            f"network.max_wait_s={params.max_wait_s}",
            "run again later, or raise the limit",
        )
    raise PassingError(f"status_{status}", f"status_{status}", wait)


class _Patience:
    """Tenacity's hooks: how long to wait, and when to give up.

    Args:
        name: what is fetched.
        params: limits.
        size: bytes that are there.
        level: of the log.
    """

    def __init__(
        self, name: str, params: NetworkParams, size: Callable[[], int], level: int
    ) -> None:
        self._name, self._params, self._size, self._level = name, params, size, level
        self._failures, self._most = 0, size()

    def count(self, state: RetryCallState) -> None:
        """After a failed try: a further byte ends the row of failures."""
        size = self._size()
        self._failures = 1 if size > self._most else self._failures + 1
        self._most = max(self._most, size)

    def wait(self, state: RetryCallState) -> float:
        """Half to all of a doubling wait, so that many clients do not come back at once."""
        doubled = self._params.first_wait_s * 2.0 ** min(self._failures - 1, 60)
        wait = random.uniform(0.5, 1.0) * min(doubled, self._params.max_wait_s)
        error = _error(state)
        return max(wait, error.wait_s) if isinstance(error, PassingError) else wait

    def is_out(self, state: RetryCallState) -> bool:
        """Whether enough tries in a row have brought nothing."""
        return self._failures >= self._params.attempts

    def tell(self, state: RetryCallState) -> None:
        """Before the wait."""
        text = "%s: %s; again in %.1f s"
        log.log(self._level, text, self._name, _error(state), state.upcoming_sleep)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _may_pass(error: BaseException) -> bool:
    # A URL of another scheme will not become one of http.
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return False
    return isinstance(error, PassingError | httpx.TransportError)


def _retry_after(text: str) -> float:
    """Seconds of a Retry-After header, which holds a number or a date; 0 for anything else."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):  # no date, or none that a clock could show
        return 0.0
