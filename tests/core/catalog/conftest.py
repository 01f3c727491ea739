"""A small release in the Amazon-2018 layout, and where the real data lies."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import pytest
from misbehaving_server import LOOPBACK
from PIL import Image

from macrec_core.artifacts import check_replaceable
from macrec_core.catalog.manifest import raw_files
from macrec_core.catalog.raw import Places, write_raw
from macrec_core.catalog.scratch import Scratch
from macrec_core.params.data import AmazonSource, ImageParams


def jpeg(colour="red", size=(8, 8)) -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", size, colour).save(packed, "JPEG")
    return packed.getvalue()


class Release:
    """Six items and six users who bought everything; a test changes it, then writes it."""

    def __init__(
        self, folder: Path, host: str = "https://images.example.com", category: str = "Toys"
    ):
        self.folder = folder
        self.category = category
        items = [f"B{i}" for i in range(6)]
        self.ratings = [
            f"{item},A{user},5.0,{1000 + 10 * user + place}"
            for user in range(6)
            for place, item in enumerate(items)
        ]
        self.metadata = [
            json.dumps(
                {
                    "asin": item,
                    "title": f"Item {item}",
                    "description": ["Good", "strings"],
                    "brand": "Acme",
                    "category": ["Music", "Guitars"],
                    "imageURLHighRes": [f"{host}/images/{item}.jpg"],
                }
            )
            for item in items
        ]
        self.reviews = [json.dumps({"asin": item, "reviewText": "fine"}) for item in items]
        self.images = {f"{item}.jpg": jpeg((10 * i, 0, 0)) for i, item in enumerate(items)}

    def write(self) -> Path:
        for name in ("categoryFilesSmall", "metaFiles2", "images"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        small = self.folder / "categoryFilesSmall"
        (small / f"{self.category}.csv").write_text("".join(f"{line}\n" for line in self.ratings))
        for path, lines in (
            (small / f"{self.category}_5.json.gz", self.reviews),
            (self.folder / "metaFiles2" / f"meta_{self.category}.json.gz", self.metadata),
        ):
            text = "".join(f"{line}\n" for line in lines)
            path.write_bytes(gzip.compress(text.encode(), mtime=0))
        for name, data in self.images.items():
            (self.folder / "images" / name).write_bytes(data)
        return self.folder


@pytest.fixture
def release(tmp_path):
    return Release(tmp_path / "release")


@pytest.fixture
def image_params():
    return ImageParams(
        max_side=64,
        max_pixels=10_000,
        jpeg_quality=90,
        concurrency=3,
        per_host=2,
        timeout_s=5.0,
        max_failure_rate=0.5,
        shard_mb=1,
    )


@pytest.fixture
def gather(tmp_path, image_params, release):
    """Gather the toy category into a fresh folder and return it with what went in."""

    def run(
        *bases,
        images=image_params,
        with_images=True,
        target="raw",
        network=LOOPBACK,
        layout="amazon2018",
        sha256=None,
    ):
        raw = tmp_path / target
        raw.mkdir()
        spec = AmazonSource(
            source="amazon",
            layout=layout,
            category=release.category,
            bases=list(bases),
            sha256=sha256 or {},
        )
        with Scratch(tmp_path / "scratch") as scratch:
            places = Places(data_root=tmp_path, scratch=scratch, folder=None)
            contents = write_raw(
                raw, spec, images, places, network=network, with_images=with_images
            )
        check_replaceable(raw, *raw_files(raw))  # by a later download
        return raw, contents

    return run


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data, which is no part of the project."""
    default = Path(__file__).parents[4] / "shared"
    folder = Path(os.environ.get("MACREC_SHARED") or default) / "data"
    if not folder.is_dir():
        pytest.skip(f"real data absent: {folder} does not exist (set MACREC_SHARED)")
    return folder


@pytest.fixture(scope="session")
def jpeg_bytes():
    """A small picture."""
    return jpeg()
