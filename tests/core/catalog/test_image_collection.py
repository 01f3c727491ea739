from __future__ import annotations

import dataclasses
import itertools
import shutil
import time

import pyarrow.parquet as pq
import pytest
from image_shop import PARAMS, Shop, noise, shop_urls

from macrec_core.artifacts import read_artifact, write_json
from macrec_core.catalog import image_trials
from macrec_core.catalog.image_collection import collect_images
from macrec_core.catalog.image_counts import Pace
from macrec_core.catalog.image_shards import ItemImages, image_parts, pictured_items
from macrec_core.catalog.image_trials import claimed_trials, folder_content
from macrec_core.catalog.scratch import Scratch
from macrec_core.errors import MacrecError
from macrec_core.progress import Silent
from macrec_core.schemas import IMAGE_FAILURES, IMAGES, RAW_IMAGES


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(image_trials, "BLOCK_ITEMS", 8)


@pytest.fixture
def collect(tmp_path):
    """Collect into a fresh folder, with trials that stay; returns folder and counts."""
    runs = iter(range(100))

    def run(urls, shop, progress=Silent(), trials="trials", **changes):  # noqa: B008
        raw = tmp_path / f"raw{next(runs)}"
        raw.mkdir()
        params = PARAMS.model_copy(update=changes)
        counts = collect_images(urls, shop.load, params, tmp_path / trials, raw, progress)
        write_json(raw / "manifest.json", {"source": "amazon", "counts": counts})
        return raw, counts

    return run


def contents(raw):
    paths = sorted(path for path in raw.rglob("*.parquet"))
    return {str(path.relative_to(raw)): path.read_bytes() for path in paths}


def failures(raw):
    table = read_artifact(raw / "image_failures.parquet", IMAGE_FAILURES)
    return [tuple(row.values()) for row in table.to_pylist()]


def url(kind, number=0, host="a"):
    return f"https://{host}.example.com/{kind}/{number}-0"


# ---------------------------------------------------------------------------- search


def test_first_usable_url_wins_and_failures_are_listed(collect):
    urls = {
        "B2": [url("html"), url("good", 1), url("good", 2)],
        "B1": [url("good", 1)],
        "B3": [],
        "B0": [url("gone"), url("html")],
    }
    raw, counts = collect(urls, Shop(0))
    assert counts == {
        "images_wanted": 4,
        "images_missing": 2,
        "image_failures": {"no_url": 1, "status_404": 1, "undecodable": 1 + 1},
        "image_shards": 1,
    }
    table = read_artifact(raw / "images" / "part-00000.parquet", RAW_IMAGES)
    image = noise(1, 48)
    assert table.to_pylist() == [
        {"item_key": key, "url": url("good", 1), "width": 48, "height": 48, "image": image}
        for key in ("B1", "B2")
    ]
    assert failures(raw) == [
        ("B0", url("gone"), "status_404"),
        ("B0", url("html"), "undecodable"),
        ("B2", url("html"), "undecodable"),
        ("B3", "", "no_url"),
    ]


def test_the_order_of_answers_changes_nothing(collect):
    urls = shop_urls(150)
    found = [
        contents(collect(urls, Shop(seed, 0.003), trials=f"t{seed}", concurrency=1 + 4 * seed)[0])
        for seed in range(3)
    ]
    assert found[0] == found[1] == found[2]


def test_neither_a_host_nor_all_are_asked_too_often_at_once(collect):
    shop = Shop(0, 0.004)
    urls = {f"B{i:03d}": [url("good", i, "ab"[i % 2])] for i in range(150)}
    collect(urls, shop, concurrency=5, per_host=3)
    assert shop.most["a.example.com"] == shop.most["b.example.com"] == 3
    assert shop.most["all"] == 5


def test_an_item_that_waits_holds_up_its_own_block_only(collect, tmp_path):
    """The other blocks are kept before the slow item has its answer."""
    kept = []

    class Slow(Shop):
        def load(self, url):
            if "/9-" in url:
                for _ in range(500):
                    kept[:] = sorted(path.name for path in (tmp_path / "trials").glob("0*"))
                    if len(kept) == 4:
                        break
                    time.sleep(0.01)
            return super().load(url)

    collect({f"B{i:03d}": [url("good", i)] for i in range(40)}, Slow(0))
    assert [int(name.split(".")[0]) for name in kept] == [0, 16, 24, 32]


