"""Item texts to embeddings: `python -m stages embed_text --help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Console, Dataset, ParamsFile


def main(
    dataset: Dataset,
    catalogue: Annotated[Path, typer.Option(help="Folder of items.parquet and images.parquet.")],
    output: Annotated[Path, typer.Option(help="Embeddings to write.")],
    metrics: Annotated[Path, typer.Option(help="Metrics to write.")],
    raw: Annotated[Path | None, typer.Option(help="Raw files; for encoder 'published'.")] = None,
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Embed the text of every item with the encoder `embed.text`."""
    from macrec_core import runtime
    from macrec_core.artifacts import read_artifact, write_json
    from macrec_core.encoders import encode_texts
    from macrec_core.encoders.encoded import write_embeddings
    from macrec_core.params import load_params
    from macrec_core.schemas import ITEMS

    params = load_params(params_file)
    items = read_artifact(catalogue / "items.parquet", ITEMS)
    running = runtime.start(params.runtime)
    with Console() as progress:
        encoded = encode_texts(items, params.embed.text, raw, running, progress)
    write_embeddings(output, encoded)
    write_json(metrics, {"dataset": dataset, **encoded.metrics()})
