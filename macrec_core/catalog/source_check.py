"""What can be told of a source before anything of it is read, or any server asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from macrec_core.catalog.connections import RefusedError, allowed_url
from macrec_core.catalog.files import check_table
from macrec_core.catalog.layouts import find_release
from macrec_core.catalog.source import find_folder, is_url
from macrec_core.errors import MacrecError
from macrec_core.params.data import AmazonSource, DatasetSpec, FilesSource, SampleSource
from macrec_core.params.network import NetworkParams


def source_problems(
    name: str, spec: DatasetSpec, network: NetworkParams, root: Path
) -> Iterator[str]:
    """What `download` would refuse at once, a line each.

    Args:
        name: of the dataset.
        spec: its source.
        network: which hosts are allowed.
        root: see `source.data_root`.
    """
    if isinstance(spec, SampleSource):
        return
    if isinstance(spec, AmazonSource):
        urls = [base for base in spec.bases if is_url(base)]
        folders = [] if urls else spec.bases  # a server is asked where a folder is not there
        try:
            find_release(spec.layout, spec.category, own_allowed=not urls)
        except MacrecError as error:
            yield f"dataset_specs.{name}: {error}"
        for url in urls:
            try:
                allowed_url(url, network)
            except RefusedError as error:
                yield f"dataset_specs.{name}.bases: {url}: {error}; {error.remedy}"
    else:
        folders = [spec.folder]
    missing = []
    for folder in folders:
        try:
            _look_into(find_folder(folder, root), spec)
        except MacrecError as error:
            missing.append(f"dataset_specs.{name}: {error}")
    if len(missing) == len(folders):
        yield from missing


def _look_into(folder: Path, spec: DatasetSpec) -> None:
    """Look for the files of one's own tables."""
    if isinstance(spec, FilesSource):
        check_table(folder / spec.interactions, "interactions")
        check_table(folder / spec.items, "items")
