"""Give every item an ID by clustering what users buy together (P5-CID)."""

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
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Cluster items into IDs, by training interactions alone; the result is unique."""
    from macrec_core import schemas
    from macrec_core.artifacts import read_artifact, write_json
    from macrec_core.collaborative_ids import cluster_items, cooccurrence
    from macrec_core.id_table import ids_table, published_ids, write_ids
    from macrec_core.params.loading import load_params

    params = load_params(params_file)
    num_items = read_artifact(items, schemas.ITEMS).num_rows
    graph = cooccurrence(read_artifact(interactions, schemas.INTERACTIONS), num_items)
    found = cluster_items(graph, params.collaborative_ids, seed)
    (modality,) = params.modalities_of(variant)
    ids = published_ids(found.codes)
    write_ids(semantic_ids, ids_table({modality: ids}), [modality], found.codebook_size)
    report = {modality: ids.collisions() | found.metrics()}
    write_json(metrics, {"dataset": dataset, "variant": variant, "seed": seed, **report})
