"""Gathers a dataset of one's own: a table of interactions and one of items, maybe with images.

Both files are kept as they are, as `interactions` and `items` with their endings; the images
that the items name are packed into `images/part-*.parquet`.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from macrec_core.catalog.filtering import items_with_interactions
from macrec_core.catalog.image_collection import collect_images
from macrec_core.catalog.image_trials import claimed_trials, files_content
from macrec_core.catalog.images import ImageError
from macrec_core.catalog.manifest import RawContents, describe_file
from macrec_core.catalog.scratch import Scratch
from macrec_core.catalog.source import is_url
from macrec_core.catalog.tables import SUFFIXES, image_paths, read_interactions, read_items
from macrec_core.errors import MacrecError
from macrec_core.params.data import FilesSource, ImageParams
from macrec_core.progress import Progress


def gather_files(
    source: FilesSource,
    folder: Path,
    label: str,
    target: Path,
    images: ImageParams | None,
    scratch: Scratch,
    progress: Progress,
) -> RawContents:
    """Check both tables and lay them into a raw folder, with the images.

    Args:
        source: names of the files.
        folder: where they lie, and what the images' paths are relative to.
        label: what the manifest calls the folder.
        target: existing empty folder.
        images: limits on images; None to read none.
        scratch: keeps what was found of the images between runs.
        progress: told of images.

    Raises:
        MacrecError: a file is missing or breaks a rule, or too many images are missing.
    """
    files = {}
    for name, file in (("interactions", source.interactions), ("items", source.items)):
        path = folder / file
        check_table(path, name)
        kept = target / f"{name}{path.suffix}"
        shutil.copyfile(path, kept)
        files[kept.name] = describe_file(kept, f"{label}/{file}", kept=True)
    interactions = read_interactions(folder / source.interactions)
    items = read_items(folder / source.items, set())
    counts: dict[str, object] = {
        "interactions": len(interactions),
        "items": len(items.keys),
        "repeated_items": items.duplicates,
    }
    if images is not None:
        bought = items_with_interactions(interactions, 1)
        paths = image_paths(folder / source.items, bought)
        content = files_content(folder / path for listed in paths.values() for path in listed)
        trials = claimed_trials(scratch, paths, images, content)
        load = partial(_load, folder.resolve())
        counts |= collect_images(paths, load, images, trials, target, progress)
    return RawContents(files, counts)


def check_table(path: Path, name: str) -> None:
    """Check that a table is there, and of a kind that is read.

    Args:
        path: the file.
        name: of the parameter that names it.

    Raises:
        MacrecError: it is not.
    """
    if path.suffix not in SUFFIXES:
        raise MacrecError(
            f"{path}: must end in {' or '.join(SUFFIXES)}; store the table so and correct {name}"
        )
    if not path.is_file():
        raise MacrecError(f"{path}: is no file; correct the dataset's folder or {name}")


def kept_table(raw: Path, name: str) -> Path:
    """The table `interactions` or `items` of a raw folder.

    Raises:
        MacrecError: it is not there.
    """
    for suffix in SUFFIXES:
        if (raw / f"{name}{suffix}").is_file():
            return raw / f"{name}{suffix}"
    raise MacrecError(f"{raw}: holds no table '{name}'; run download again")


def _load(folder: Path, path: str) -> bytes:
    """The bytes of an image below the folder."""
    if is_url(path):
        raise ImageError("url_not_path")
    try:
        file = (folder / path).resolve()
        if not file.is_relative_to(folder):
            raise ImageError("outside_folder")
        return file.read_bytes()
    except FileNotFoundError as error:
        raise ImageError("no_file") from error
    except (OSError, ValueError) as error:
        raise ImageError("unreadable_file") from error
