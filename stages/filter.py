"""Filters raw data into items, images, users and interactions with their split.

python -m stages filter --dataset sample --raw artifacts/sample/raw --items ... (see dvc.yaml)
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from macrec_core.errors import MacrecError
from stages.console import DEFAULT_PARAMS, Dataset, ParamsFile


def main(
    dataset: Dataset,
    raw: Annotated[Path, typer.Option(help="Folder that download wrote.")],
    items: Annotated[Path, typer.Option(help="Items to write (Parquet).")],
    images: Annotated[Path, typer.Option(help="Images to write (Parquet).")],
    users: Annotated[Path, typer.Option(help="Users to write (Parquet).")],
    interactions: Annotated[Path, typer.Option(help="Interactions to write (Parquet).")],
    metrics: Annotated[Path, typer.Option(help="Figures and counts to write (JSON).")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Filter raw data: k-core, chronological order, leave-one-out split."""
    from macrec_core.artifacts import write_artifact, write_json
    from macrec_core.catalog.catalogue import build_catalogue
    from macrec_core.catalog.manifest import source_kind
    from macrec_core.params.loading import load_params
    from macrec_core.schemas import INTERACTIONS, ITEMS, USERS

    params = load_params(params_file)
    spec = params.dataset_specs.get(dataset)
    if spec is None or spec.source != source_kind(raw):
        raise MacrecError(
            f"--dataset={dataset}: {raw} was made from source '{source_kind(raw)}', the params say "
            f"'{spec.source if spec else 'nothing'}'; run download for this dataset"
        )
    catalogue = build_catalogue(raw, params.modalities, params.filter)
    info = {"dataset": dataset, "source": spec.source}
    write_artifact(items, catalogue.items, ITEMS, info)
    catalogue.images.write(images, info)
    write_artifact(users, catalogue.users, USERS, info)
    write_artifact(interactions, catalogue.interactions, INTERACTIONS, info)
    write_json(metrics, catalogue.metrics)
