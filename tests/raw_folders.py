"""What tests read of a raw folder."""

from __future__ import annotations

from macrec_core.artifacts import read_artifact
from macrec_core.catalog.image_shards import pictured_items
from macrec_core.schemas import IMAGE_FAILURES


def keys(raw):
    """Items that have an image."""
    return pictured_items(raw)


def failures(raw):
    """Cause by item, of items whose image failed."""
    table = read_artifact(raw / "image_failures.parquet", IMAGE_FAILURES)
    return {row["item_key"]: row["cause"] for row in table.to_pylist()}


def bytes_of(raw):
    """All files but the manifest, which names their origin."""
    paths = [path for path in raw.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(raw)): path.read_bytes() for path in paths}
