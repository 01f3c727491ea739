"""The images of the catalogue, read some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from macrec_core.artifacts import read_artifact, read_chunks
from macrec_core.errors import MacrecError
from macrec_core.schemas import IMAGES


def check_images(path: Path, num_items: int) -> None:
    """Check that items 0..num_items-1 have one image each.

    Args:
        path: artifact IMAGES.
        num_items: of the catalogue.

    Raises:
        MacrecError: naming how many items have none, or more, and the first of them.
    """
    items = np.asarray(read_artifact(path, IMAGES, ["item_id"]).column("item_id"))
    missing = np.setdiff1d(np.arange(num_items), items)
    if len(missing):
        raise MacrecError(
            f"images: {len(missing)} of {num_items} items have no image (first: item "
            f"{missing[0]}); run download again, or drop such items in filter"
        )
    if len(items) != num_items:
        raise MacrecError(
            f"images: holds {len(items)} images for {num_items} items; make both from one catalogue"
        )


def image_chunks(path: Path, rows: int) -> Iterator[pa.Table]:
    """Artifact IMAGES, `rows` images at a time."""
    return read_chunks(path, IMAGES, rows, ["item_id", "url", "image"])


def pictures(images: pa.Table) -> Iterator[Image.Image]:
    """Decode the images in the table's order, as RGB.

    Raises:
        MacrecError: bytes that are no readable image, naming the item.
    """
    columns = (images.column(name) for name in ("item_id", "url", "image"))
    for item, url, data in zip(*columns, strict=True):
        yield _decode(data.as_py(), item.as_py(), url.as_py())


def _decode(data: bytes, item: int, url: str) -> Image.Image:
    try:
        with Image.open(BytesIO(data)) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MacrecError(
            f"images: the image of item {item} ({url}) cannot be decoded ({error}); "
            "run download again, or drop the item in filter"
        ) from error