def test_an_unexpected_error_is_not_hidden(collect):
    class Broken(Shop):
        def _answer(self, url):
            raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        collect({"a": [url("good")]}, Broken(0))


def test_addresses_that_are_none_are_a_cause(collect):
    shop = Shop(0)
    odd = {"B0": ["http://[", url("good")], "B1": ["caf\udce9", url("good")], "B2": [url("good")]}
    shop.overrides |= {"http://[": "bad_url", "caf\udce9": "bad_url"}
    raw, _ = collect(odd, shop)
    assert failures(raw) == [("B0", "http://[", "bad_url"), ("B1", "caf?", "bad_url")]


# ---------------------------------------------------------------------------- resume


def test_what_is_found_or_gone_for_good_is_not_asked_for_again(collect, caplog):
    caplog.set_level("INFO")
    urls = {
        "B0": [url("good", 0)],
        "B1": [url("gone", 1)],
        "B2": [url("html", 2)],
        "B3": [url("gone", 3), url("refused", 3), url("html", 3)],
        "B4": [],
        "B5": [url("refused", 5), url("good", 5)],
    }
    first, again = Shop(0), Shop(0)
    before = contents(collect(urls, first, max_failure_rate=1.0)[0])
    after = contents(collect(urls, again, max_failure_rate=1.0)[0])
    assert after == before
    assert first.asked.total() == 8
    assert again.asked == {url("refused", 3): 1}
    assert "5 of 6 items were settled by an earlier run" in caplog.text


def test_what_has_passed_is_found_at_the_next_run(collect):
    urls = {f"B{i}": [url("refused", i), url("gone", i)] for i in range(10)}
    collect(urls, Shop(0), max_failure_rate=1.0)
    shop = Shop(0)
    shop.overrides[url("refused", 3)] = noise(3, 48)
    raw, counts = collect(urls, shop, max_failure_rate=1.0)
    assert pictured_items(raw) == ["B3"]
    assert counts["image_failures"] == {"status_404": 9, "status_503": 9}
    assert [row for row in failures(raw) if row[0] == "B3"] == []
    assert not any("gone" in asked for asked in shop.asked)


def test_too_many_missing_stop_early_with_the_counts_and_keep_what_was_found(collect, tmp_path):
    urls = {f"B{i:03d}": [url("good" if i % 4 else "refused", i)] for i in range(800)}
    shop = Shop(0)
    with pytest.raises(
        MacrecError,
        match=r"(?s)of 800 items have no usable image.*'status_503': .*max_failure_rate=0.1;"
        r".*delete .*/trials$",
    ):
        collect(urls, shop, max_failure_rate=0.1)
    assert shop.asked.total() < 800
    kept = [int(path.stem) for path in (tmp_path / "trials").iterdir()]
    again = Shop(0)
    again.overrides = {url("refused", i): noise(i, 48) for i in range(800)}
    raw, counts = collect(urls, again, max_failure_rate=0.1)
    assert counts["images_missing"] == 0
    assert len(kept) > 10
    assert not any(again.asked[url("good", start + i)] for start in kept for i in range(8))
    fresh = Shop(0)
    fresh.overrides = again.overrides
    assert contents(raw) == contents(collect(urls, fresh, trials="other")[0])


def test_missing_for_good_stops_at_once_at_the_next_run(collect):
    urls = {f"B{i}": [url("gone", i)] for i in range(20)}
    with pytest.raises(MacrecError, match="have no usable image"):
        collect(urls, Shop(0))
    shop = Shop(0)
    with pytest.raises(MacrecError, match="have no usable image"):
        collect({**urls}, shop)
    assert shop.asked.total() == 0


def test_a_damaged_block_is_fetched_again(collect, tmp_path, caplog):
    urls = shop_urls(40)
    before = contents(collect(urls, Shop(0))[0])
    block = tmp_path / "trials" / "000000008.parquet"
    block.write_bytes(block.read_bytes()[:-50])
    assert contents(collect(urls, Shop(1))[0]) == before
    assert "000000008.parquet: is no readable Parquet file" in caplog.text
    assert "its images are fetched again" in caplog.text


