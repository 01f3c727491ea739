"""Item texts and images to embeddings, by the encoder that params name.

One encoder never stands in for another: what a named encoder needs and does not find is an
error. Libraries are imported by the encoder that needs them (torch models take seconds).
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from macrec_core.encoders.encoded import Encoded
from macrec_core.params import (
    EfficientNetEncoder,
    HsvHogEncoder,
    HuggingFaceTextEncoder,
    ImageEncoder,
    MiniLMEncoder,
    PublishedEmbedding,
    TextEncoder,
    TfidfEncoder,
    TimmEncoder,
)
from macrec_core.progress import Progress, Silent
from macrec_core.runtime import Runtime

__all__ = ["Encoded", "encode_images", "encode_texts"]


def encode_texts(
    items: pa.Table,
    section: TextEncoder,
    raw: Path | None,
    runtime: Runtime,
    progress: Progress | None = None,
) -> Encoded:
    """Embed every item's text.

    Args:
        items: the catalogue (`schemas.ITEMS`), N rows.
        section: `embed.text`, which names the encoder.
        raw: folder of the raw files; only the encoder `published` reads from it.
        runtime: device of the model.
        progress: receives the number of texts done.

    Returns:
        Vectors [N, width] in the order of the items.

    Raises:
        MacrecError: a field without texts, weights that are missing or not the expected ones,
            or a parameter that the encoder cannot meet.
    """
    progress = progress or Silent()
    match section:
        case MiniLMEncoder() | HuggingFaceTextEncoder():
            from macrec_core.encoders import text

            return text.encode(items, section, runtime.device, progress)
        case TfidfEncoder():
            from macrec_core.encoders import classic

            return classic.tfidf_svd(items, section)
        case PublishedEmbedding():
            from macrec_core.encoders import published

            return published.read(raw, "text", items.num_rows)


def encode_images(
    images: pa.Table,
    num_items: int,
    section: ImageEncoder,
    raw: Path | None,
    runtime: Runtime,
    progress: Progress | None = None,
) -> Encoded:
    """Embed every item's image.

    Args:
        images: one JPEG an item (`schemas.IMAGES`); not looked at by the encoder `published`.
        num_items: N, the number of items in the catalogue.
        section: `embed.image`, which names the encoder.
        raw: folder of the raw files; only the encoder `published` reads from it.
        runtime: device of the model.
        progress: receives the number of images done.

    Returns:
        Vectors [N, width] in the order of the items.

    Raises:
        MacrecError: an item without a readable image, weights that are missing or not the
            expected ones, or a parameter that the encoder cannot meet.
    """
    progress = progress or Silent()
    match section:
        case EfficientNetEncoder() | TimmEncoder():
            from macrec_core.encoders import image

            return image.encode(images, num_items, section, runtime.device, progress)
        case HsvHogEncoder():
            from macrec_core.encoders import classic

            return classic.hsv_hog(images, num_items, section, progress)
        case PublishedEmbedding():
            from macrec_core.encoders import published

            return published.read(raw, "image", num_items)
