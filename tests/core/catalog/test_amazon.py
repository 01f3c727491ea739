from __future__ import annotations

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from macrec_core.artifacts import read_artifact
from macrec_core.catalog.amazon import release_name
from macrec_core.catalog.http import Retry
from macrec_core.catalog.image_shards import pictured_items
from macrec_core.catalog.raw import Places, write_raw
from macrec_core.errors import MacrecError
from macrec_core.params.data import AmazonSource
from macrec_core.schemas import IMAGE_FAILURES, RAW_IMAGES

RATINGS = "/categoryFilesSmall/Toys.csv"
METADATA = "/metaFiles2/meta_Toys.json.gz"


class Server:
    """Serves a folder with ranges and ETags; `faults` answer instead, one each time."""

    def __init__(self, folder):
        self.folder = folder
        self.faults = {}  # path -> list of functions of the handler and the file's bytes
        self.requests = []  # (path, Range header)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                outer.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler):
        self.requests.append((handler.path, handler.headers.get("Range")))
        path = self.folder / handler.path.lstrip("/")
        data = path.read_bytes() if path.is_file() else None
        if self.faults.get(handler.path):
            self.faults[handler.path].pop(0)(handler, data)
        elif data is None:
            send(handler, 404, b"no such file")
        else:
            serve(handler, data)

    def ranges(self, path):
        return [found for asked, found in self.requests if asked == path]


def send(handler, status, body, length=None, **headers):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def etag(data):
    return f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def serve(handler, data):
    asked, same = handler.headers.get("Range"), handler.headers.get("If-Range")
    if not asked or (same and same != etag(data)):
        return send(handler, 200, data, ETag=etag(data))
    start = int(asked.removeprefix("bytes=").rstrip("-"))
    if start >= len(data):
        return send(handler, 416, b"", Content_Range=f"bytes */{len(data)}")
    span = f"bytes {start}-{len(data) - 1}/{len(data)}"
    return send(handler, 206, data[start:], ETag=etag(data), Content_Range=span)


def cut_after(count, tag=None):
    """Promise the whole file, and hang up after some bytes."""

    def fault(handler, data):
        headers = {"ETag": tag or etag(data)} if tag != "" else {}
        send(handler, 200, data[:count], length=len(data), **headers)

    return fault


def status(code):
    return lambda handler, data: send(handler, code, b"<html>sorry</html>")


@pytest.fixture
def server(release):
    found = Server(release.folder)
    yield found
    found.http.shutdown()
    found.http.server_close()


@pytest.fixture
def gather(tmp_path, image_params, release):
    """Gather the toy category into a fresh folder and return it with what went in."""

    def run(base, images=image_params, with_images=True, target="raw"):
        raw = tmp_path / target
        raw.mkdir()
        spec = AmazonSource(source="amazon", category="Toys", base=base)
        places = Places(data_root=tmp_path, scratch=tmp_path / "scratch", folder=None)
        retry = Retry(attempts=4, first_wait_s=0.001)
        contents = write_raw(raw, spec, images, places, with_images=with_images, retry=retry)
        return raw, contents

    return run


def keys(raw):
    return pictured_items(raw)


def failures(raw):
    table = read_artifact(raw / "image_failures.parquet", IMAGE_FAILURES)
    return {row["item_key"]: row["cause"] for row in table.to_pylist()}


def bytes_of(raw):
    paths = [path for path in raw.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(raw)): path.read_bytes() for path in paths}


# ----------------------------------------------------------------------- local folder


def test_a_local_release_is_gathered_with_origins_and_hashes(gather, release):
    release.write()
    raw, contents = gather("release")
    source = release.folder / "categoryFilesSmall" / "Toys.csv"
    assert (raw / "ratings.csv").read_bytes() == source.read_bytes()
    assert keys(raw) == ["B0", "B1", "B2", "B3", "B4", "B5"]
    manifest = json.loads((raw / "manifest.json").read_text())
    assert manifest["source"] == "amazon"
    assert manifest["files"] == contents.files
    assert manifest["files"]["ratings.csv"] == {
        "origin": "release/categoryFilesSmall/Toys.csv",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "size": source.stat().st_size,
        "kept": True,
    }
    assert manifest["files"]["reviews_5core.json.gz"]["kept"] is False
    assert sorted(path.name for path in raw.iterdir()) == [
        "image_failures.parquet", "images", "manifest.json", "metadata.json.gz",
        "ratings.csv",
    ]  # fmt: skip


def test_images_only_of_reviewed_items_with_metadata(gather, release):
    release.reviews = [*release.reviews[:3], '{"asin": "unknown"}', "broken"]
    release.metadata += ["broken", release.metadata[0]]
    release.write()
    raw, contents = gather("release")
    assert keys(raw) == ["B0", "B1", "B2"]
    assert contents.counts == {
        "metadata_items": 6,
        "metadata_duplicates": 1,
        "metadata_bad_lines": 1,
        "reviewed_items": 4,
        "reviewed_items_without_metadata": 1,
        "review_bad_lines": 1,
        "images_wanted": 3,
        "images_missing": 0,
        "image_failures": {},
        "image_shards": 1,
    }


