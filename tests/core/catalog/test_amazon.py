from __future__ import annotations

import hashlib
import json

import pytest
from raw_folders import failures, keys

from macrec_core.artifacts import read_artifact
from macrec_core.catalog.layouts import find_release
from macrec_core.errors import MacrecError
from macrec_core.schemas import RAW_IMAGES

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


def test_a_folder_without_images_is_named_before_anything_is_looked_for(gather, release):
    release.write()
    (release.folder / "images").rename(release.folder / "pictures")
    with pytest.raises(MacrecError, match=r"release/images: no such folder.*take image from"):
        gather("release")


def test_a_damaged_gzip_file_is_refused(gather, release):
    release.write()
    path = release.folder / "metaFiles2" / "meta_Toys.json.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(MacrecError, match=r"release/metaFiles2/meta_Toys\.json\.gz: is no whole"):
        gather("release")


def test_every_category_of_a_release_is_known_by_its_name():
    names = {
        "Instruments": "Musical_Instruments",
        "Arts": "Arts_Crafts_and_Sewing",
        "Games": "Video_Games",
        "games": "Video_Games",
        "Toys_and_Games": "Toys_and_Games",
        "amazon_fashion": "AMAZON_FASHION",
    }
    for category, name in names.items():
        found = find_release("amazon2018", category, own_allowed=False)
        assert found.ratings == f"categoryFilesSmall/{name}.csv"
        assert found.reviews == f"categoryFilesSmall/{name}_5.json.gz"
        assert found.metadata == f"metaFiles2/meta_{name}.json.gz"
    found = find_release("amazon2023", "amazon_fashion", own_allowed=False)
    assert found.ratings == "benchmark/0core/rating_only/Amazon_Fashion.csv.gz"
    assert found.reviews == "benchmark/5core/rating_only/Amazon_Fashion.csv.gz"
    assert found.metadata == "raw/meta_categories/meta_Amazon_Fashion.jsonl.gz"


def test_the_releases_have_29_and_34_categories():
    for layout, count in (("amazon2018", 29), ("amazon2023", 34)):
        with pytest.raises(MacrecError) as caught:
            find_release(layout, "Weapons", own_allowed=False)
        assert str(caught.value).startswith(f"category='Weapons': layout {layout} has none of")
        assert "Musical_Instruments" in str(caught.value)
        assert str(caught.value).split("it has ")[1].split(";")[0].count(",") == count - 1


def test_a_category_of_ones_own_may_lie_in_a_folder(gather, release):
    release.write()
    assert find_release("amazon2018", "Toys", own_allowed=True).category == "Toys"
    gather("release")
    with pytest.raises(MacrecError, match="layout amazon2018 has none of this name"):
        gather("release", "http://127.0.0.1:1", target="other")


@pytest.mark.parametrize("category", ["../secret", "a/b", "", "Spi\u00e9le", "{}"])
def test_a_category_cannot_leave_the_folder(category):
    with pytest.raises(MacrecError, match="only letters, digits and underscores"):
        find_release("amazon2018", category, own_allowed=True)


def test_a_known_hash_is_compared(gather, release):
    release.write()
    path = release.folder / "categoryFilesSmall" / "Toys.csv"
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    gather("release", sha256={"ratings": right})
    with pytest.raises(MacrecError, match=rf"Toys\.csv: has SHA-256 {right}, the params' sha256"):
        gather("release", sha256={"ratings": "0" * 64}, target="other")


def test_the_second_folder_gives_what_the_first_lacks(gather, release, tmp_path):
    release.write()
    (tmp_path / "empty").mkdir()
    raw, contents = gather("empty", "release")
    assert keys(raw) == ["B0", "B1", "B2", "B3", "B4", "B5"]
    assert contents.files["ratings.csv"]["origin"] == "release/categoryFilesSmall/Toys.csv"
    assert contents.files["ratings.csv"]["failed"] == {
        "empty/categoryFilesSmall/Toys.csv": "missing"
    }
    assert json.loads((raw / "manifest.json").read_text())["layout"] == "amazon2018"
