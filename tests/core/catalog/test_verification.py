"""What a fetched text must be."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from misbehaving_server import LOOPBACK

from macrec_core.catalog import verification
from macrec_core.catalog.source import FetchError
from macrec_core.catalog.verification import Check


def passes(path, data, limits, **kind):
    path.write_bytes(data)
    try:
        Check(limits, None)(path, "name", **({"packed": False, "came_whole": True} | kind))
    except FetchError as error:
        return error.cause
    return True


@given(
    text=st.lists(st.sampled_from([b"\n", b"x", b"xx\n", b"yyyyy"]), max_size=30).map(b"".join),
    longest=st.integers(1, 12),
    block=st.integers(1, 9),
)
def test_the_longest_line_is_found_wherever_blocks_end(tmp_path_factory, text, longest, block):
    path = tmp_path_factory.getbasetemp() / "lines"
    limits = LOOPBACK.model_copy(update={"max_line_bytes": longest})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "_BLOCK", block)
        found = passes(path, text, limits)
    fits = max(map(len, text.split(b"\n"))) <= longest
    assert found == (True if fits else "long_line")


@given(data=st.binary(max_size=200), count=st.integers(0, 400))
def test_a_cut_gzip_file_is_never_whole(tmp_path_factory, data, count):
    packed = gzip.compress(data, mtime=0)
    path = tmp_path_factory.getbasetemp() / "packed"
    found = passes(path, packed[: min(count, len(packed) - 1)], LOOPBACK, packed=True)
    assert found in ("no_gzip", "web_page")


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found(tmp_path_factory, place, bit):
    packed = bytearray(gzip.compress(b"".join(b"%d\n" % i for i in range(300)), mtime=0))
    at = 10 + place % (len(packed) - 10)  # behind the header, which says nothing of the text
    packed[at] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped"
    assert passes(path, bytes(packed), LOOPBACK, packed=True) != True  # noqa: E712


def test_an_empty_text_is_one_but_an_empty_gzip_file_is_none(tmp_path):
    assert passes(tmp_path / "x", b"", LOOPBACK) is True
    assert passes(tmp_path / "x", b"", LOOPBACK, packed=True) == "no_gzip"
    assert passes(tmp_path / "x", gzip.compress(b""), LOOPBACK, packed=True) is True


def test_several_gzip_parts_are_one_file(tmp_path):
    data = gzip.compress(b"one\n") + gzip.compress(b"two\n")
    assert passes(tmp_path / "x", data, LOOPBACK, packed=True) is True
    assert passes(tmp_path / "x", data + b"more", LOOPBACK, packed=True) == "no_gzip"


def test_only_over_the_network_must_a_text_end_with_a_line(tmp_path):
    assert passes(tmp_path / "x", b"a,b", LOOPBACK) is True
    assert passes(tmp_path / "x", b"a,b", LOOPBACK, came_whole=False) == "cut"
    assert passes(tmp_path / "x", b"a,b\r\n", LOOPBACK, came_whole=False) is True
    assert passes(tmp_path / "x", b" <html>\n", LOOPBACK) == "web_page"
