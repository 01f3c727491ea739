"""Downloads from a server on loopback that misbehaves."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from misbehaving_server import (
    LOOPBACK,
    MisbehavingServer,
    cut_after,
    etag,
    held,
    other,
    page,
    redirect,
    send,
    stalled,
    status,
    trickle,
    truncated,
    wrong_length,
)
from raw_folders import bytes_of, failures, keys

from macrec_core.catalog.connections import Connections, RefusedError
from macrec_core.catalog.http import HttpBase, ImageLimits
from macrec_core.catalog.images import ImageError
from macrec_core.catalog.scratch import Scratch
from macrec_core.catalog.source import FetchError
from macrec_core.errors import MacrecError

RATINGS = "/categoryFilesSmall/Gift_Cards.csv"
REVIEWS = "/categoryFilesSmall/Gift_Cards_5.json.gz"
METADATA = "/metaFiles2/meta_Gift_Cards.json.gz"
CONNECTIONS = Connections(LOOPBACK)
ALL = ["B0", "B1", "B2", "B3", "B4", "B5"]


@pytest.fixture
def server(release):
    with MisbehavingServer(release.folder) as found:
        release.category = "Gift_Cards"
        release.metadata = [
            line.replace("https://images.example.com", found.url) for line in release.metadata
        ]
        release.write()
        yield found


@pytest.fixture
def expected(gather, server):
    """Bytes of the files that an undisturbed local run makes."""
    return bytes_of(gather("release", target="expected")[0])


def network(**changes):
    return LOOPBACK.model_copy(update=changes)


def left_in(scratch):
    """Copies of files; locks stay, and what a failed run found of images."""
    names = (path.name for path in scratch.iterdir())
    return sorted(name for name in names if name != "locks" and not name.startswith("images-"))


# ---------------------------------------------------------------------------- whole and cut


def test_http_and_local_folder_give_the_same_files(gather, expected, server, tmp_path):
    raw, contents = gather(server.url + "/")
    assert bytes_of(raw) == expected
    assert contents.files["ratings.csv"]["origin"] == server.url + RATINGS
    assert "failed" not in contents.files["ratings.csv"]
    assert left_in(tmp_path / "scratch") == []


def test_a_cut_file_is_continued_not_begun_anew(gather, expected, server):
    server.faults[RATINGS] = [cut_after(100), cut_after(0)]
    server.faults[METADATA] = [cut_after(1)]
    assert bytes_of(gather(server.url)[0]) == expected
    assert server.ranges(RATINGS)[1] == "bytes=100-"
    assert server.ranges(METADATA) == [None, "bytes=1-"]


def test_a_cut_at_any_byte_gives_the_same_file(tmp_path, server):
    data = (server.folder / RATINGS[1:]).read_bytes()[:200]
    (server.folder / "small.csv").write_bytes(data)
    with Connections(LOOPBACK) as connections:
        for count in range(len(data)):
            server.faults["/small.csv"] = [cut_after(count)]
            with Scratch(tmp_path / "s") as scratch:
                base = HttpBase(server.url, connections, scratch, LOOPBACK, None)
                fetched = base.fetch("small.csv", lambda path, name, **kind: None)
                assert fetched.path.read_bytes() == data, count


FAULTS = st.one_of(
    st.integers(0, 200).map(cut_after),
    st.integers(0, 200).map(lambda count: cut_after(count, tag="")),
    st.integers(0, 200).map(lambda count: cut_after(count, tag='"older"')),
    st.sampled_from([500, 503, 429, 404, 416]).map(status),
    st.binary(max_size=200).map(lambda body: other(body, '"older"')),
    st.binary(max_size=200).map(lambda body: other(body, '"older"', ignore_if_range=True)),
)


# One ETag for a file of 200 bytes and one of a single byte.
@example(faults=[cut_after(1, tag='"older"'), other(b"\x01", '"older"')])
@settings(deadline=None, max_examples=40)
@given(faults=st.lists(FAULTS, max_size=8))
def test_whatever_happens_the_file_is_the_servers_or_there_is_an_error(tmp_path_factory, faults):
    """Bodies of an older version may come whole, if the server says so; nothing is ever mixed."""
    folder, whole = tmp_path_factory.mktemp("any"), []
    data = bytes(range(200))
    (folder / "x.gz").write_bytes(data)

    def check(path, name, **kind):
        whole.append(path.read_bytes())

    with MisbehavingServer(folder) as server:
        server.faults["/x.gz"] = list(faults)
        for _ in range(len(faults) + 1):  # each run meets one fault at least
            used_up = not server.faults["/x.gz"]
            try:
                with Scratch(folder / "s") as scratch:
                    base = HttpBase(server.url, CONNECTIONS, scratch, LOOPBACK, None)
                    base.fetch("x.gz", check)
            except FetchError:
                assert not used_up
            if used_up:
                break
    older = {cell.cell_contents for fault in faults for cell in fault.__closure__ or ()
             if isinstance(cell.cell_contents, bytes)}  # fmt: skip
    assert whole[-1] == data
    assert set(whole) <= {data, *older}


def test_a_later_run_goes_on_where_a_failed_one_stopped(gather, expected, server):
    server.faults[METADATA] = [cut_after(50), *[status(503)] * 3]
    with pytest.raises(MacrecError, match=r"_Cards\.json\.gz: .* \(status_503\); run again"):
        gather(server.url, target="failed")
    server.requests.clear()
    raw, _ = gather(server.url)
    assert bytes_of(raw) == expected
    assert server.ranges(METADATA) == ["bytes=50-"]
    size = len(expected["ratings.csv"])
    assert server.ranges(RATINGS) == [f"bytes={size}-"]  # whole already, confirmed only


def test_without_a_validator_a_cut_file_is_begun_anew(gather, expected, server):
    server.faults[RATINGS] = [cut_after(100, tag="")]
    assert bytes_of(gather(server.url)[0]) == expected
    assert server.ranges(RATINGS) == [None, None]


def test_a_file_that_never_gets_longer_is_given_up(gather, server):
    server.faults[RATINGS] = [cut_after(10), *[cut_after(0)] * 20]
    with pytest.raises(MacrecError, match=r"Gift_Cards\.csv: cannot be fetched"):
        gather(server.url)
    assert len(server.ranges(RATINGS)) <= 6


def test_a_damaged_state_file_means_a_new_beginning(gather, expected, server, tmp_path):
    server.faults[RATINGS] = [cut_after(100), *[status(503)] * 3]
    with pytest.raises(MacrecError, match="status_503"):
        gather(server.url, target="failed")
    (state,) = (tmp_path / "scratch").glob("*.json")
    state.write_text("{")
    assert bytes_of(gather(server.url)[0]) == expected
    assert server.ranges(RATINGS)[-1] is None


# ------------------------------------------------------------------------------ changed files


def test_a_file_that_changed_meanwhile_is_fetched_anew(gather, expected, server):
    server.faults[RATINGS] = [cut_after(100, tag='"older"')]
    assert bytes_of(gather(server.url)[0]) == expected


@pytest.mark.parametrize("change", ["tag", "length"])
def test_a_change_is_seen_on_a_server_that_ignores_if_range(gather, expected, server, change):
    data = expected["ratings.csv"]
    newer = data if change == "tag" else data + b"x"
    tag = '"newer"' if change == "tag" else etag(data)
    server.faults[RATINGS] = [cut_after(100), other(newer, tag, ignore_if_range=True)]
    assert bytes_of(gather(server.url)[0]) == expected
    assert server.ranges(RATINGS) == [None, "bytes=100-", None]


def test_a_file_that_shrank_is_fetched_anew(gather, expected, server):
    data = expected["ratings.csv"]
    server.faults[RATINGS] = [cut_after(100), other(data[:50], etag(data))]
    assert bytes_of(gather(server.url)[0]) == expected
    assert server.ranges(RATINGS) == [None, "bytes=100-", None]


def test_another_range_than_asked_is_not_put_together(gather, expected, server):
    def shifted(handler, data):
        span = f"bytes 90-{len(data) - 1}/{len(data)}"
        send(handler, 206, data[90:], ETag=etag(data), Content_Range=span)

    server.faults[RATINGS] = [cut_after(100), shifted]
    assert bytes_of(gather(server.url)[0]) == expected


# ------------------------------------------------------------------------------------ waiting


def test_500_thrice_and_then_success(gather, expected, server):
    server.faults[RATINGS] = [status(500)] * 3
    server.faults["/images/B3.jpg"] = [status(502)] * 3
    assert bytes_of(gather(server.url)[0]) == expected
    assert len(server.ranges(RATINGS)) == len(server.ranges("/images/B3.jpg")) == 4


@pytest.mark.parametrize("wait", ["seconds", "date"])
def test_429_waits_as_long_as_the_server_asks(gather, expected, server, wait):
    text = "1" if wait == "seconds" else formatdate(time.time() + 2, usegmt=True)
    server.faults[RATINGS] = [status(429, Retry_After=text)]
    assert bytes_of(gather(server.url)[0]) == expected
    asked = [t for t, (path, _) in zip(server.times, server.requests, strict=True)
             if path == RATINGS]  # fmt: skip
    assert 0.8 <= asked[1] - asked[0] <= 4


def test_a_longer_wait_than_allowed_is_refused_at_once(gather, server):
    server.faults[RATINGS] = [status(429, Retry_After="3600")]
    with pytest.raises(MacrecError, match=r"3600 s, more than .*max_wait_s=2\.0\); run again"):
        gather(server.url)
    assert len(server.ranges(RATINGS)) == 1


def test_waits_grow_and_differ(gather, server):
    server.always[RATINGS] = status(503)
    with pytest.raises(MacrecError, match="status_503"):
        gather(server.url, network=network(first_wait_s=0.1, attempts=4))
    waits = [later - one for one, later in zip(server.times, server.times[1:], strict=False)]
    for wait, (least, most) in zip(waits, [(0.05, 0.1), (0.1, 0.2), (0.2, 0.4)], strict=True):
        assert least <= wait <= most + 0.5


def test_a_stalled_read_is_continued(gather, expected, server):
    server.faults[METADATA] = [stalled(20)]
    assert bytes_of(gather(server.url, network=network(timeout_s=0.3))[0]) == expected
    assert server.ranges(METADATA) == [None, "bytes=20-"]


def test_a_trickle_counts_as_silence(gather, expected, server, tmp_path):
    server.faults[RATINGS] = [trickle]
    assert bytes_of(gather(server.url, network=network(timeout_s=0.3))[0]) == expected
    assert len(server.ranges(RATINGS)) == 2
    server.always["/images/B0.jpg"] = trickle
    limits = ImageLimits(0.2, 100_000)
    impatient = HttpBase(server.url, CONNECTIONS, Scratch(tmp_path), LOOPBACK, limits)
    with pytest.raises(ImageError, match="timeout"):
        impatient.load_image(f"{server.url}/images/B0.jpg")


def test_no_server_is_a_clear_error(gather, server):
    with pytest.raises(MacrecError, match=r"http://127\.0\.0\.1:1/.*cannot be fetched"):
        gather("http://127.0.0.1:1")


# ------------------------------------------------------------------------------- wrong answers


def test_what_the_server_does_not_have_is_not_tried_again(gather, server):
    (server.folder / RATINGS[1:]).unlink()
    with pytest.raises(MacrecError, match=r"Gift_Cards\.csv: .* \(status_404\); correct the"):
        gather(server.url)
    assert len(server.ranges(RATINGS)) == 1


@pytest.mark.parametrize("path", [RATINGS, METADATA, REVIEWS])
def test_a_page_with_status_200_is_no_file_and_not_kept(gather, expected, server, path):
    server.faults[path] = [page]
    with pytest.raises(MacrecError, match=r"Gift_Cards.*web page"):
        gather(server.url, target="failed")
    assert bytes_of(gather(server.url)[0]) == expected


@pytest.mark.parametrize("count", [0, 1, 20, -1])
def test_a_gzip_file_that_is_truncated_on_the_server_is_refused(gather, expected, server, count):
    server.faults[METADATA] = [truncated(count)]
    with pytest.raises(MacrecError, match=r"meta_Gift_Cards\.json\.gz: is no whole gzip file"):
        gather(server.url, target="failed")
    assert bytes_of(gather(server.url)[0]) == expected


def test_a_length_that_promises_too_much_is_confirmed_or_given_up(gather, server):
    server.always[RATINGS] = wrong_length(+5)
    with pytest.raises(MacrecError, match=r"Gift_Cards\.csv: cannot be fetched"):
        gather(server.url)


@pytest.mark.parametrize(
    ("path", "message"), [(RATINGS, "ends within a line"), (METADATA, "is no whole gzip file")]
)
def test_a_length_that_promises_too_little_is_seen(gather, server, path, message):
    server.always[path] = wrong_length(-3)
    with pytest.raises(MacrecError, match=rf"Gift_Cards.*{message}"):
        gather(server.url)


def test_a_known_hash_takes_the_place_of_the_last_line_end(gather, server):
    path = server.folder / RATINGS[1:]
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    with pytest.raises(MacrecError, match="ends within a line"):
        gather(server.url, target="failed")
    known = {"ratings": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert (gather(server.url, sha256=known)[0] / "ratings.csv").read_bytes() == path.read_bytes()


def test_a_body_without_a_length_is_refused_but_chunks_are_taken(gather, expected, server):
    def endless(handler, data):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(data[:100])
        handler.close_connection = True

    def chunked(handler, data):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("ETag", etag(data))
        handler.end_headers()
        for start in range(0, len(data), 50):
            part = data[start : start + 50]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        handler.wfile.write(b"0\r\n\r\n")

    server.faults[RATINGS] = [endless]
    with pytest.raises(MacrecError, match="tells no length"):
        gather(server.url, target="failed")
    server.faults[RATINGS] = [chunked]
    assert bytes_of(gather(server.url)[0]) == expected


def test_an_encoded_body_is_refused(gather, server):
    def encoded(handler, data):
        send(handler, 200, gzip.compress(data), Content_Encoding="gzip")

    server.faults[RATINGS] = [encoded]
    with pytest.raises(MacrecError, match="answered with Content-Encoding 'gzip'"):
        gather(server.url)


# -------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("promised", [True, False])
def test_a_file_beyond_the_limit_is_refused(gather, server, promised, tmp_path):
    def long(handler, data):
        if promised:
            return send(handler, 200, b"x" * 10_000)
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"64\r\n" + b"x" * 100 + b"\r\n")
        return handler.wfile.write(b"0\r\n\r\n")

    server.always[RATINGS] = long
    with pytest.raises(MacrecError, match=r"more than network\.max_file_bytes=5000"):
        gather(server.url, network=network(max_file_bytes=5000))
    assert all(path.stat().st_size <= 5000 for path in (tmp_path / "scratch").glob("*.part"))


def test_a_gzip_bomb_is_refused_by_ratio_and_by_size(gather, server):
    path = server.folder / METADATA[1:]
    path.write_bytes(gzip.compress(b"\n" * 5_000_000))
    with pytest.raises(MacrecError, match=r"unpacks to more than \d+ bytes .*gzip bomb"):
        gather(server.url)
    small = network(max_unpacked_ratio=1e6, max_unpacked_bytes=1_000_000)
    with pytest.raises(MacrecError, match=r"unpacks to more than 1000000 bytes"):
        gather(server.url, network=small, target="other")


@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_a_line_without_end_is_refused(gather, server, place):
    long, short = b"x" * 3_000, b"short\n" * 100
    text = {"start": long + b"\n" + short, "middle": short + long + b"\n" + short,
            "end": short + long}[place]  # fmt: skip
    (server.folder / METADATA[1:]).write_bytes(gzip.compress(text))
    with pytest.raises(MacrecError, match=r"has a line of more than network\.max_line_bytes=2500"):
        gather(server.url, network=network(max_line_bytes=2500))


# --------------------------------------------------------------------------- hosts, redirects


def test_a_redirect_to_an_allowed_host_is_followed(gather, expected, server):
    moved = server.folder / "moved.csv"
    moved.write_bytes(expected["ratings.csv"])
    server.always[RATINGS] = redirect(server.url.replace("127.0.0.1", "localhost") + "/moved.csv")
    server.faults["/moved.csv"] = [cut_after(30)]
    server.always["/images/B1.jpg"] = redirect("B2.jpg", code=307)
    raw, contents = gather(server.url)
    assert (raw / "ratings.csv").read_bytes() == expected["ratings.csv"]
    assert server.ranges("/moved.csv") == [None, "bytes=30-"]
    assert contents.files["ratings.csv"]["origin"] == server.url + RATINGS
    assert keys(raw) == ALL


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://evil.example.com/x", "host 'evil.example.com' is not in network.allowed_hosts"),
        ("http://127.0.0.1.evil.example.com/x", "is not in network.allowed_hosts"),
        ("http://127.0.0.1@evil.example.com/x", "carries a user's name"),
        ("//evil.example.com/x", "host 'evil.example.com' is not in"),
        ("file:///etc/passwd", "is no http or https URL"),
        ("ftp://127.0.0.1/x", "is no http or https URL"),
        ("http://[bad", "is not in network.allowed_hosts"),
    ],
)
def test_a_redirect_off_the_list_is_refused(gather, server, target, message):
    server.always[RATINGS] = redirect(target)
    with pytest.raises(MacrecError, match=rf"Gift_Cards\.csv: cannot be fetched \(.*{message}"):
        gather(server.url)
    assert len(server.ranges(RATINGS)) == 1


def test_a_redirect_loop_ends(gather, server):
    server.always[RATINGS] = redirect(RATINGS)
    with pytest.raises(MacrecError, match=r"max_redirects=3 redirects, .*\); name the address"):
        gather(server.url)
    assert len(server.ranges(RATINGS)) == 4


def test_a_base_off_the_list_is_refused_without_a_request(gather, server):
    for url, message in (
        (server.url, "host '127.0.0.1' is not in network.allowed_hosts"),
        ("ftp://m.media-amazon.com", "is no http or https URL"),
    ):
        with pytest.raises(MacrecError, match=message):
            gather(url, network=network(allowed_hosts=["m.media-amazon.com"]), target=url[:3])
    assert server.requests == []


def test_loopback_is_refused_unless_allowed(gather, server):
    with pytest.raises(MacrecError, match=r"has the address 127\.0\.0\.1, which is not public"):
        gather(server.url, network=network(allow_private_addresses=False))
    assert server.requests == []


# ------------------------------------------------------------------------------------- mirrors


def test_the_next_mirror_is_asked_file_by_file(gather, expected, server):
    server.always["/first" + METADATA] = status(404)
    (server.folder / "first/categoryFilesSmall").mkdir(parents=True)
    os.link(server.folder / RATINGS[1:], server.folder / ("first" + RATINGS))
    server.always["/first" + REVIEWS] = page
    raw, contents = gather("http://127.0.0.1:1", server.url + "/first", server.url)
    assert bytes_of(raw) == expected
    dead = "http://127.0.0.1:1"
    assert contents.files["ratings.csv"]["origin"] == f"{server.url}/first{RATINGS}"
    assert contents.files["ratings.csv"]["failed"] == {dead + RATINGS: "connection"}
    assert contents.files["metadata.json.gz"]["failed"] == {
        dead + METADATA: "connection",
        f"{server.url}/first{METADATA}": "status_404",
    }
    assert contents.files["reviews_5core.json.gz"]["failed"] == {
        dead + REVIEWS: "connection",
        f"{server.url}/first{REVIEWS}": "no_gzip",
    }


def test_when_no_mirror_works_all_reasons_are_told(gather, server):
    (server.folder / RATINGS[1:]).unlink()
    with pytest.raises(MacrecError, match=r"127\.0\.0\.1:1/.*cannot be.*Gift_Cards\.csv.*_404"):
        gather("http://127.0.0.1:1", server.url)


def test_a_folder_comes_before_the_server(gather, expected, server, tmp_path):
    (tmp_path / "partly" / "categoryFilesSmall").mkdir(parents=True)
    (tmp_path / "partly" / RATINGS[1:]).write_bytes(expected["ratings.csv"])
    raw, contents = gather("partly", server.url)
    assert bytes_of(raw) == expected
    assert contents.files["ratings.csv"]["origin"] == "partly" + RATINGS
    assert server.ranges(RATINGS) == []


# -------------------------------------------------------------------------------------- images


def test_images_over_http_fail_by_cause(gather, server, image_params):
    server.always |= {
        "/images/B0.jpg": status(404),
        "/images/B1.jpg": page,
        "/images/B2.jpg": stalled(10, seconds=2.0),
        "/images/B3.jpg": lambda handler, data: send(handler, 200, b"\0" * 50_000),
        "/images/B4.jpg": redirect("http://evil.example.com/B4.jpg"),
    }
    params = image_params.model_copy(update={"max_failure_rate": 0.9, "timeout_s": 0.2})
    raw, contents = gather(server.url, images=params)
    assert keys(raw) == ["B5"]
    assert failures(raw) == {
        "B0": "status_404",
        "B1": "undecodable",
        "B2": "timeout",
        "B3": "too_many_bytes",
        "B4": "forbidden_host",
    }
    assert contents.counts["images_missing"] == 5


def test_a_later_run_asks_only_for_images_that_may_come(gather, server, image_params):
    server.always["/images/B0.jpg"] = status(404)
    server.faults["/images/B1.jpg"] = [status(503)] * LOOPBACK.attempts
    strict = image_params.model_copy(update={"max_failure_rate": 0.1})
    with pytest.raises(MacrecError, match=r"2 of 6 items.*'status_404': 1, 'status_503': 1"):
        gather(server.url, images=strict)
    server.requests.clear()
    raw, _ = gather(server.url, target="again")
    assert keys(raw) == ["B1", "B2", "B3", "B4", "B5"]
    assert failures(raw) == {"B0": "status_404"}
    asked = [path for path, _ in server.requests if path.startswith("/images/")]
    assert asked == ["/images/B1.jpg"]


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (status(403), "status_403"),
        (status(503), "status_503"),
        (cut_after(20), "connection"),
        (redirect("/images/B0.jpg"), "too_many_redirects"),
        (lambda handler, data: send(handler, 200, data, Content_Encoding="br"), "encoded"),
    ],
)
def test_every_cause_of_a_missing_image(tmp_path, server, fault, cause):
    server.always["/images/B0.jpg"] = fault
    with connected(server, tmp_path) as base, pytest.raises(ImageError) as caught:
        base.load_image(f"{server.url}/images/B0.jpg")
    assert str(caught.value) == cause


@pytest.mark.parametrize(
    "url",
    ["", "x", "file:///etc/passwd", "http://", "http://[", "http://127.0.0.1/\ud800", "a" * 70_000],
)
def test_an_image_of_a_bad_url_is_not_asked_for(tmp_path, server, url):
    with connected(server, tmp_path) as base, pytest.raises(ImageError, match="bad_url"):
        base.load_image(url)


@given(st.text() | st.text().map("http://127.0.0.1:1/".__add__) | st.text().map("//".__add__))
def test_whatever_is_called_a_url_has_a_cause(url):
    once = network(attempts=1)
    limits = ImageLimits(1.0, 1)
    base = HttpBase("http://127.0.0.1:1", CONNECTIONS, Scratch(Path()), once, limits)
    with pytest.raises(ImageError) as caught:
        base.load_image(url)
    assert str(caught.value) in ("bad_url", "forbidden_host", "connection")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255)))
def test_whatever_a_redirect_names_has_a_cause(location):
    found = httpx.Response(302, headers=[(b"Location", location.encode("latin-1"))])
    try:
        target = CONNECTIONS._target(httpx.URL("http://127.0.0.1/x/y"), found)
    except RefusedError as error:
        assert error.cause in ("bad_url", "forbidden_host")
    else:
        assert target.host in LOOPBACK.allowed_hosts


@pytest.mark.parametrize(
    "text", [b"SSH-2.0-OpenSSH_9.9\r\n", b"", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000]
)
def test_something_else_than_http_is_a_clear_error(gather, server, text):
    def garbage(handler, data):
        handler.wfile.write(text)
        handler.close_connection = True

    server.always[RATINGS] = garbage
    with pytest.raises(MacrecError, match=r"Gift_Cards\.csv: cannot be fetched"):
        gather(server.url)


def test_images_are_fetched_from_many_threads(tmp_path, server, release):
    found = {}
    with connected(server, tmp_path) as base:

        def load(name):
            found[name] = base.load_image(f"{server.url}/images/{name}")

        threads = [threading.Thread(target=load, args=(name,)) for name in release.images]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == release.images


@contextmanager
def connected(server, tmp_path, params=LOOPBACK):
    with Connections(params) as connections, Scratch(tmp_path / "s") as scratch:
        yield HttpBase(server.url, connections, scratch, params, ImageLimits(1.0, 100_000))


# ---------------------------------------------------------------------------- runs side by side


def test_a_second_run_on_the_same_file_names_the_first(gather, expected, server, tmp_path):
    entered, leave = threading.Event(), threading.Event()
    server.faults[METADATA] = [held(leave, entered)]
    results = []
    first = threading.Thread(target=lambda: results.append(gather(server.url, target="first")))
    first.start()
    assert entered.wait(20)
    try:
        with pytest.raises(MacrecError) as caught:
            gather(server.url, target="second")
    finally:
        leave.set()
        first.join()
    message = f"{server.url}{RATINGS}: is being downloaded by process {os.getpid()} on "
    assert str(caught.value).startswith(message)
    assert bytes_of(results[0][0]) == expected
    assert bytes_of(gather(server.url, target="third")[0]) == expected
    assert left_in(tmp_path / "scratch") == []


# ------------------------------------------------------------------------------------ full disk


def test_a_full_disk_is_a_clear_error_and_the_rest_goes_on_later(server, small_disk):
    data = os.urandom(300_000)
    (server.folder / "big.csv.gz").write_bytes(data)
    with connected(server, small_disk) as base:
        with pytest.raises(
            MacrecError, match=r"cannot be written \(.*No space left.*MACREC_SCRATCH.*run again"
        ) as e:
            base.fetch("big.csv.gz", lambda path, name, **kind: None)
        assert not isinstance(e.value, FetchError)  # no other mirror is asked
    assert len(server.ranges("/big.csv.gz")) == 1


def test_a_full_disk_below_the_raw_folder_is_a_clear_error(gather, server, tmp_path, small_disk):
    (server.folder / RATINGS[1:]).write_text("B0,A0,5.0,1000\n" * 10_000)
    with pytest.raises(MacrecError, match=r"cannot be written \(.*No space left.*run again"):
        gather(server.url, target="disk/raw")
    (server.folder / RATINGS[1:]).write_text("B0,A0,5.0,1000\n")
    manifest = json.loads((gather(server.url)[0] / "manifest.json").read_text())
    assert manifest["files"]["ratings.csv"]["size"] == 15


# ------------------------------------------------------------- what strangers may put in headers


def test_a_part_that_stops_short_of_its_own_range_is_continued(gather, expected, server):
    # The first answer came in chunks, so that only the range tells the whole's length.
    def chunks_that_break_off(handler, data):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("ETag", etag(data))
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n" % (100, data[:100]))

    def short_part(handler, data):
        end = data.index(b"\n", 150) + 1  # a line's end, which a CSV may have there
        span = f"bytes 100-{end - 1}/{len(data)}"
        send(handler, 206, data[100:end], ETag=etag(data), Content_Range=span)

    server.faults[RATINGS] = [chunks_that_break_off, short_part]
    assert bytes_of(gather(server.url)[0]) == expected
    assert len(server.ranges(RATINGS)) == 3


def test_an_etag_that_cannot_be_sent_back_is_none(gather, expected, server):
    server.faults[RATINGS] = [cut_after(100, tag='"\u00e9"')]
    assert bytes_of(gather(server.url)[0]) == expected
    assert server.ranges(RATINGS) == [None, None]


@pytest.mark.parametrize("text", ["", "soon", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_a_retry_after_that_means_nothing_is_no_wait(gather, expected, server, text):
    server.faults[RATINGS] = [status(429, Retry_After=text)]
    assert bytes_of(gather(server.url)[0]) == expected


def test_a_missing_image_is_asked_for_once_however_many_mirrors(gather, server, image_params):
    server.always["/images/B0.jpg"] = status(404)
    mirrors = [server.url, server.url + "/", server.url + "//"]
    gather(*mirrors, images=image_params.model_copy(update={"max_failure_rate": 0.5}))
    assert len(server.ranges("/images/B0.jpg")) == 1


def test_a_folder_that_is_not_there_is_passed_over(gather, expected, server):
    assert bytes_of(gather("nowhere", server.url)[0]) == expected
    with pytest.raises(MacrecError, match="nowhere: is no folder"):
        gather("nowhere", target="other")


# ------------------------------------------------------------------------ hosts that are gone

NOBODY = "http://127.0.0.1:1/x.jpg"


def causes_of(base, *urls):
    """The cause of each image, empty where it came."""
    causes = []
    for url in urls:
        try:
            base.load_image(url)
        except ImageError as error:
            causes.append(str(error))
        else:
            causes.append("")
    return causes


def test_a_host_that_cannot_be_reached_ends_the_run(tmp_path, server):
    with connected(server, tmp_path, network(attempts=2)) as base:
        assert causes_of(base, NOBODY, NOBODY) == ["connection"] * 2
        told = r"^127\.0\.0\.1: cannot be reached \(.*3 images in a row; run again to continue"
        with pytest.raises(MacrecError, match=told):
            base.load_image(NOBODY)


def test_the_host_that_a_redirect_leads_to_is_the_one(tmp_path, server):
    server.always["/images/a.jpg"] = redirect("http://localhost:1/x.jpg")
    moved, here = (f"{server.url}/images/{name}.jpg" for name in ("a", "B0"))
    with connected(server, tmp_path, network(attempts=1)) as base:
        assert causes_of(base, moved, here, moved, here) == ["connection", "", "connection", ""]
        with pytest.raises(MacrecError, match=r"^localhost: cannot be reached"):
            base.load_image(moved)


def test_an_answer_that_breaks_off_says_nothing_of_its_host(tmp_path, server):
    def silence(handler, data):
        handler.close_connection = True  # and not a byte

    server.always["/images/a.jpg"] = silence
    server.always["/images/b.jpg"] = cut_after(5)
    broken = [f"{server.url}/images/{name}.jpg" for name in "ab"]
    with connected(server, tmp_path, network(attempts=1)) as base:
        assert set(causes_of(base, *broken * 4)) <= {"connection", "cut"}


@pytest.mark.parametrize("answer", [status(500), status(404), None])
def test_any_answer_is_a_sign_of_life(tmp_path, server, answer):
    if answer:
        server.always["/images/B0.jpg"] = answer
    other = f"{server.url}/images/B0.jpg"
    with connected(server, tmp_path, network(attempts=1)) as base:
        causes = causes_of(base, NOBODY, NOBODY, other, NOBODY, NOBODY, other)
    assert causes.count("connection") == 4


@pytest.mark.parametrize("host", ["xn--0", "xn--a", "xn--ls8h"])
def test_a_name_that_no_rule_allows_is_a_cause(tmp_path, server, host):
    with connected(server, tmp_path) as base:
        assert causes_of(base, f"http://{host}/a.jpg") == ["forbidden_host"]