def test_image_failures_are_listed_by_cause(gather, release):
    host = "https://images.example.com/images"
    urls = [
        [f"{host}/gone.jpg", f"{host}/B0.jpg"],
        [f"{host}/html.jpg"],
        [],
        ["file:///etc/passwd"],
        [f"{host}/.."],
    ]
    records = [json.loads(line) for line in release.metadata]
    for record, found in zip(records, urls, strict=False):
        record["imageURLHighRes"], record["imageURL"] = found[:1], found[1:]
    release.metadata = [json.dumps(record) for record in records]
    release.images["html.jpg"] = b"<html></html>"
    release.write()
    with pytest.raises(MacrecError, match=r"4 of 6 items have no usable image.*'bad_url': 2"):
        gather("release")


def test_high_resolution_comes_first_then_the_next_url(gather, release):
    host = "https://images.example.com/images"
    records = [json.loads(line) for line in release.metadata]
    records[0] |= {"imageURL": [f"{host}/B1.jpg"], "imageURLHighRes": [f"{host}/B0.jpg"]}
    records[1] |= {"imageURL": [f"{host}/B1.jpg"], "imageURLHighRes": [f"{host}/gone.jpg"]}
    release.metadata = [json.dumps(record) for record in records]
    release.write()
    raw, _ = gather("release")
    table = read_artifact(raw / "images" / "part-00000.parquet", RAW_IMAGES)
    assert table.column("image").to_pylist()[:2] == [
        release.images["B0.jpg"],
        release.images["B1.jpg"],
    ]
    assert failures(raw) == {"B1": "no_file"}


def test_without_the_image_modality_neither_reviews_nor_images_are_needed(gather, release):
    release.write()
    (release.folder / "categoryFilesSmall" / "Toys_5.json.gz").unlink()
    raw, contents = gather("release", with_images=False)
    assert not (raw / "images").exists()
    with pytest.raises(MacrecError, match=r"image_shards=None.*run download again, with image"):
        keys(raw)
    assert "reviews_5core.json.gz" not in contents.files


def test_the_truth_behind_a_synthetic_release_is_kept(gather, release):
    release.write()
    (release.folder / "truth.npz").write_bytes(b"truth")
    raw, contents = gather("release")
    assert (raw / "truth.npz").read_bytes() == b"truth"
    assert contents.files["truth.npz"]["size"] == 5


def test_a_missing_file_and_a_missing_folder_are_named(gather, release):
    release.write()
    (release.folder / "metaFiles2" / "meta_Toys.json.gz").unlink()
    with pytest.raises(MacrecError, match=r"metaFiles2/meta_Toys\.json\.gz: does not exist"):
        gather("release")
    with pytest.raises(MacrecError, match=r"nowhere: is no folder.*MACREC_DATA"):
        gather("nowhere", target="other")


def test_a_damaged_gzip_file_is_refused(gather, release):
    release.write()
    path = release.folder / "metaFiles2" / "meta_Toys.json.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(MacrecError, match=r"release/metaFiles2/meta_Toys\.json\.gz: is no whole"):
        gather("release")


def test_the_papers_short_names_mean_the_releases_categories():
    assert release_name("Instruments") == "Musical_Instruments"
    assert release_name("Arts") == "Arts_Crafts_and_Sewing"
    assert release_name("Games") == "Video_Games"
    assert release_name("Toys_and_Games") == "Toys_and_Games"
    with pytest.raises(MacrecError, match="only letters, digits and underscores"):
        release_name("../secret")


# ------------------------------------------------------------------------------- http


def over_http(release, server):
    """The release with image URLs of the server."""
    release.metadata = [
        line.replace("https://images.example.com", server.url) for line in release.metadata
    ]
    release.write()


def test_http_and_local_folder_give_the_same_files(gather, release, server, tmp_path):
    over_http(release, server)
    local, earlier = gather("release")
    remote, contents = gather(server.url + "/", target="remote")
    assert bytes_of(remote) == bytes_of(local)
    assert contents.files["ratings.csv"]["origin"] == server.url + RATINGS
    assert {*(tmp_path / "scratch").iterdir()} == {*earlier.leftovers, *contents.leftovers}


def test_a_cut_file_is_continued_not_begun_anew(gather, release, server):
    over_http(release, server)
    expected, _ = gather("release")
    server.faults[RATINGS] = [cut_after(100), cut_after(0)]
    server.faults[METADATA] = [cut_after(1)]
    raw, _ = gather(server.url, target="remote")
    assert bytes_of(raw) == bytes_of(expected)
    assert server.ranges(RATINGS)[1] == "bytes=100-"
    assert server.ranges(METADATA) == [None, "bytes=1-"]


