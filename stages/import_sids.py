"""Import published semantic IDs as they are, ambiguous ones included."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Dataset, ParamsFile, Seed, Variant


def main(
    dataset: Dataset,
    variant: Variant,
    seed: Seed,
    raw: Annotated[Path, typer.Option(help="Raw files of the dataset.")],
    items: Annotated[Path, typer.Option(help="Items of the dataset.")],
    semantic_ids: Annotated[Path, typer.Option(help="Artifact to write.")],
    metrics: Annotated[Path, typer.Option(help="JSON file to write.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Import published semantic IDs; items that share one are counted, never changed."""
    from macrec_core import schemas
    from macrec_core.artifacts import check_same_items, read_artifact, write_json
    from macrec_core.catalog.published import published_ids_path, read_published_ids
    from macrec_core.id_table import ids_table, published_ids, write_ids
    from macrec_core.params.loading import load_params

    params = load_params(params_file)
    num_items = read_artifact(items, schemas.ITEMS).num_rows
    imported = {}
    for modality in params.modalities_of(variant):
        path = published_ids_path(raw, modality)
        codes = read_published_ids(path, modality)
        check_same_items(path, len(codes), items, num_items)
        imported[modality] = published_ids(codes)
    size = params.quant.codebook_size
    write_ids(semantic_ids, ids_table(imported), list(imported), size)
    for modality, ids in imported.items():
        if ids.num_distinct < num_items:
            logging.getLogger(__name__).warning(
                "%s: %d published %s IDs stand for %d items; eval.ambiguous_ids decides how a hit "
                "on such an ID counts", dataset, ids.num_distinct, modality, num_items,
            )  # fmt: skip
    report = {m: ids.metrics(size) for m, ids in imported.items()}
    write_json(metrics, {"dataset": dataset, "variant": variant, "seed": seed, **report})
