"""HTTP answers from allowed hosts only: every redirect and every address is checked.

URLs of a catalogue come from strangers. A request leaves this machine only for a host on the
allow-list, and only over a connection whose other end is a public address: what the host's
name resolves to is checked before connecting, and the peer again before anything is sent, since
a name may resolve differently the second time.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from macrec_core.params.network import NetworkParams

# IPv6 addresses that carry an IPv4 one, which a gateway would reach (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Longest part of a host's name (RFC 1035); Python's resolver stumbles over longer ones.
_LABEL = 63


class RefusedError(Exception):
    """A request that must not be sent, or an answer that will not change.

    Attributes:
        cause: one word for counting, such as `forbidden_host` or `status_404`.
        remedy: what the user can do about it.
    """

    def __init__(
        self, cause: str, explanation: str, remedy: str = "correct the address, or name another"
    ) -> None:
        super().__init__(explanation)
        self.cause = cause
        self.remedy = remedy


class Connections:
    """A pool of connections to allowed hosts; use as a context manager, from any thread.

    Args:
        params: whom to ask, and how.
    """

    def __init__(self, params: NetworkParams) -> None:
        self._params = params
        self._client = httpx.Client(
            follow_redirects=False, limits=httpx.Limits(max_connections=None)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    @contextmanager
    def answer(
        self, url: str, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """The answer to a GET, its body still to be read, after a few redirects.

        Args:
            url: where to begin.
            timeout_s: seconds of silence that are waited out.
            headers: sent with every request, redirected ones too.

        Raises:
            RefusedError: a URL, host, address or redirect that is not allowed.
            httpx.TransportError: no connection, or it broke.
        """
        current = allowed_url(url, self._params)
        for _ in range(self._params.max_redirects + 1):
            with self._client.stream(
                "GET",
                current,
                # As it is: an encoding would hide the length and could unpack without end.
                headers={"Accept-Encoding": "identity", **(headers or {})},
                timeout=timeout_s,
                extensions={"trace": self._watch},
            ) as found:
                if not found.has_redirect_location:
                    yield found
                    return
                current = self._target(current, found)
        raise RefusedError(
            "too_many_redirects",
            f"more than network.max_redirects={self._params.max_redirects} redirects, the next "
            f"to {current}",
            "name the address that they lead to, or another one if they lead in a circle",
        )

    def _target(self, current: httpx.URL, found: httpx.Response) -> httpx.URL:
        location = found.headers["Location"]
        try:
            target = current.join(location)
        except (httpx.InvalidURL, ValueError) as error:
            raise RefusedError("bad_url", f"redirects to {location!r}, which is no URL") from error
        if current.scheme == "https" and target.scheme == "http":
            raise RefusedError("insecure_redirect", f"redirects from https to {target}")
        return allowed_url(str(target), self._params)

    def _watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by httpx at each step; an error from here ends the request."""
        if self._params.allow_private_addresses:
            return
        if event == "connection.connect_tcp.started":
            for address in _resolved(info["host"], info["port"]):
                _check_address(info["host"], address)
        elif event == "connection.connect_tcp.complete":
            stream = info["return_value"]
            peer = stream.get_extra_info("server_addr")[0]
            try:
                _check_address(f"the peer {peer}", peer)
            except RefusedError:
                stream.close()
                raise


def parsed_url(url: str) -> httpx.URL:
    """A parsed http or https URL that names a host.

    Raises:
        RefusedError: `bad_url`, for any other.
    """
    try:
        parsed = httpx.URL(url)
        urlsplit(url)  # stricter about brackets
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise RefusedError("bad_url", f"{url!r} is no URL ({error})") from error
    if parsed.scheme not in ("http", "https") or not parsed.raw_host:
        raise RefusedError("bad_url", f"{url!r} is no http or https URL that names a host")
    return parsed


def allowed_url(url: str, params: NetworkParams) -> httpx.URL:
    """The same, of an allowed host.

    Raises:
        RefusedError: `bad_url` or `forbidden_host`.
    """
    parsed = parsed_url(url)
    try:
        _ = urlsplit(url).port  # stricter about ports
    except ValueError as error:
        raise RefusedError("bad_url", f"{url!r} is no URL ({error})") from error
    if parsed.userinfo:
        raise RefusedError("bad_url", f"{url!r} carries a user's name", "leave it out")
    host = host_of(parsed)
    if any(len(label) > _LABEL for label in host.split(".")):
        raise RefusedError("bad_url", f"{url!r} names a host with a part of over {_LABEL} letters")
    if not any(_is_allowed(host, rule) for rule in params.allowed_hosts):
        raise RefusedError(
            "forbidden_host",
            f"host {host!r} is not in network.allowed_hosts",
            "add it if you trust it, or correct the address",
        )
    return parsed


def host_of(url: httpx.URL) -> str:
    """Its host as rules and resolvers write it; an international name encoded."""
    return url.raw_host.decode("ascii").lower().rstrip(".")


def _is_allowed(host: str, rule: str) -> bool:
    return host.endswith(rule[1:]) if rule.startswith("*.") else host == rule


def _resolved(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{host!r} has no address ({error})") from error
    return [str(entry[4][0]) for entry in found]


def _check_address(name: str, text: str) -> None:
    address = ipaddress.ip_address(text.partition("%")[0])  # without an interface's name
    if not is_public(address):
        raise RefusedError(
            "private_address",
            f"{name} has the address {address}, which is not public",
            "set network.allow_private_addresses if it is meant, as behind a proxy",
        )


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address, or the IPv4 address that it carries, belongs to the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inner = [one for one in carried if one is not None]
        if inner:
            return all(is_public(one) for one in inner)
    return address.is_global and not address.is_multicast and not address.is_reserved
