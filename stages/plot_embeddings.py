"""Figure 1: t-SNE of each modality's embeddings by brand and type, and how well they agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Console, Dataset, ParamsFile


def main(
    dataset: Dataset,
    items: Annotated[Path, typer.Option(help="Items of the dataset.")],
    embeddings: Annotated[Path, typer.Option(help="Folder with <modality>.parquet.")],
    pseudo_labels: Annotated[Path, typer.Option(help="Pseudo-labels of the dataset.")],
    figure: Annotated[Path, typer.Option(help="PNG file to write.")],
    metrics: Annotated[Path, typer.Option(help="JSON file to write.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Draw the embeddings, and measure purity and neighbours, each beside its level by chance."""
    import numpy as np

    from macrec_core import schemas
    from macrec_core.artifacts import (
        atomic_path,
        check_same_items,
        read_artifact,
        read_embeddings,
        write_json,
    )
    from macrec_core.embedding_agreement import agreement, classes_of, last_categories
    from macrec_core.figures.embeddings import draw_embeddings
    from macrec_core.params.loading import load_params
    from macrec_core.projection import project

    params = load_params(params_file)
    plot = params.embedding_plot
    table = read_artifact(items, schemas.ITEMS, ("item_id", "brand", "categories"))
    labels = read_artifact(pseudo_labels, schemas.pseudo_labels(params.modalities))
    check_same_items(pseudo_labels, labels.num_rows, items, table.num_rows)
    attributes = {
        "brand": classes_of(table.column("brand").to_pylist()),
        "type": classes_of(last_categories(table.column("categories").to_pylist())),
    }
    points: dict[str, np.ndarray] = {}
    found: dict[str, dict[str, dict[str, float]]] = {}
    with Console() as progress:
        progress.start("project", len(params.modalities))
        for modality in params.modalities:
            path = embeddings / f"{modality}.parquet"
            vectors = read_embeddings(path)
            check_same_items(path, len(vectors), items, table.num_rows)
            clusters = np.asarray(labels.column(modality)).astype(np.int64)
            found[modality] = agreement(vectors, clusters, attributes, plot)
            points[modality] = project(vectors, plot.perplexity, plot.seed)
            progress.advance(status=modality)
    picture = draw_embeddings(dataset, points, attributes, found, plot.colours)
    with atomic_path(figure) as temporary:
        temporary.write_bytes(picture)
    without = {name: int((~classes.known).sum()) for name, classes in attributes.items()}
    report = {"dataset": dataset, "items": table.num_rows, "without": without, "modalities": found}
    write_json(metrics, report)
