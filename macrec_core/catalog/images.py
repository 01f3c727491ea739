"""Product images: fetched, checked, reduced, and packed into one table."""

from __future__ import annotations

import io
import logging
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image

from macrec_core.errors import MacrecError
from macrec_core.params.data import ImageParams
from macrec_core.progress import Progress
from macrec_core.schemas import IMAGE_FAILURES, RAW_IMAGES

log = logging.getLogger(__name__)

# What shops publish. Pillow knows more, among them formats that start other programs.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")


class ImageError(Exception):
    """An image that cannot be had; the message is its cause, one word for counting."""


@dataclass(frozen=True)
class DecodedImage:
    """A checked image.

    Attributes:
        width: pixels.
        height: pixels.
        jpeg: an RGB JPEG.
    """

    width: int
    height: int
    jpeg: bytes


@dataclass(frozen=True)
class ImageSet:
    """The images of a catalogue, and what went wrong.

    Attributes:
        images: one row an item that has a usable image (RAW_IMAGES).
        failures: one row a URL that failed, and one an item without any URL (IMAGE_FAILURES).
        causes: number of failures by cause.
        wanted: items for which an image was looked for.
        missing: items left without an image.
    """

    images: pa.Table
    failures: pa.Table
    causes: dict[str, int]
    wanted: int
    missing: int


def decode_image(data: bytes, params: ImageParams) -> DecodedImage:
    """Check an image and turn it into an RGB JPEG of at most `max_side` pixels a side.

    An RGB JPEG within the limit keeps its bytes. Transparent parts become white, as on a
    product page; of an animation the first picture is taken.

    Raises:
        ImageError: `too_many_pixels` (refused before decoding) or `undecodable`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > params.max_pixels:
                raise ImageError("too_many_pixels")
            image.load()
            fits = max(image.size) <= params.max_side
            if image.format == "JPEG" and image.mode == "RGB" and fits:
                return DecodedImage(image.width, image.height, data)
            picture = _rgb(image)
            picture.thumbnail((params.max_side, params.max_side), Image.Resampling.LANCZOS)
            packed = io.BytesIO()
            picture.save(packed, "JPEG", quality=params.jpeg_quality)
            return DecodedImage(picture.width, picture.height, packed.getvalue())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_many_pixels") from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        TypeError,
        EOFError,
        IndexError,
        struct.error,
    ) as error:
        # Pillow's decoders raise any of these on broken files.
        raise ImageError("undecodable") from error


def collect_images(
    urls: Mapping[str, Sequence[str]],
    load: Callable[[str], bytes],
    params: ImageParams,
    progress: Progress,
) -> ImageSet:
    """Find one usable image for each item: its first URL that gives a decodable one.

    Args:
        urls: item key to URLs, best first.
        load: bytes behind a URL; raises `ImageError`. Called from `params.concurrency` threads.
        params: limits.
        progress: told of each item.

    Raises:
        MacrecError: more than `params.max_failure_rate` of the items have no image.
    """
    keys = sorted(urls)
    progress.start("images", len(keys))
    rows: list[tuple[str, str, DecodedImage]] = []
    failures: list[tuple[str, str, str]] = []

    def search(key: str) -> tuple[tuple[str, DecodedImage] | None, list[tuple[str, str]]]:
        return _first_usable(urls[key], load, params)

    with ThreadPoolExecutor(params.concurrency) as pool:
        try:
            for key, (found, failed) in zip(keys, pool.map(search, keys), strict=True):
                failures += [(key, url, cause) for url, cause in failed]
                if found is not None:
                    rows.append((key, *found))
                progress.advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    missing = len(keys) - len(rows)
    causes = dict(sorted(Counter(cause for _, _, cause in failures).items()))
    log.info("images: %d of %d items have one; failures by cause: %s", len(rows), len(keys), causes)
    _check_rate(missing, len(keys), causes, params)
    return ImageSet(_images(rows), _failures(failures), causes, len(keys), missing)


def _first_usable(
    urls: Sequence[str], load: Callable[[str], bytes], params: ImageParams
) -> tuple[tuple[str, DecodedImage] | None, list[tuple[str, str]]]:
    if not urls:
        return None, [("", "no_url")]
    failed: list[tuple[str, str]] = []
    for url in urls:
        try:
            return (_storable(url), decode_image(load(url), params)), failed
        except ImageError as error:
            failed.append((_storable(url), str(error)))
    return None, failed


def _check_rate(missing: int, wanted: int, causes: dict[str, int], params: ImageParams) -> None:
    if missing > params.max_failure_rate * wanted:
        raise MacrecError(
            f"images: {missing} of {wanted} items have no usable image (failures by cause: "
            f"{causes}), more than images.max_failure_rate={params.max_failure_rate}; "
            "check the source, or raise the rate"
        )


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16-bit grey; convert() would clip
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return image.convert("RGB")


def _storable(url: str) -> str:
    """The URL without lone surrogates, which no UTF-8 file can hold."""
    return url.encode("utf-8", "replace").decode("utf-8")


def _images(rows: list[tuple[str, str, DecodedImage]]) -> pa.Table:
    return pa.table(
        {
            "item_key": pa.array([key for key, _, _ in rows], pa.string()),
            "url": pa.array([url for _, url, _ in rows], pa.string()),
            "width": pa.array([image.width for _, _, image in rows], pa.int32()),
            "height": pa.array([image.height for _, _, image in rows], pa.int32()),
            "image": pa.array([image.jpeg for _, _, image in rows], pa.binary()),
        }
    ).select(RAW_IMAGES.schema.names)


def _failures(rows: list[tuple[str, str, str]]) -> pa.Table:
    return pa.table(
        {
            name: pa.array([row[place] for row in rows], pa.string())
            for place, name in enumerate(IMAGE_FAILURES.schema.names)
        }
    )
