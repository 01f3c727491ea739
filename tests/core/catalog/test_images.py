from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from macrec_core.artifacts import read_artifact, write_artifact
from macrec_core.catalog.images import ImageError, collect_images, decode_image
from macrec_core.errors import MacrecError
from macrec_core.params.data import ImageParams
from macrec_core.progress import Silent
from macrec_core.schemas import IMAGE_FAILURES, RAW_IMAGES


def packed(image, kind="PNG", **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def jpeg(colour="red", size=(8, 8)):
    return packed(Image.new("RGB", size, colour), "JPEG")


def pixel(decoded):
    with Image.open(io.BytesIO(decoded.jpeg)) as image:
        assert image.mode == "RGB" and image.format == "JPEG"
        assert image.size == (decoded.width, decoded.height)
        return image.getpixel((0, 0))


def test_small_rgb_jpeg_keeps_its_bytes(image_params):
    data = jpeg(size=(64, 10))
    decoded = decode_image(data, image_params)
    assert decoded.jpeg == data
    assert (decoded.width, decoded.height) == (64, 10)


def test_large_image_is_reduced_to_max_side(image_params):
    decoded = decode_image(jpeg(size=(100, 50)), image_params)
    assert (decoded.width, decoded.height) == (64, 32)
    assert decode_image(jpeg(size=(100, 50)), image_params) == decoded


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (packed(Image.new("RGBA", (4, 4), (255, 0, 0, 0))), (255, 255, 255)),
        (packed(Image.new("RGBA", (4, 4), (255, 0, 0, 255))), (254, 0, 0)),
        (packed(Image.new("P", (4, 4), 0), "GIF", transparency=0), (255, 255, 255)),
        (packed(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "JPEG"), (255, 255, 255)),
        (packed(Image.fromarray(np.full((4, 4), 0x8000, np.uint16))), (128, 128, 128)),
        (packed(Image.new("L", (4, 4), 77)), (77, 77, 77)),
        (packed(Image.new("1", (1, 1), 1)), (255, 255, 255)),
        (
            packed(
                Image.new("RGB", (4, 4), "black"),
                "GIF",
                save_all=True,
                append_images=[Image.new("RGB", (4, 4), "white")],
            ),
            (0, 0, 0),
        ),
    ],
    ids=["transparent", "opaque", "palette", "cmyk", "16-bit", "grey", "1x1", "animated"],
)
def test_every_kind_of_image_becomes_rgb(data, expected, image_params):
    found = pixel(decode_image(data, image_params))
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 1


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "undecodable"),
        (b"<html>not found</html>", "undecodable"),
        (jpeg(size=(60, 60))[:-200], "undecodable"),
        (packed(Image.new("RGB", (4, 4)), "PPM"), "undecodable"),
        (packed(Image.new("L", (101, 100))), "too_many_pixels"),
        (packed(Image.new("1", (20_000, 20_000))), "too_many_pixels"),
    ],
    ids=["empty", "html", "truncated", "other format", "over the limit", "bomb"],
)
def test_unusable_image_gives_its_cause(data, cause, image_params):
    with pytest.raises(ImageError, match=f"^{cause}$"):
        decode_image(data, image_params)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"]),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=8),
    st.integers(0, 5000),
)
def test_damaged_image_never_gives_another_error(kind, changes, cut):
    params = ImageParams(
        max_side=64, max_pixels=10_000, jpeg_quality=90, concurrency=1, timeout_s=1.0,
        max_failure_rate=0.0,
    )  # fmt: skip
    data = bytearray(packed(Image.effect_noise((40, 30), 50).convert("RGB"), kind))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        decoded = decode_image(bytes(data[: max(cut, 1)]), params)
    except ImageError:
        return
    pixel(decoded)


def test_first_usable_url_wins_and_failures_are_listed(image_params, tmp_path):
    files = {"bad": b"no image", "good": jpeg("blue"), "better": jpeg("green")}

    def load(url):
        if url not in files:
            raise ImageError("no_file")
        return files[url]

    urls = {"B2": ["bad", "good", "better"], "B1": ["good"], "B3": [], "B0": ["gone", "bad"]}
    found = collect_images(urls, load, image_params, Silent())
    assert found.images.select(["item_key", "url"]).to_pylist() == [
        {"item_key": "B1", "url": "good"},
        {"item_key": "B2", "url": "good"},
    ]
    assert found.failures.to_pylist() == [
        {"item_key": "B0", "url": "gone", "cause": "no_file"},
        {"item_key": "B0", "url": "bad", "cause": "undecodable"},
        {"item_key": "B2", "url": "bad", "cause": "undecodable"},
        {"item_key": "B3", "url": "", "cause": "no_url"},
    ]
    assert found.causes == {"no_file": 1, "no_url": 1, "undecodable": 2}
    assert (found.wanted, found.missing) == (4, 2)
    write_artifact(tmp_path / "i.parquet", found.images, RAW_IMAGES)
    write_artifact(tmp_path / "f.parquet", found.failures, IMAGE_FAILURES)
    assert read_artifact(tmp_path / "i.parquet", RAW_IMAGES).num_rows == 2


def test_too_many_missing_images_stop_with_the_counts(image_params):
    with pytest.raises(MacrecError, match=r"2 of 3 items.*'no_url': 2.*max_failure_rate=0.5"):
        collect_images({"a": [], "b": [], "c": ["x"]}, lambda url: jpeg(), image_params, Silent())


def test_an_unexpected_error_is_not_hidden(image_params):
    def load(url):
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        collect_images({"a": ["x"]}, load, image_params, Silent())
