"""What tests read of a raw folder."""

from __future__ import annotations

from macrec_core.artifacts import read_artifact
from macrec_core.schemas import IMAGE_FAILURES, RAW_IMAGES


def keys(raw):
    """Items that have an image."""
    return read_artifact(raw / "images.parquet", RAW_IMAGES).column("item_key").to_pylist()


def failures(raw):
    """Cause by item, of items whose image failed."""
    table = read_artifact(raw / "image_failures.parquet", IMAGE_FAILURES)
    return {row["item_key"]: row["cause"] for row in table.to_pylist()}


def bytes_of(raw):
    """All files but the manifest, which names their origin."""
    return {path.name: path.read_bytes() for path in raw.iterdir() if path.name != "manifest.json"}