def test_an_image_damaged_in_the_scratch_folder_is_named(collect, tmp_path):
    urls = shop_urls(40)
    collect(urls, Shop(0))
    block = tmp_path / "trials" / "000000008.parquet"
    column = pq.ParquetFile(block).metadata.row_group(0).column(5)
    data = bytearray(block.read_bytes())
    data[column.data_page_offset : column.data_page_offset + 200] = bytes(200)
    block.write_bytes(data)
    with pytest.raises(MacrecError, match=r"(?s)000000008\.parquet.*delete the file and run again"):
        collect(urls, Shop(0))


def test_searches_are_kept_apart_by_all_that_they_depend_on(tmp_path):
    urls = {"B0": ["x", "y"], "B1": []}

    def key(urls=urls, content="", **changes):
        with Scratch(tmp_path) as scratch:
            return claimed_trials(scratch, urls, PARAMS.model_copy(update=changes), content)

    assert key() == key({"B1": [], "B0": ["x", "y"]})
    assert key() == key(concurrency=1, per_host=1, timeout_s=9.0, max_failure_rate=0.9)
    assert key() == key(shard_mb=7)
    others = [
        key({"B0": ["y", "x"], "B1": []}),
        key({"B0": ["x"], "B1": ["y"]}),
        key({"B0": ["x", "y"], "B2": []}),
        key(content="other"),
        key(max_side=32),
        key(max_pixels=9),
        key(jpeg_quality=80),
    ]
    assert len({key(), *others}) == 8


def test_a_search_is_one_runs_own_and_goes_when_all_went_well(tmp_path):
    def claimed(scratch, key="B0"):
        return claimed_trials(scratch, {key: ["x"]}, PARAMS, "")

    with pytest.raises(KeyboardInterrupt), Scratch(tmp_path) as first:
        folder = claimed(first)
        folder.mkdir()
        assert claimed(first) == folder
        with Scratch(tmp_path) as second:
            assert claimed(second, "B1") != folder
            with pytest.raises(MacrecError, match=rf"^{folder.name}: is being downloaded"):
                claimed(second)
        raise KeyboardInterrupt
    assert folder.is_dir()
    with Scratch(tmp_path) as third:
        assert claimed(third) == folder
        assert folder.is_dir()
    assert not folder.exists()


def test_a_changed_picture_in_a_local_folder_is_noticed(tmp_path):
    assert folder_content(tmp_path / "none") == ""
    (tmp_path / "a.jpg").write_bytes(b"1")
    before = folder_content(tmp_path)
    assert folder_content(tmp_path) == before
    (tmp_path / "a.jpg").write_bytes(b"22")
    assert folder_content(tmp_path) != before


# -------------------------------------------------------------------------- progress


def test_progress_tells_rate_and_time_left(collect):
    class Seen(Silent):
        started, lines = [], []

        def start(self, description, total):
            self.started.append((description, total))

        def advance(self, units=1, status=""):
            self.lines.append(status)

    collect({f"B{i:02d}": [url("good", i)] for i in range(20)}, Shop(0), progress=Seen())
    assert Seen.started == [("images", 20), ("packing images", 3)]
    assert len(Seen.lines) == 23
    assert all("/s, " in line and line.endswith(" left") for line in Seen.lines[:20])


def test_pace_is_the_mean_so_far():
    clock = iter([100.0, 102.0, 104.0, 7304.0])
    pace = Pace(5, lambda: next(clock))
    assert pace.advance() == "0.5/s, 0 min 08 s left"
    assert pace.advance() == "0.5/s, 0 min 06 s left"
    assert pace.advance() == "0.0/s, 1 h 20 min left"


# ---------------------------------------------------------------------------- shards


def test_parts_are_bounded_whatever_the_blocks(collect, monkeypatch):
    urls = {f"B{i:04d}": [url("good", i)] for i in range(900)}
    raw, counts = collect(urls, Shop(0))
    parts = image_parts(raw)
    assert counts["image_shards"] == len(parts) > 2
    sizes = []
    for path in parts:
        images = read_artifact(path, RAW_IMAGES).column("image").to_pylist()
        sizes.append([len(image) for image in images])
    assert all(sum(part) <= 1 << 20 for part in sizes)
    for part, following in itertools.pairwise(sizes):
        assert sum(part) + following[0] > 1 << 20
    assert pictured_items(raw) == sorted(urls)


