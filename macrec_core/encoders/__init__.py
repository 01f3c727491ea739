"""Item texts, images and purchases to embeddings, by the encoder that params name.

One encoder never stands in for another: what a named encoder needs and does not find is an
error. Libraries are imported by the encoder that needs them (torch models take seconds).
"""

from __future__ import annotations

from pathlib import Path

from macrec_core.artifacts import read_artifact
from macrec_core.encoders.encoded import Encoded
from macrec_core.params.data import (
    CollabEncoder,
    CooccurrenceSvdEncoder,
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
from macrec_core.schemas import ITEMS

__all__ = ["Encoded", "encode_images", "encode_interactions", "encode_texts"]


def encode_texts(
    catalogue: Path,
    section: TextEncoder,
    raw: Path | None,
    runtime: Runtime,
    scratch: Path,
    progress: Progress | None = None,
) -> Encoded:
    """Embed every item's text.

    Args:
        catalogue: folder of `items.parquet`, N rows.
        section: `embed.text`, which names the encoder.
        raw: folder of the raw files; only the encoder `published` reads from it.
        runtime: device and precision of the model.
        scratch: folder in which a model's vectors are kept until they are written.
        progress: receives the number of items done.

    Returns:
        Vectors [N, width] in the order of the items.

    Raises:
        MacrecError: a field without texts, weights that are missing or not the expected ones,
            or a parameter that the encoder cannot meet.
    """
    progress = progress or Silent()
    items = catalogue / "items.parquet"
    match section:
        case MiniLMEncoder() | HuggingFaceTextEncoder():
            from macrec_core.encoders import text

            return text.encode(items, section, runtime, scratch, progress)
        case TfidfEncoder():
            from macrec_core.encoders import classic

            return classic.tfidf_svd(items, section)
        case PublishedEmbedding():
            from macrec_core.encoders import published

            return published.read(raw, "text", _count(items))


def encode_images(
    catalogue: Path,
    section: ImageEncoder,
    raw: Path | None,
    runtime: Runtime,
    scratch: Path,
    progress: Progress | None = None,
) -> Encoded:
    """Embed every item's image.

    Args:
        catalogue: folder of `items.parquet`, N rows, and of `images.parquet`, a JPEG an item,
            which the encoder `published` does not look at.
        section: `embed.image`, which names the encoder.
        raw: folder of the raw files; only the encoder `published` reads from it.
        runtime: device and precision of the model.
        scratch: folder in which a model's vectors are kept until they are written.
        progress: receives the number of images done.

    Returns:
        Vectors [N, width] in the order of the items.

    Raises:
        MacrecError: an item without a readable image, weights that are missing or not the
            expected ones, or a parameter that the encoder cannot meet.
    """
    progress = progress or Silent()
    images, num_items = catalogue / "images.parquet", _count(catalogue / "items.parquet")
    match section:
        case EfficientNetEncoder() | TimmEncoder():
            from macrec_core.encoders import image

            return image.encode(images, num_items, section, runtime, scratch, progress)
        case HsvHogEncoder():
            from macrec_core.encoders import classic

            return classic.hsv_hog(images, num_items, section, progress)
        case PublishedEmbedding():
            from macrec_core.encoders import published

            return published.read(raw, "image", num_items)


def encode_interactions(catalogue: Path, section: CollabEncoder, raw: Path | None) -> Encoded:
    """Embed every item by the training interactions.

    Args:
        catalogue: folder of `items.parquet`, N rows, and of `interactions.parquet`, which the
            encoder `published` does not look at.
        section: `embed.collab`, which names the encoder.
        raw: folder of the raw files; only the encoder `published` reads from it.

    Returns:
        Vectors [N, width] in the order of the items.

    Raises:
        MacrecError: a parameter that the encoder cannot meet, or nothing bought together.
    """
    num_items = _count(catalogue / "items.parquet")
    match section:
        case CooccurrenceSvdEncoder():
            from macrec_core.encoders import collab

            return collab.cooccurrence_svd(catalogue / "interactions.parquet", num_items, section)
        case PublishedEmbedding():
            from macrec_core.encoders import published

            return published.read(raw, "collab", num_items)


def _count(items: Path) -> int:
    return int(read_artifact(items, ITEMS, ["item_id"]).num_rows)
