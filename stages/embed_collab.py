"""Training interactions to collaborative embeddings: `python -m stages embed_collab --help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Dataset, ParamsFile


def main(
    dataset: Dataset,
    catalogue: Annotated[Path, typer.Option(help="Folder of items and interactions.parquet.")],
    output: Annotated[Path, typer.Option(help="Embeddings to write.")],
    metrics: Annotated[Path, typer.Option(help="Metrics to write.")],
    raw: Annotated[Path | None, typer.Option(help="Raw files; for encoder 'published'.")] = None,
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Embed every item by who bought it in training, with the encoder `embed.collab`."""
    from macrec_core.params.loading import load_params
    from stages.launch import share_work

    params = load_params(params_file)
    share_work(params.runtime)

    from macrec_core.artifacts import write_json
    from macrec_core.encoders import encode_interactions
    from macrec_core.encoders.encoded import write_embeddings
    from macrec_core.runtime import start

    # As of every modality: `embed` is one stage, and dvc.yaml starts all of them alike.
    runtime = start(params.runtime, use_precision=True, shared=True)
    if not runtime.processes.first:
        return
    encoded = encode_interactions(catalogue, params.embed.collab, raw)
    write_embeddings(output, encoded)
    write_json(metrics, {"dataset": dataset, **encoded.metrics()})
