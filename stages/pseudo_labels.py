"""Embeddings to pseudo-labels (Eq. 1): `python -m stages pseudo_labels --help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Console, Dataset, ParamsFile


def main(
    dataset: Dataset,
    embeddings: Annotated[Path, typer.Option(help="Folder with <modality>.parquet.")],
    output: Annotated[Path, typer.Option(help="Pseudo-labels to write.")],
    metrics: Annotated[Path, typer.Option(help="Metrics to write.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Cluster the items by each modality's embeddings on its own."""
    import numpy as np
    import pyarrow as pa

    from macrec_core.artifacts import check_same_items, read_embeddings, write_artifact, write_json
    from macrec_core.params.loading import load_params
    from macrec_core.pseudo_labels import Clustering, cluster
    from macrec_core.schemas import pseudo_labels

    params = load_params(params_file)
    paths = {name: embeddings / f"{name}.parquet" for name in params.modalities}
    vectors = {name: read_embeddings(path) for name, path in paths.items()}
    first, num_items = paths[params.modalities[0]], len(vectors[params.modalities[0]])
    for name, path in paths.items():
        check_same_items(path, len(vectors[name]), first, num_items)
    found: dict[str, Clustering] = {}
    with Console() as progress:
        progress.start("cluster", len(vectors))
        for name, matrix in vectors.items():
            found[name] = cluster(matrix, params.pseudo_labels)
            progress.advance(status=name)
    ids = np.arange(num_items, dtype=np.int32)
    table = pa.table({"item_id": ids, **{name: c.labels for name, c in found.items()}})
    write_artifact(output, table, pseudo_labels(list(found)))
    report = {name: clustering.metrics() for name, clustering in found.items()}
    write_json(metrics, {"dataset": dataset, "items": num_items, **report})
