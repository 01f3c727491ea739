"""Assign a unique semantic ID to every item: nearest codes, then what makes them unique."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Dataset, ParamsFile, Seed, Variant


def main(
    dataset: Dataset,
    variant: Variant,
    seed: Seed,
    items: Annotated[Path, typer.Option(help="Items of the dataset.")],
    embeddings: Annotated[Path, typer.Option(help="Folder of <modality>.parquet.")],
    quantizer: Annotated[Path, typer.Option(help="Folder of the trained quantizer.")],
    semantic_ids: Annotated[Path, typer.Option(help="Artifact to write.")],
    metrics: Annotated[Path, typer.Option(help="JSON file to write.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Assign semantic IDs by conflict reassignment or one more level; the result is unique."""
    import torch

    from macrec_core import schemas
    from macrec_core.artifacts import (
        check_same_items,
        read_artifact,
        read_embeddings,
        write_json,
    )
    from macrec_core.assignment import assign_ids
    from macrec_core.id_table import ids_table, write_ids
    from macrec_core.params.loading import load_params
    from macrec_core.quantization.rqvae import load_rqvae
    from macrec_core.runtime import start

    params = load_params(params_file)
    start(params.runtime)
    num_items = read_artifact(items, schemas.ITEMS).num_rows
    model, quant = load_rqvae(quantizer)
    assigned = {}
    for modality in params.modalities_of(variant):
        path = embeddings / f"{modality}.parquet"
        vectors = read_embeddings(path)
        check_same_items(path, len(vectors), items, num_items)
        conflicts = params.ids_of(variant).conflicts
        assigned[modality] = assign_ids(model, modality, torch.from_numpy(vectors), conflicts)
    write_ids(semantic_ids, ids_table(assigned), list(assigned), quant.codebook_size)
    report = {m: a.metrics(quant.codebook_size) for m, a in assigned.items()}
    write_json(metrics, {"dataset": dataset, "variant": variant, "seed": seed, **report})