def test_no_image_at_all_is_one_empty_part(collect):
    raw, counts = collect({"B0": []}, Shop(0), max_failure_rate=1.0)
    assert counts["image_shards"] == 1
    assert pictured_items(raw) == []
    raw, counts = collect({}, Shop(0), trials="nothing")
    assert counts["images_wanted"] == 0 and pictured_items(raw) == []
    assert failures(raw) == []


def test_items_images_come_in_the_order_of_ids_from_all_parts(collect, tmp_path, monkeypatch):
    monkeypatch.setattr("macrec_core.catalog.image_shards._CHUNK", 50)
    urls = {f"B{i:04d}": [url("good", i)] for i in range(700)}
    raw, _ = collect(urls, Shop(0))
    numbers = [(i * 37) % 700 for i in range(333)]
    images = ItemImages(image_parts(raw), [f"B{number:04d}" for number in numbers])
    images.write(tmp_path / "out" / "images.parquet", {"dataset": "toy"})
    rows = read_artifact(tmp_path / "out" / "images.parquet", IMAGES).to_pylist()
    assert [row["item_id"] for row in rows] == list(range(333))
    assert [row["url"] for row in rows] == [url("good", number) for number in numbers]
    assert all(r["image"] == noise(n, 48) for r, n in zip(rows, numbers, strict=True))
    assert all(row["width"] == row["height"] == 48 for row in rows)
    assert pq.ParquetFile(tmp_path / "out" / "images.parquet").num_row_groups == 7
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["images.parquet"]


def test_a_lost_part_and_parts_out_of_order_are_named(collect):
    urls = {f"B{i:04d}": [url("good", i)] for i in range(700)}
    raw, _ = collect(urls, Shop(0))
    first, second = image_parts(raw)[:2]
    kept = second.read_bytes()
    second.unlink()
    with pytest.raises(MacrecError, match=r"part-00001\.parquet: does not exist"):
        pictured_items(raw)
    shutil.copyfile(first, second)
    with pytest.raises(MacrecError, match=r"images: rows are not in the order of key"):
        pictured_items(raw)
    second.write_bytes(kept)
    assert len(pictured_items(raw)) == 700


# ------------------------------------------------------------------------- disk full


@pytest.fixture
def small_disk(disk_of):
    """A folder that holds 2 MiB."""
    return disk_of("2m")


def test_a_full_scratch_disk_is_named_and_loses_nothing(collect, small_disk, tmp_path):
    urls = {f"B{i:04d}": [url("good", i)] for i in range(900)}
    shop = Shop(0)
    with pytest.raises(
        MacrecError, match=r"disk/trials/\d{9}\.parquet: cannot be written \(.*MACREC_SCRATCH"
    ):
        collect(urls, shop, trials="disk/trials")
    kept = sorted((small_disk / "trials").iterdir())
    assert len(kept) > 50 and all(path.suffix == ".parquet" for path in kept)
    shutil.copytree(small_disk / "trials", tmp_path / "roomy")
    again = Shop(1)
    raw, _ = collect(urls, again, trials="roomy")
    assert again.asked.total() == 900 - 8 * len(kept)
    assert contents(raw) == contents(collect(urls, Shop(2), trials="fresh")[0])


def test_a_full_disk_while_packing_names_the_part_and_loses_nothing(collect, small_disk, tmp_path):
    urls = {f"B{i:04d}": [url("good", i)] for i in range(900)}
    expected = contents(collect(urls, Shop(0))[0])
    full = small_disk / "raw"
    full.mkdir()
    with pytest.raises(MacrecError, match=r"images/part-\d{5}\.parquet: cannot be written"):
        collect_images(urls, Shop(0).load, PARAMS, tmp_path / "trials", full, Silent())
    shop = Shop(0)
    assert contents(collect(urls, shop)[0]) == expected
    assert shop.asked.total() == 0


def test_a_full_disk_while_filtering_names_the_artifact(collect, small_disk):
    urls = {f"B{i:04d}": [url("good", i)] for i in range(900)}
    raw, _ = collect(urls, Shop(0))
    images = ItemImages(image_parts(raw), sorted(urls))
    with pytest.raises(MacrecError, match=r"disk/images\.parquet: cannot be written"):
        images.write(small_disk / "images.parquet")
    assert list(small_disk.iterdir()) == []
    dataclasses.replace(images, keys=images.keys[:10]).write(small_disk / "images.parquet")
