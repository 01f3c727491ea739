"""Train the cross-modal RQ-VAE of a variant and export it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Console, Dataset, ParamsFile, Seed, Variant


def main(
    dataset: Dataset,
    variant: Variant,
    seed: Seed,
    embeddings: Annotated[Path, typer.Option(help="Folder of <modality>.parquet.")],
    pseudo_labels: Annotated[Path, typer.Option(help="K-means labels.")],
    quantizer: Annotated[Path, typer.Option(help="Folder to write the quantizer to.")],
    metrics: Annotated[Path, typer.Option(help="JSON file to write the history to.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Train the cross-modal RQ-VAE (Eqs. 2-13)."""
    from macrec_core.params.loading import load_params
    from stages.launch import share_work

    params = load_params(params_file)
    share_work(params.runtime)

    import torch

    from macrec_core import schemas
    from macrec_core.artifacts import (
        atomic_folder,
        check_replaceable,
        check_same_items,
        read_artifact,
        read_embeddings,
        write_json,
    )
    from macrec_core.checkpoints import Checkpoints
    from macrec_core.quantization.rqvae import RQVAE_FILES, save_rqvae
    from macrec_core.quantization.training import QuantizerData, train_quantizer
    from macrec_core.runtime import code_files, fingerprint, scratch_root, start

    check_replaceable(quantizer, *RQVAE_FILES)
    modalities, quant = params.modalities_of(variant), params.quant_of(variant)
    runtime = start(params.runtime, use_precision=True, shared=True)
    first = runtime.processes.first
    labels = read_artifact(pseudo_labels, schemas.pseudo_labels(params.modalities))
    read = modalities + (["collab"] if quant.lambda_collab and "collab" not in modalities else [])
    vectors = {m: read_embeddings(embeddings / f"{m}.parquet") for m in read}
    for modality, matrix in vectors.items():
        path = embeddings / f"{modality}.parquet"
        check_same_items(path, len(matrix), pseudo_labels, labels.num_rows)
    tensors = {m: torch.from_numpy(matrix) for m, matrix in vectors.items()}
    data = QuantizerData(
        {m: tensors[m] for m in modalities},
        {m: torch.tensor(labels.column(m).to_numpy(), dtype=torch.long) for m in modalities},
        tensors["collab"] if quant.lambda_collab else None,
    )
    # Variants that quantize alike share one training: the key names no variant.
    key = fingerprint(
        [quant.model_dump_json(), str(modalities), str(seed)],
        [pseudo_labels, *(embeddings / f"{m}.parquet" for m in read)],
        code_files("adamw", "contrastive", "metrics", "processes", "quantization", "runtime"),
        runtime,
    )
    folder = scratch_root(Path.cwd()) / "train_rqvae" / key
    checkpoints = Checkpoints(folder, params.runtime.checkpoint_every_s, writes=first)
    with Console(shown=first) as console:
        trained = train_quantizer(data, quant, seed, runtime, checkpoints, console)
    if not first:
        return
    with atomic_folder(quantizer, *RQVAE_FILES) as temporary:
        save_rqvae(temporary, trained.model, quant)
    report = {"dataset": dataset, "variant": variant, "seed": seed, "history": trained.history}
    write_json(metrics, report)
