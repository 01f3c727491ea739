"""Fills a dataset's raw folder from whatever source its params name."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from macrec_core.catalog.amazon import Category, gather_amazon
from macrec_core.catalog.connections import Connections
from macrec_core.catalog.family import gather_published
from macrec_core.catalog.files import gather_files
from macrec_core.catalog.http import HttpBase, ImageLimits
from macrec_core.catalog.layouts import Release, find_release
from macrec_core.catalog.manifest import RawContents, describe_file, write_manifest
from macrec_core.catalog.minionerec import gather_minionerec
from macrec_core.catalog.sample import CATEGORY, TRUTH, write_sample
from macrec_core.catalog.scratch import Scratch
from macrec_core.catalog.source import Base, LocalBase, Mirrors, find_folder, is_url
from macrec_core.errors import MacrecError
from macrec_core.files import full_disk_named
from macrec_core.params.data import (
    AmazonSource,
    DatasetSpec,
    FilesSource,
    ImageParams,
    MiniOneRecSource,
    SampleSource,
)
from macrec_core.params.network import NetworkParams
from macrec_core.progress import Progress, Silent

log = logging.getLogger(__name__)

# No honest image is larger than its pixels uncompressed, with transparency.
_BYTES_PER_PIXEL = 4


@dataclass(frozen=True)
class Places:
    """Where files are looked for and kept for a while.

    Attributes:
        data_root: what a relative folder of the params is relative to.
        scratch: of partial downloads and images found.
        folder: used instead of the folder or URL of the params, if given.
    """

    data_root: Path
    scratch: Scratch
    folder: str | None


def write_raw(
    target: Path,
    spec: DatasetSpec,
    images: ImageParams,
    places: Places,
    *,
    network: NetworkParams,
    with_images: bool,
    progress: Progress = Silent(),  # noqa: B008 - Silent is immutable
) -> RawContents:
    """Gather a source's files and a manifest into an existing empty folder.

    Args:
        target: the folder.
        spec: the source.
        images: limits on images, and on waiting for one.
        places: see `Places`.
        network: limits on files and servers.
        with_images: whether images are a modality; otherwise none are fetched.
        progress: told of files and images.

    Returns:
        What the manifest says.

    Raises:
        MacrecError: the source lacks or breaks something that is needed, or the disk is full.
    """
    with full_disk_named(target):
        contents = _gathered(
            target, spec, images if with_images else None, places, network, progress
        )
        write_manifest(target, spec.source, contents)
    return contents


def _gathered(
    target: Path,
    spec: DatasetSpec,
    images: ImageParams | None,
    places: Places,
    network: NetworkParams,
    progress: Progress,
) -> RawContents:
    if isinstance(spec, SampleSource):
        return _sample(target, spec, images, places, network, progress)
    if isinstance(spec, AmazonSource):
        return _amazon(target, spec, images, places, network, progress)
    label = places.folder or spec.folder
    folder = find_folder(label, places.data_root)
    if isinstance(spec, MiniOneRecSource):
        return gather_minionerec(spec, folder, label, target)
    if isinstance(spec, FilesSource):
        return gather_files(spec, folder, label, target, images, places.scratch, progress)
    return gather_published(spec, folder, label, target)


def _sample(
    target: Path,
    spec: SampleSource,
    images: ImageParams | None,
    places: Places,
    network: NetworkParams,
    progress: Progress,
) -> RawContents:
    if places.folder is not None:
        raise MacrecError(
            f"--folder={places.folder}: source 'sample' makes its own files; omit the option"
        )
    parent = places.scratch.folder
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as name, Scratch(Path(name)) as scratch:
        folder = Path(name)
        with full_disk_named(parent):
            write_sample(folder, spec, progress)
        release = Release("amazon2018", CATEGORY)
        category = Category(LocalBase(folder, "sample"), release, network, {})
        contents = gather_amazon(category, target, images, scratch, progress)
        return _with_truth(contents, folder, "sample", target)


def _amazon(
    target: Path,
    spec: AmazonSource,
    images: ImageParams | None,
    places: Places,
    network: NetworkParams,
    progress: Progress,
) -> RawContents:
    named = [places.folder] if places.folder else spec.bases
    release = find_release(
        spec.layout, spec.category, own_allowed=not any(is_url(base) for base in named)
    )
    bases = _present(named, places)
    folders = {base: find_folder(base, places.data_root) for base in bases if not is_url(base)}
    with Connections(network) as connections:

        def opened(base: str) -> Base:
            if base in folders:
                return LocalBase(folders[base], base)
            limits = _image_limits(images) if images is not None else None
            return HttpBase(base, connections, places.scratch, network, limits)

        opened_bases = [opened(base) for base in bases]
        servers = [one for one in opened_bases if isinstance(one, HttpBase)]
        local = [one for one in opened_bases if isinstance(one, LocalBase)]
        if images is not None and not servers:
            _check_pictured(local)
        mirrors = Mirrors(opened_bases, [*local, *servers[:1]])
        category = Category(mirrors, release, network, spec.sha256)
        contents = gather_amazon(category, target, images, places.scratch, progress)
    contents = replace(contents, layout=spec.layout)
    if bases[0] in folders:
        contents = _with_truth(contents, folders[bases[0]], bases[0], target)
    return contents


def _present(bases: Sequence[str], places: Places) -> list[str]:
    """The bases without folders that are not there, unless no other is left."""
    absent = [base for base in bases if not is_url(base) and not (places.data_root / base).is_dir()]
    if len(absent) == len(bases):
        return list(bases)
    for base in absent:
        log.warning("base %s: is no folder; the other bases are asked", base)
    return [base for base in bases if base not in absent]


def _check_pictured(bases: Sequence[LocalBase]) -> None:
    """Check that one of the folders has images, where no server can be asked for them."""
    folders = [base.folder / "images" for base in bases]
    if not any(folder.is_dir() for folder in folders):
        raise MacrecError(
            f"{' and '.join(map(str, folders))}: no such folder, where a base that is a folder "
            "has its images, under the last part of their URLs; put them there, correct the "
            "folder, add a server of the release to the dataset's bases, or take image from "
            "modalities"
        )


def _image_limits(images: ImageParams) -> ImageLimits:
    return ImageLimits(images.timeout_s, images.max_pixels * _BYTES_PER_PIXEL)


def _with_truth(contents: RawContents, folder: Path, label: str, target: Path) -> RawContents:
    """Keep the generating process too, if the source knows it."""
    if not (folder / TRUTH).is_file():
        return contents
    shutil.copyfile(folder / TRUTH, target / TRUTH)
    entry = describe_file(target / TRUTH, f"{label}/{TRUTH}", kept=True)
    return replace(contents, files=contents.files | {TRUTH: entry})
