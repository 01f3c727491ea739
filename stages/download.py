"""Gathers a dataset's raw files: ratings, metadata, images, or a published file family.

    python -m stages download --dataset sample --raw artifacts/sample/raw

A cut download goes on where it stopped, images included. Relative folders of params.yaml are
looked for below $MACREC_DATA, or the working directory.
"""

from __future__ import annotations

import os
import shutil
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
    from macrec_core.catalog.raw import Places, write_raw
    from macrec_core.files import scratch_root
    from macrec_core.params.loading import load_params

    params = load_params(params_file)
    if dataset not in params.dataset_specs:
        raise MacrecError(
            f"--dataset={dataset}: has no entry in dataset_specs; known: "
            f"{', '.join(sorted(params.dataset_specs))}"
        )
    scratch = scratch_root(Path.cwd())
    places = Places(
        data_root=Path(os.environ.get("MACREC_DATA") or Path.cwd()),
        scratch=scratch / "downloads",
        folder=folder,
    )
    with exclusive(lock_file(scratch / "locks", str(raw.resolve())), str(raw)):
        remove_leftovers(raw)
        with Console() as progress, atomic_folder(raw) as target:
            contents = write_raw(
                target,
                params.dataset_specs[dataset],
                params.images,
                places,
                network=params.network,
                with_images="image" in params.modalities,
                progress=progress,
            )
        # Only now: had the folder not come into its place, the next run would go on with them.
        for leftover in contents.leftovers:
            shutil.rmtree(leftover, ignore_errors=True)
