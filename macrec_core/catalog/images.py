"""Product images: checked and reduced, one at a time."""

from __future__ import annotations

import io
import threading
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from PIL import Image

from macrec_core.params.data import ImageParams

# What shops publish. Pillow knows more, among them formats that start other programs.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")

# Of larger ones only one is decoded at a time: several copies of it are in memory meanwhile, some
# hundred MB at 40 million pixels.
_LARGE = 1 << 22  # pixels
_large = threading.Lock()

# A JPEG of more bytes than its pixels and these holds something else: thumbnails, profiles, junk.
_HEADERS = 1 << 16


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


def decode_image(data: bytes, params: ImageParams) -> DecodedImage:
    """Check an image and turn it into an RGB JPEG of at most `max_side` pixels a side.

    An RGB JPEG within the limit keeps its bytes, unless they are more than its pixels need.
    Transparent parts become white, as on a product page; of an animation the first picture is
    taken. A large JPEG is decoded at a half, quarter or eighth of its size where that leaves at
    least twice the wanted one: the rest would cost time and memory and hardly change a pixel.

    Raises:
        ImageError: `too_many_pixels` (refused before decoding) or `undecodable`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > params.max_pixels:
                raise ImageError("too_many_pixels")
            fits = max(image.size) <= params.max_side
            if not fits:
                image.draft(None, (2 * params.max_side, 2 * params.max_side))
            with _large if image.width * image.height > _LARGE else nullcontext():
                image.load()
                lean = len(data) <= 3 * image.width * image.height + _HEADERS
                if image.format == "JPEG" and image.mode == "RGB" and fits and lean:
                    return DecodedImage(image.width, image.height, data)
                picture = _rgb(image)
                picture.thumbnail((params.max_side, params.max_side), Image.Resampling.LANCZOS)
            packed = io.BytesIO()
            picture.save(packed, "JPEG", quality=params.jpeg_quality)
            return DecodedImage(picture.width, picture.height, packed.getvalue())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_many_pixels") from error
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        # Pillow's decoders raise almost anything on broken files, and one image must not end a
        # search among thousands; the cause is counted and listed.
        raise ImageError("undecodable") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16-bit grey; convert() would clip
        grey = np.clip(np.asarray(image), 0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return image.convert("RGB")
