"""Gathers the images of a catalogue into a raw folder: search, check, pack."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from macrec_core.catalog.image_search import Load, find_images
from macrec_core.catalog.image_shards import SHARDS, write_failures, write_shards
from macrec_core.catalog.image_trials import TrialBlocks
from macrec_core.params.data import ImageParams
from macrec_core.progress import Progress

log = logging.getLogger(__name__)


def collect_images(
    urls: Mapping[str, Sequence[str]],
    load: Load,
    params: ImageParams,
    trials: Path,
    raw: Path,
    progress: Progress,
) -> dict[str, object]:
    """Write `images/` and `image_failures.parquet` of a raw folder.

    A run that ends early, however it does, is continued by the next one with the same `trials`;
    the files are the same as without the interruption.

    Args:
        urls: item key to URLs, best first.
        load: bytes behind a URL; raises `ImageError`. Called from several threads.
        params: limits.
        trials: folder of what was found; see `claimed_trials`. It stays: remove it once `raw` is
            in its place.
        raw: existing folder.
        progress: told of items and packing.

    Returns:
        Counts for the manifest.

    Raises:
        MacrecError: too many items have no image, or the disk is full.
    """
    blocks = TrialBlocks(trials, sorted(urls))
    tally = find_images(urls, load, params, blocks, progress)
    causes = dict(sorted(tally.causes.items()))
    log.info(
        "images: %d of %d items have one; failures by cause: %s",
        tally.wanted - tally.missing, tally.wanted, causes,
    )  # fmt: skip
    write_failures(blocks, raw)
    return {
        "images_wanted": tally.wanted,
        "images_missing": tally.missing,
        "image_failures": causes,
        SHARDS: write_shards(blocks, raw, params.shard_mb, progress),
    }
