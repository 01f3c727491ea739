"""The IDs of `cluster_sids`, and with them image vectors for the recommender's input (VIP5)."""

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
    interactions: Annotated[Path, typer.Option(help="Interactions of the dataset.")],
    images: Annotated[Path, typer.Option(help="Image embeddings of the items.")],
    semantic_ids: Annotated[Path, typer.Option(help="Artifact to write.")],
    metrics: Annotated[Path, typer.Option(help="JSON file to write.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Cluster items into IDs and add their image vectors, centred and scaled."""
    from macrec_core import schemas
    from macrec_core.artifacts import (
        check_same_items,
        read_artifact,
        read_embeddings,
        write_json,
    )
    from macrec_core.collaborative_ids import cluster_items, cooccurrence
    from macrec_core.id_table import ids_table, published_ids, scaled, write_ids
    from macrec_core.params.loading import load_params

    params = load_params(params_file)
    num_items = read_artifact(items, schemas.ITEMS).num_rows
    vectors = read_embeddings(images)
    check_same_items(images, len(vectors), items, num_items)
    graph = cooccurrence(read_artifact(interactions, schemas.INTERACTIONS), num_items)
    found = cluster_items(graph, params.collaborative_ids, seed)
    (modality,) = params.modalities_of(variant)
    ids = published_ids(found.codes)
    table = ids_table({modality: ids}, scaled(vectors))
    write_ids(semantic_ids, table, [modality], found.codebook_size, params.visual)
    report = {modality: ids.collisions() | found.metrics()}
    write_json(metrics, {"dataset": dataset, "variant": variant, "seed": seed, **report})
