"""Item images to embeddings: `python -m stages embed_image --help`."""

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
    """Embed the image of every item with the encoder `embed.image`."""
    from macrec_core import runtime
    from macrec_core.artifacts import read_artifact, write_json
    from macrec_core.encoders import encode_images
    from macrec_core.encoders.encoded import write_embeddings
    from macrec_core.params import load_params
    from macrec_core.schemas import IMAGES, ITEMS

    params = load_params(params_file)
    num_items = read_artifact(catalogue / "items.parquet", ITEMS).num_rows
    pictures = read_artifact(catalogue / "images.parquet", IMAGES)
    running = runtime.start(params.runtime)
    with Console() as progress:
        encoded = encode_images(pictures, num_items, params.embed.image, raw, running, progress)
    write_embeddings(output, encoded)
    write_json(metrics, {"dataset": dataset, **encoded.metrics()})
