"""Which hosts and addresses are asked at all."""

from __future__ import annotations

import ipaddress
import socket

import httpx
import pytest
from misbehaving_server import LOOPBACK, MisbehavingServer

from macrec_core.catalog.connections import Connections, RefusedError, allowed_url, is_public

STRICT = LOOPBACK.model_copy(
    update={
        "allow_private_addresses": False,
        "allowed_hosts": ["example.com", "*.images.example.com", "localhost", "127.0.0.1"],
    }
)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1",
        "::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::",
        "2002:a00:1::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_public_internet(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "137.110.160.73", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"],
)
def test_public_addresses(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x", "https://EXAMPLE.com:8443/x", "https://example.com./x",
        "http://a.images.example.com", "http://a.b.images.example.com",
    ],
)  # fmt: skip
def test_hosts_of_the_list(url):
    assert str(allowed_url(url, STRICT)).startswith("http")


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("http://images.example.com", "forbidden_host"),
        ("http://aimages.example.com", "forbidden_host"),
        ("http://example.com.evil.org", "forbidden_host"),
        ("http://notexample.com", "forbidden_host"),
        ("http://example.com@evil.org/", "bad_url"),
        ("http://evil.org#@example.com", "forbidden_host"),
        ("http://evil.org\\@example.com", "bad_url"),
        ("http://2130706433/", "forbidden_host"),
        ("http://[::1]/", "forbidden_host"),
        ("http://ex\u0430mple.com/", "forbidden_host"),  # a Cyrillic letter
        ("gopher://example.com", "bad_url"),
        ("example.com/x", "bad_url"),
        ("http:///x", "bad_url"),
        ("http://example.com:99999999", "bad_url"),
        ("http://example.com/\n", "bad_url"),
        (f"http://{'a' * 64}.images.example.com/", "bad_url"),
    ],
)
def test_urls_off_the_list(url, cause):
    with pytest.raises(RefusedError) as caught:
        allowed_url(url, STRICT)
    assert caught.value.cause == cause


@pytest.fixture
def server(tmp_path):
    (tmp_path / "x").write_bytes(b"x" * 10)
    with MisbehavingServer(tmp_path) as found:
        yield found


def read(connections, url):
    with connections.answer(url, 5.0) as answer:
        return answer.read()


def test_a_private_address_is_refused_before_connecting(server):
    with Connections(STRICT) as connections, pytest.raises(RefusedError) as caught:
        read(connections, f"{server.url}/x")
    assert caught.value.cause == "private_address"
    assert server.requests == []


def test_a_name_that_resolves_otherwise_the_second_time_is_refused(server, monkeypatch):
    """DNS rebinding: public when asked about, loopback when connected to."""
    real, asked = socket.getaddrinfo, []

    def rebinding(host, port, *args, **kind):
        asked.append(host)
        if len(asked) == 1:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]
        return real("127.0.0.1", port, *args, **kind)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    port = server.http.server_port
    with Connections(STRICT) as connections, pytest.raises(RefusedError) as caught:
        read(connections, f"http://example.com:{port}/x")
    assert len(asked) == 2
    assert "the peer 127.0.0.1 has the address 127.0.0.1" in str(caught.value)
    assert server.requests == []


def test_one_private_address_among_several_is_enough(monkeypatch):
    def resolved(host, port, *args, **kind):
        return [(2, 1, 6, "", (address, port)) for address in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with Connections(STRICT) as connections, pytest.raises(RefusedError, match=r"10\.0\.0\.1"):
        read(connections, "http://example.com/x")


def test_a_name_without_an_address_may_be_tried_again(monkeypatch):
    def unknown(*args, **kind):
        raise socket.gaierror(-3, "temporary failure")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with Connections(STRICT) as connections, pytest.raises(httpx.ConnectError, match="no address"):
        read(connections, "http://example.com/x")


def test_a_redirect_from_https_to_http_is_refused():
    found = httpx.Response(302, headers={"Location": "http://example.com/x"})
    with Connections(STRICT) as connections, pytest.raises(RefusedError) as caught:
        connections._target(httpx.URL("https://example.com/x"), found)
    assert caught.value.cause == "insecure_redirect"


def test_nothing_is_asked_to_be_encoded(server):
    headers = []
    answer = server.answer
    server.answer = lambda handler: (headers.append(dict(handler.headers)), answer(handler))
    with Connections(LOOPBACK) as connections:
        assert read(connections, f"{server.url}/x") == b"x" * 10
    assert headers[0]["Accept-Encoding"] == "identity"
