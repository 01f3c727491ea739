"""Give every item an ID by clustering what users buy together (P5-CID).

With image embeddings their vectors go along, for the recommender's input (VIP5).
"""

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
    semantic_ids: Annotated[Path, typer.Option(help="Artifact to write.")],
    metrics: Annotated[Path, typer.Option(help="JSON file to write.")],
    images: Annotated[
        Path | None, typer.Option(help="Image embeddings, where the recommender reads them.")
    ] = None,
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Cluster items into IDs, by training interactions alone; the result is unique."""
    from macrec_core import schemas
    from macrec_core.artifacts import check_same_items, read_artifact, read_embeddings, write_json
    from macrec_core.collaborative_ids import cluster_items, cooccurrence
    from macrec_core.id_table import ids_table, published_ids, scaled, write_ids
    from macrec_core.params.loading import load_params

    params = load_params(params_file)
    num_items = read_artifact(items, schemas.ITEMS).num_rows
    vectors = None
    if images is not None:
        vectors = read_embeddings(images)
        check_same_items(images, len(vectors), items, num_items)
        vectors = scaled(vectors)
    graph = cooccurrence(read_artifact(interactions, schemas.INTERACTIONS), num_items)
    found = cluster_items(graph, params.collaborative_ids, seed)
    (modality,) = params.modalities_of(variant)
    ids = published_ids(found.codes)
    visual = None if images is None else params.visual
    table = ids_table({modality: ids}, vectors)
    write_ids(semantic_ids, table, [modality], found.codebook_size, visual)
    report = {modality: ids.collisions() | found.metrics()}
    write_json(metrics, {"dataset": dataset, "variant": variant, "seed": seed, **report})
