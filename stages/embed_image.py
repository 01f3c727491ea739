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
    from macrec_core.params.loading import load_params
    from stages.launch import share_work

    params = load_params(params_file)
    share_work(params.runtime)

    from macrec_core.artifacts import write_json
    from macrec_core.encoders import encode_images
    from macrec_core.encoders.encoded import write_embeddings
    from macrec_core.runtime import scratch_root, start

    runtime = start(params.runtime, use_precision=True, shared=True)
    scratch = scratch_root(Path.cwd()) / "embed_image"
    with Console(shown=runtime.processes.first) as progress:
        encoded = encode_images(catalogue, params.embed.image, raw, runtime, scratch, progress)
    if not runtime.processes.first:
        return
    write_embeddings(output, encoded)
    write_json(metrics, {"dataset": dataset, **encoded.metrics()})
    encoded.discard()
