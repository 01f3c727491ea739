"""The 2023 release, read as if it were the 2018 one."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest
from raw_folders import bytes_of, keys

from macrec_core.catalog.catalogue import build_catalogue
from macrec_core.catalog.metadata import FirstRecords, image_urls
from macrec_core.params.data import FilterParams

FILTER = FilterParams(k_core=5, max_bad_lines=3)
HEADER = "user_id,parent_asin,rating,timestamp"


class Release2023:
    """The same shop as a 2018 release, written in the 2023 layout; timestamps in milliseconds."""

    def __init__(self, release):
        self.folder = release.folder.with_name("release2023")
        self.ratings, self.core, self.records = [], [], []
        for line in release.ratings:
            item, user, rating, seconds = line.split(",")
            self.ratings.append(f"{user},{item},{rating},{seconds}123")
        self.core = list(self.ratings)
        for line in release.metadata:
            old = json.loads(line)
            (url,) = old["imageURLHighRes"]
            self.records.append(
                {
                    "main_category": "Toys",
                    "title": old["title"],
                    "average_rating": 4.5,
                    "features": [],
                    "description": old["description"],
                    "price": None,
                    "images": [
                        {"thumb": "x", "large": "https://a.example.com/other", "variant": "PT01",
                         "hi_res": None},
                        {"thumb": "x", "large": "https://a.example.com/large", "variant": "MAIN",
                         "hi_res": url},
                    ],
                    "store": old["brand"],
                    "categories": old["category"],
                    "details": {"Brand": "Other"},
                    "parent_asin": old["asin"],
                    "bought_together": None,
                }
            )  # fmt: skip

    def write(self, header=HEADER, metadata=None):
        lines = metadata or [json.dumps(record) for record in self.records]
        for name, rows in (
            ("benchmark/0core/rating_only/Toys.csv.gz", [header, *self.ratings]),
            ("benchmark/5core/rating_only/Toys.csv.gz", [header, *self.core]),
            ("raw/meta_categories/meta_Toys.jsonl.gz", lines),
        ):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress("".join(f"{row}\n" for row in rows).encode()))


@pytest.fixture
def release2023(release):
    release.write()
    found = Release2023(release)
    found.folder.mkdir()
    (found.folder / "images").symlink_to(release.folder / "images")
    return found


def test_both_layouts_give_the_same_catalogue(gather, release2023, tmp_path):
    release2023.write()
    older, _ = gather("release")
    newer, contents = gather("release2023", layout="amazon2023", target="newer")
    first, second = (build_catalogue(raw, ["text", "image"], FILTER) for raw in (older, newer))
    assert first.items.equals(second.items)
    for found, name in ((first, "older"), (second, "newer")):
        found.images.write(tmp_path / f"{name}.parquet")
    assert (tmp_path / "older.parquet").read_bytes() == (tmp_path / "newer.parquet").read_bytes()
    without_times = [table.interactions.drop_columns("timestamp") for table in (first, second)]
    assert without_times[0].equals(without_times[1])
    assert first.users.equals(second.users)
    assert second.interactions.column("timestamp")[0].as_py() == 1_000_123
    assert (newer / "ratings.csv").read_text().splitlines()[0] == "B0,A0,5.0,1000123"
    assert json.loads((newer / "manifest.json").read_text())["layout"] == "amazon2023"
    source = release2023.folder / "raw/meta_categories/meta_Toys.jsonl.gz"
    assert contents.files["metadata_2023.jsonl.gz"] == {
        "origin": "release2023/raw/meta_categories/meta_Toys.jsonl.gz",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "size": source.stat().st_size,
        "kept": False,
    }


def test_the_same_files_give_the_same_bytes(gather, release2023):
    release2023.write()
    raws = [gather("release2023", layout="amazon2023", target=name)[0] for name in ("one", "two")]
    assert bytes_of(raws[0]) == bytes_of(raws[1])


def test_images_only_of_items_of_the_5_core(gather, release2023):
    release2023.core = [row for row in release2023.core if ",B0," not in row] + [
        "broken",
        "",
        ",,,",
    ]
    release2023.write()
    raw, contents = gather("release2023", layout="amazon2023")
    assert keys(raw) == ["B1", "B2", "B3", "B4", "B5"]
    assert contents.counts["review_bad_lines"] == 2
    assert contents.counts["reviewed_items"] == 5


def test_the_main_picture_comes_first_and_the_largest_form(gather, release2023, release):
    release2023.records[1]["images"][1]["hi_res"] = None
    release2023.records[2]["images"] = None
    release2023.records[3]["images"] = ["x", {"hi_res": 3, "large": "https://a.example.com/3"}, {}]
    release2023.write()
    raw, _ = gather("release2023", layout="amazon2023", with_images=False)
    found = dict(FirstRecords(raw / "metadata.json.gz"))
    assert image_urls(found["B0"]) == [
        "https://images.example.com/images/B0.jpg",
        "https://a.example.com/other",
        "https://a.example.com/large",
    ]
    assert image_urls(found["B1"])[0] == "https://a.example.com/large"
    assert image_urls(found["B2"]) == []
    assert image_urls(found["B3"]) == ["https://a.example.com/3"]


def test_what_cannot_be_read_is_left_for_filter_to_count(gather, release2023):
    good = [json.dumps(record) for record in release2023.records]
    bad = ["broken", '{"title": "no key"}', "[1]", '{"parent_asin": null}', "9" * 5000]
    release2023.ratings[3:3] = ["A1,B0,5.0", "A1,B0,5.0,1,2"]
    release2023.write(metadata=[*good[:2], *bad, *good[2:]])
    raw, contents = gather("release2023", layout="amazon2023", with_images=False)
    found = FirstRecords(raw / "metadata.json.gz")
    assert [key for key, _ in found] == ["B0", "B1", "B2", "B3", "B4", "B5"]
    assert found.bad_lines.first == (3, 4, 5, 6, 7)
    assert contents.counts["metadata_bad_lines"] == 5
    lines = (raw / "ratings.csv").read_text().splitlines()
    assert lines[3:5] == ["A1,B0,5.0", "A1,B0,5.0,1,2"]


@pytest.mark.parametrize("header", [HEADER + "\r", "\ufeff" + HEADER])
def test_headers_of_other_editors_are_known(gather, release2023, header):
    release2023.write(header=header)
    raw, _ = gather("release2023", layout="amazon2023", with_images=False)
    assert (raw / "ratings.csv").read_text().startswith("B0,A0,5.0,1000123\n")


def test_without_a_header_no_rating_is_lost(gather, release2023):
    release2023.write(header=release2023.ratings[0])
    raw, _ = gather("release2023", layout="amazon2023", with_images=False)
    lines = (raw / "ratings.csv").read_text().splitlines()
    assert len(lines) == len(release2023.ratings) + 1
    assert lines[0] == lines[1]
