"""Raw files of a category in the Amazon-2018 layout, gathered into one folder.

Written are `ratings.csv` and `metadata.json.gz` as released, `images/part-*.parquet` and
`image_failures.parquet` if image is a modality, and `truth.npz` where the source has one. The
5-core reviews are only read for the items they mention: no other item can survive a filter of
five or more interactions, so no other item's image is fetched; `filter` warns of a smaller core.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from macrec_core.catalog.image_collection import collect_images
from macrec_core.catalog.image_trials import folder_content, trials_folder
from macrec_core.catalog.manifest import RawContents, describe_file
from macrec_core.catalog.metadata import (
    BadLines,
    Metadata,
    check_gzip,
    image_urls,
    read_metadata,
    reviewed_items,
)
from macrec_core.catalog.source import Base, LocalBase
from macrec_core.errors import MacrecError
from macrec_core.params.data import ImageParams
from macrec_core.progress import Progress

log = logging.getLogger(__name__)

# The paper's names of three categories, and the release's.
SHORT_NAMES = {
    "Instruments": "Musical_Instruments",
    "Arts": "Arts_Crafts_and_Sewing",
    "Games": "Video_Games",
}


def release_name(category: str) -> str:
    """The release's name of a category, which may be one of the paper's short names.

    Raises:
        MacrecError: the name could leave the release's folder.
    """
    name = SHORT_NAMES.get(category, category)
    if not name.replace("_", "").isalnum():
        raise MacrecError(
            f"category={category!r}: only letters, digits and underscores; "
            "use the release's name, such as Musical_Instruments"
        )
    return name


def gather_amazon(
    base: Base,
    category: str,
    target: Path,
    images: ImageParams | None,
    scratch: Path,
    progress: Progress,
) -> RawContents:
    """Fetch and check a category's files and images.

    Args:
        base: where the release lies.
        category: the release's or the paper's name.
        target: existing empty folder.
        images: limits on images; None to fetch neither reviews nor images.
        scratch: keeps what was found of the images between runs.
        progress: told of files and images.

    Raises:
        MacrecError: a file is missing, cut or changed, or too many images are missing.
    """
    name = release_name(category)
    progress.start("files", 2 if images is None else 3)
    origins = {
        "ratings.csv": f"categoryFilesSmall/{name}.csv",
        "metadata.json.gz": f"metaFiles2/meta_{name}.json.gz",
    }
    files = {}
    for kept, relative in origins.items():
        shutil.copyfile(_fetched(base, relative), target / kept)
        files[kept] = describe_file(target / kept, base.origin(relative), kept=True)
        progress.advance(status=kept)
    metadata = read_metadata(target / "metadata.json.gz")
    counts = _metadata_counts(metadata)
    leftovers: tuple[Path, ...] = ()
    if images is not None:
        relative = f"categoryFilesSmall/{name}_5.json.gz"
        reviews = _fetched(base, relative)
        entry = describe_file(reviews, base.origin(relative), kept=False)
        files["reviews_5core.json.gz"] = entry
        progress.advance(status="reviews")
        reviewed, bad_lines = reviewed_items(reviews)
        urls = _wanted_urls(metadata, reviewed)
        counts |= _review_counts(reviewed, urls, bad_lines)
        # The same name in a local folder may become another picture.
        content = folder_content(base.folder / "images") if isinstance(base, LocalBase) else ""
        trials = trials_folder(scratch, urls, images, content)
        leftovers = (trials,)
        counts |= collect_images(urls, base.load_image, images, trials, target, progress)
    log.info("%s: %s", name, counts)
    return RawContents(files, counts, leftovers)


def _metadata_counts(metadata: Metadata) -> dict[str, object]:
    return {
        "metadata_items": len(metadata.records),
        "metadata_duplicates": metadata.duplicates,
        "metadata_bad_lines": metadata.bad_lines.count,
    }


def _wanted_urls(metadata: Metadata, reviewed: set[str]) -> dict[str, list[str]]:
    return {key: image_urls(record) for key, record in metadata.records.items() if key in reviewed}


def _review_counts(
    reviewed: set[str], wanted: Mapping[str, object], bad_lines: BadLines
) -> dict[str, object]:
    return {
        "reviewed_items": len(reviewed),
        "reviewed_items_without_metadata": len(reviewed) - len(wanted),
        "review_bad_lines": bad_lines.count,
    }


def _fetched(base: Base, relative: str) -> Path:
    path = base.fetch(relative)
    if relative.endswith(".gz"):
        try:
            check_gzip(path, base.origin(relative))
        except MacrecError:
            base.discard(relative)  # a damaged copy must not be continued
            raise
    return path
