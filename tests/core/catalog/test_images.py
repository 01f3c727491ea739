from __future__ import annotations

import io
import resource
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from macrec_core.catalog import images
from macrec_core.catalog.images import ImageError, decode_image
from macrec_core.params.data import ImageParams


def packed(image, kind="PNG", **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def jpeg(colour="red", size=(8, 8)):
    return packed(Image.new("RGB", size, colour), "JPEG")


def claiming(side):
    """A JPEG of 8 by 8 pixels whose header says `side` by `side`."""
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = side.to_bytes(2, "big") * 2
    return bytes(data)


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
        (claiming(60_000), "too_many_pixels"),
    ],
    ids=[
        "empty",
        "html",
        "truncated",
        "other format",
        "over the limit",
        "bomb",
        "60,000 x 60,000",
    ],
)
def test_unusable_image_gives_its_cause(data, cause, image_params):
    with pytest.raises(ImageError, match=f"^{cause}$"):
        decode_image(data, image_params)


def test_a_bomb_is_refused_before_it_takes_memory():
    """Decoded, 8,000 by 8,000 pixels would take 192 MB."""
    limits = ImageParams(
        max_side=64, max_pixels=40_000_000, jpeg_quality=90, concurrency=1, per_host=1,
        timeout_s=1.0, max_failure_rate=0.0, shard_mb=1,
    )  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=r"^too_many_pixels$"):
        decode_image(claiming(8_000), limits)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_jpeg_that_is_mostly_something_else_is_packed_anew(image_params):
    data = jpeg()
    padding = b"".join(b"\xff\xe5\xff\xff" + bytes(0xFFFD) for _ in range(3))
    decoded = decode_image(data[:2] + padding + data[2:], image_params)
    assert len(decoded.jpeg) < 2000
    assert pixel(decoded) == pixel(decode_image(data, image_params))


def test_a_large_jpeg_is_decoded_reduced_and_looks_the_same(image_params):
    limits = image_params.model_copy(update={"max_pixels": 1_000_000})
    across = np.linspace(0, 255, 600, dtype=np.uint8)
    picture = Image.fromarray(np.broadcast_to(across, (400, 600)).copy()).convert("RGB")
    whole = decode_image(packed(picture), limits)  # PNG: decoded at its full size
    reduced = decode_image(packed(picture, "JPEG", quality=95), limits)
    assert (reduced.width, reduced.height) == (whole.width, whole.height) == (64, 43)
    views = [
        np.asarray(Image.open(io.BytesIO(found.jpeg))).astype(int) for found in (whole, reduced)
    ]
    assert np.abs(views[0] - views[1]).max() <= 6


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"]),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=8),
    st.integers(0, 5000),
)
def test_damaged_image_never_gives_another_error(kind, changes, cut):
    params = ImageParams(
        max_side=64, max_pixels=10_000, jpeg_quality=90, concurrency=1, per_host=1,
        timeout_s=1.0, max_failure_rate=0.0, shard_mb=1,
    )  # fmt: skip
    data = bytearray(packed(Image.effect_noise((40, 30), 50).convert("RGB"), kind))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        decoded = decode_image(bytes(data[: max(cut, 1)]), params)
    except ImageError:
        return
    pixel(decoded)


@pytest.mark.parametrize(("side", "at_once"), [(40, 1), (20, 3)])
def test_large_images_are_decoded_one_at_a_time(image_params, monkeypatch, side, at_once):
    monkeypatch.setattr(images, "_LARGE", 30 * 30)
    plain, inside, most = images._rgb, [], []

    def slow(image):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.2)
        inside.pop()
        return plain(image)

    monkeypatch.setattr(images, "_rgb", slow)
    packed = io.BytesIO()
    Image.new("RGBA", (side, side)).save(packed, "PNG")
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: decode_image(packed.getvalue(), image_params), range(3)))
    assert [one.width for one in found] == [side] * 3
    assert max(most) == at_once
