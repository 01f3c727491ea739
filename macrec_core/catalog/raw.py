"""Fills a dataset's raw folder from whatever source its params name."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from macrec_core.catalog.amazon import gather_amazon
from macrec_core.catalog.family import gather_published
from macrec_core.catalog.files import gather_files
from macrec_core.catalog.http import HttpBase, Retry
from macrec_core.catalog.manifest import RawContents, describe_file, write_manifest
from macrec_core.catalog.minionerec import gather_minionerec
from macrec_core.catalog.sample import CATEGORY, TRUTH, write_sample
from macrec_core.catalog.source import LocalBase, is_url
from macrec_core.errors import MacrecError
from macrec_core.params.data import (
    AmazonSource,
    DatasetSpec,
    FilesSource,
    ImageParams,
    MiniOneRecSource,
    SampleSource,
)
from macrec_core.progress import Progress, Silent

# No honest image is larger than its pixels uncompressed, with transparency.
_BYTES_PER_PIXEL = 4


@dataclass(frozen=True)
class Places:
    """Where files are looked for and kept for a while.

    Attributes:
        data_root: what a relative folder of the params is relative to.
        scratch: partial downloads, kept between runs.
        folder: used instead of the folder or URL of the params, if given.
    """

    data_root: Path
    scratch: Path
    folder: str | None


def write_raw(
    target: Path,
    spec: DatasetSpec,
    images: ImageParams,
    places: Places,
    *,
    with_images: bool,
    progress: Progress = Silent(),  # noqa: B008 - Silent is immutable
    retry: Retry = Retry(),  # noqa: B008 - Retry is immutable
) -> RawContents:
    """Gather a source's files and a manifest into an existing empty folder.

    Args:
        target: the folder.
        spec: the source.
        images: limits on images, and on waiting for a server.
        places: see `Places`.
        with_images: whether images are a modality; otherwise none are fetched.
        progress: told of files and images.
        retry: patience with an HTTP server.

    Returns:
        What the manifest says.

    Raises:
        MacrecError: the source lacks or breaks something that is needed.
    """
    if isinstance(spec, SampleSource):
        contents = _sample(target, spec, images if with_images else None, places, progress)
    elif isinstance(spec, AmazonSource):
        contents = _amazon(target, spec, images, places, with_images, progress, retry)
    else:
        label = places.folder or spec.folder
        folder = _folder(label, places)
        if isinstance(spec, MiniOneRecSource):
            contents = gather_minionerec(spec, folder, label, target)
        elif isinstance(spec, FilesSource):
            wanted = images if with_images else None
            contents = gather_files(spec, folder, label, target, wanted, progress)
        else:
            contents = gather_published(spec, folder, label, target)
    write_manifest(target, spec.source, contents)
    return contents


def _sample(
    target: Path,
    spec: SampleSource,
    images: ImageParams | None,
    places: Places,
    progress: Progress,
) -> RawContents:
    if places.folder is not None:
        raise MacrecError(
            f"--folder={places.folder}: source 'sample' makes its own files; omit the option"
        )
    places.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=places.scratch) as name:
        folder = Path(name)
        write_sample(folder, spec, progress)
        contents = gather_amazon(LocalBase(folder, "sample"), CATEGORY, target, images, progress)
        return _with_truth(contents, folder, "sample", target)


def _amazon(
    target: Path,
    spec: AmazonSource,
    images: ImageParams,
    places: Places,
    with_images: bool,
    progress: Progress,
    retry: Retry,
) -> RawContents:
    base, wanted = places.folder or spec.base, images if with_images else None
    if not is_url(base):
        folder = _folder(base, places)
        contents = gather_amazon(LocalBase(folder, base), spec.category, target, wanted, progress)
        return _with_truth(contents, folder, base, target)
    limit = images.max_pixels * _BYTES_PER_PIXEL
    with HttpBase(base, places.scratch, images.timeout_s, limit, retry) as http:
        return gather_amazon(http, spec.category, target, wanted, progress)


def _with_truth(contents: RawContents, folder: Path, label: str, target: Path) -> RawContents:
    """Keep the generating process too, if the source knows it."""
    if not (folder / TRUTH).is_file():
        return contents
    shutil.copyfile(folder / TRUTH, target / TRUTH)
    entry = describe_file(target / TRUTH, f"{label}/{TRUTH}", kept=True)
    return RawContents(contents.files | {TRUTH: entry}, contents.counts)


def _folder(text: str, places: Places) -> Path:
    folder = places.data_root / text  # an absolute text stands for itself
    if not folder.is_dir():
        raise MacrecError(
            f"{folder}: is no folder; correct the dataset's folder, give --folder, or set "
            "MACREC_DATA to the folder that it is relative to"
        )
    return folder
