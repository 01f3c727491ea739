"""Raw files of a category of an Amazon release, gathered into one folder in the 2018 layout.

Written are `ratings.csv` and `metadata.json.gz`, as released in 2018 or rewritten from 2023,
`images/part-*.parquet` and `image_failures.parquet` if image is a modality, and `truth.npz`
where the source has one. The
5-core reviews are only read for the items they mention: no other item can survive a filter of
five or more interactions, so no other item's image is fetched; `filter` warns of a smaller core.
"""

from __future__ import annotations

import logging
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from macrec_core.catalog.amazon2023 import convert_metadata, convert_ratings, core_items
from macrec_core.catalog.image_collection import collect_images
from macrec_core.catalog.image_trials import claimed_trials
from macrec_core.catalog.layouts import Release
from macrec_core.catalog.manifest import RawContents, describe_file
from macrec_core.catalog.metadata import (
    BadLines,
    FirstRecords,
    image_urls,
    reviewed_items,
)
from macrec_core.catalog.scratch import Scratch
from macrec_core.catalog.source import Base, Fetched
from macrec_core.catalog.verification import Check
from macrec_core.params.data import ImageParams
from macrec_core.params.network import NetworkParams
from macrec_core.progress import Progress

log = logging.getLogger(__name__)

Role = Literal["ratings", "metadata", "reviews"]


@dataclass(frozen=True)
class Category:
    """A category of a release, and where it lies.

    Attributes:
        base: where.
        release: its names.
        limits: of its files.
        sha256: by role (`ratings`, `metadata`, `reviews`), what a file must have, where known.
    """

    base: Base
    release: Release
    limits: NetworkParams
    sha256: Mapping[Role, str]

    def fetch(self, role: Role) -> Fetched:
        """The checked file of a role."""
        relative: str = getattr(self.release, role)
        return self.base.fetch(relative, Check(self.limits, self.sha256.get(role)))


def gather_amazon(
    category: Category,
    target: Path,
    images: ImageParams | None,
    scratch: Scratch,
    progress: Progress,
) -> RawContents:
    """Fetch and check a category's files and images.

    Args:
        category: what, and from where.
        target: existing empty folder.
        images: limits on images; None to fetch neither reviews nor images.
        scratch: keeps what was found of the images between runs.
        progress: told of files and images.

    Raises:
        MacrecError: a file is missing, cut or changed, or too many images are missing.
    """
    progress.start("files", 2 if images is None else 3)
    files = _gathered_files(category, target, progress)
    records = FirstRecords(target / "metadata.json.gz")
    if images is None:
        deque(records, maxlen=0)  # for its counts
        counts = _metadata_counts(records)
        log.info("%s: %s", category.release.category, counts)
        return RawContents(files, counts)
    fetched = category.fetch("reviews")
    name = "reviews_5core.json.gz" if category.release.is_2018 else "ratings_5core.csv.gz"
    files[name] = _entry(fetched)
    progress.advance(status="reviews")
    reviewed, bad_lines = _core_items(category.release, fetched.path)
    urls = {key: image_urls(record) for key, record in records if key in reviewed}
    counts = _metadata_counts(records) | _review_counts(reviewed, urls, bad_lines)
    trials = claimed_trials(scratch, urls, images, category.base.images_key())
    counts |= collect_images(urls, category.base.load_image, images, trials, target, progress)
    log.info("%s: %s", category.release.category, counts)
    return RawContents(files, counts)


def _gathered_files(
    category: Category, target: Path, progress: Progress
) -> dict[str, dict[str, object]]:
    """Put `ratings.csv` and `metadata.json.gz` into the target, and describe what was fetched."""
    files: dict[str, dict[str, object]] = {}
    plan: tuple[tuple[Role, str, str, Callable[[Path, Path], None]], ...] = (
        ("ratings", "ratings.csv", "ratings_2023.csv.gz", convert_ratings),
        ("metadata", "metadata.json.gz", "metadata_2023.jsonl.gz", convert_metadata),
    )
    for role, kept, name_2023, convert in plan:
        fetched = category.fetch(role)
        if category.release.is_2018:
            shutil.copyfile(fetched.path, target / kept)
            files[kept] = _entry(fetched, target / kept)
        else:
            convert(fetched.path, target / kept)
            files[name_2023] = _entry(fetched)
        progress.advance(status=role)
    return files


def _entry(fetched: Fetched, kept: Path | None = None) -> dict[str, object]:
    path = fetched.path if kept is None else kept
    return describe_file(path, fetched.origin, kept=kept is not None, failed=fetched.failed)


def _core_items(release: Release, path: Path) -> tuple[set[str], BadLines]:
    return reviewed_items(path) if release.is_2018 else core_items(path)


def _metadata_counts(records: FirstRecords) -> dict[str, object]:
    return {
        "metadata_items": len(records.item_keys),
        "metadata_duplicates": records.duplicates,
        "metadata_bad_lines": records.bad_lines.count,
    }


def _review_counts(
    reviewed: set[str], wanted: Mapping[str, object], bad_lines: BadLines
) -> dict[str, object]:
    return {
        "reviewed_items": len(reviewed),
        "reviewed_items_without_metadata": len(reviewed) - len(wanted),
        "review_bad_lines": bad_lines.count,
    }
