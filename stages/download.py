"""Gathers a dataset's raw files: ratings, metadata, images, or a published file family.

    python -m stages download --dataset sample --raw artifacts/sample/raw

A cut download goes on where it stopped, images included. Relative folders of params.yaml are
looked for below $MACREC_DATA, or the working directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from macrec_core.errors import MacrecError
from stages.console import DEFAULT_PARAMS, Console, Dataset, ParamsFile


def main(
    dataset: Dataset,
    raw: Annotated[Path, typer.Option(help="Folder to write.")],
    folder: Annotated[
        str | None, typer.Option(help="Folder or URL to read, instead of the params' one.")
    ] = None,
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Gather raw ratings, metadata and images of a dataset."""
    from macrec_core.artifacts import atomic_folder, remove_leftovers
    from macrec_core.catalog.locking import exclusive, lock_file
    from macrec_core.catalog.manifest import raw_files
    from macrec_core.catalog.raw import Places, write_raw
    from macrec_core.catalog.scratch import Scratch
    from macrec_core.catalog.source import data_root
    from macrec_core.files import scratch_root
    from macrec_core.params.loading import load_params

    params = load_params(params_file)
    if dataset not in params.dataset_specs:
        raise MacrecError(
            f"--dataset={dataset}: has no entry in dataset_specs; known: "
            f"{', '.join(sorted(params.dataset_specs))}"
        )
    root, raw = scratch_root(Path.cwd()), raw.resolve()
    with exclusive(lock_file(root / "locks", str(raw)), str(raw)):
        remove_leftovers(raw)
        own = raw_files(raw)
        # The scratch is left last: should the folder not come into its place, all is kept.
        with Scratch(root / "downloads") as scratch, Console() as progress:
            places = Places(
                data_root=data_root(),
                scratch=scratch,
                folder=folder,
            )
            with atomic_folder(raw, *own) as target:
                write_raw(
                    target,
                    params.dataset_specs[dataset],
                    params.images,
                    places,
                    network=params.network,
                    with_images="image" in params.modalities,
                    progress=progress,
                )