def test_a_later_run_goes_on_where_a_failed_one_stopped(gather, release, server):
    over_http(release, server)
    expected, _ = gather("release")
    server.faults[METADATA] = [cut_after(50), *[status(503)] * 3]
    with pytest.raises(MacrecError, match=r"meta_Toys\.json\.gz: cannot be fetched \(status_503\)"):
        gather(server.url, target="failed")
    server.requests.clear()
    raw, _ = gather(server.url, target="remote")
    assert bytes_of(raw) == bytes_of(expected)
    assert server.ranges(METADATA) == ["bytes=50-"]
    size = len((raw / "ratings.csv").read_bytes())
    assert server.ranges(RATINGS) == [f"bytes={size}-"]  # whole already, confirmed only


def test_a_file_that_changed_meanwhile_is_fetched_anew(gather, release, server):
    over_http(release, server)
    expected, _ = gather("release")
    server.faults[RATINGS] = [cut_after(100, tag='"older"')]
    raw, _ = gather(server.url, target="remote")
    assert bytes_of(raw) == bytes_of(expected)


def test_without_a_validator_a_cut_file_is_begun_anew(gather, release, server):
    over_http(release, server)
    expected, _ = gather("release")
    server.faults[RATINGS] = [cut_after(100, tag="")]
    raw, _ = gather(server.url, target="remote")
    assert bytes_of(raw) == bytes_of(expected)
    assert server.ranges(RATINGS) == [None, None]


def test_passing_server_errors_are_waited_out(gather, release, server):
    over_http(release, server)
    server.faults[RATINGS] = [status(500), status(429), status(502)]
    server.faults["/images/B3.jpg"] = [status(500)]
    raw, _ = gather(server.url)
    assert keys(raw) == ["B0", "B1", "B2", "B3", "B4", "B5"]
    assert len(server.ranges(RATINGS)) == 4


def test_a_file_that_never_gets_longer_is_given_up(gather, release, server):
    over_http(release, server)
    server.faults[RATINGS] = [cut_after(10), *[cut_after(0)] * 20]
    with pytest.raises(MacrecError, match=r"Toys\.csv: cannot be fetched"):
        gather(server.url)
    assert len(server.ranges(RATINGS)) <= 6


def test_what_the_server_does_not_have_is_not_tried_again(gather, release, server):
    over_http(release, server)
    (release.folder / "categoryFilesSmall" / "Toys.csv").unlink()
    with pytest.raises(MacrecError, match=r"Toys\.csv: cannot be fetched \(status_404\)"):
        gather(server.url)
    assert len(server.ranges(RATINGS)) == 1


def test_a_damaged_copy_is_not_kept(gather, release, server):
    over_http(release, server)
    page = b"<html>please log in</html>"
    server.faults[METADATA] = [lambda handler, data: send(handler, 200, page, ETag=etag(data))]
    with pytest.raises(MacrecError, match=r"meta_Toys\.json\.gz: is no whole gzip file"):
        gather(server.url)
    raw, _ = gather(server.url, target="again")
    assert keys(raw)[0] == "B0"


def test_images_over_http_fail_by_cause(gather, release, server, image_params):
    over_http(release, server)
    server.faults |= {
        "/images/B0.jpg": [status(404)],
        "/images/B1.jpg": [lambda handler, data: send(handler, 200, b"<html></html>")],
        "/images/B2.jpg": [lambda handler, data: time.sleep(1.0)] * 4,
        "/images/B3.jpg": [lambda handler, data: send(handler, 200, b"\0" * 50_000)],
        "/images/B4.jpg": [status(503)] * 4,
    }
    params = image_params.model_copy(update={"max_failure_rate": 0.9, "timeout_s": 0.2})
    raw, contents = gather(server.url, images=params)
    assert keys(raw) == ["B5"]
    assert failures(raw) == {
        "B0": "status_404",
        "B1": "undecodable",
        "B2": "timeout",
        "B3": "too_many_bytes",
        "B4": "status_503",
    }
    assert contents.counts["images_missing"] == 5


def test_a_later_run_asks_only_for_images_that_may_come(gather, release, server, image_params):
    over_http(release, server)
    server.faults |= {"/images/B0.jpg": [status(404)], "/images/B1.jpg": [status(503)] * 4}
    strict = image_params.model_copy(update={"max_failure_rate": 0.1})
    with pytest.raises(MacrecError, match=r"2 of 6 items.*'status_404': 1, 'status_503': 1"):
        gather(server.url, images=strict)
    server.requests.clear()
    raw, _ = gather(server.url, target="again")
    assert keys(raw) == ["B1", "B2", "B3", "B4", "B5"]
    assert failures(raw) == {"B0": "status_404"}
    asked = [path for path, _ in server.requests if path.startswith("/images/")]
    assert asked == ["/images/B1.jpg"]


def test_no_server_is_a_clear_error(gather):
    with pytest.raises(MacrecError, match=r"http://127\.0\.0\.1:1/.*cannot be fetched"):
        gather("http://127.0.0.1:1")


def test_only_http_and_https_are_fetched(gather):
    with pytest.raises(MacrecError, match=r"ftp://example\.com/.*cannot be fetched"):
        gather("ftp://example.com")
