"""Build the T5's training and evaluation examples from histories and semantic IDs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Dataset, ParamsFile, Seed, Variant


def main(
    dataset: Dataset,
    variant: Variant,
    seed: Seed,
    interactions: Annotated[Path, typer.Option(help="Interactions of the dataset.")],
    semantic_ids: Annotated[Path, typer.Option(help="Semantic IDs of the variant.")],
    output: Annotated[
        Path, typer.Option(help="Folder for train.parquet, eval.parquet and vocabulary.json.")
    ],
    metrics: Annotated[Path, typer.Option(help="JSON file to write.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Build seq2seq examples: leave-one-out windows times tasks times modalities."""
    from macrec_core.artifacts import atomic_folder, read_chunks, write_json
    from macrec_core.id_table import read_ids
    from macrec_core.params.loading import load_params
    from macrec_core.schemas import INTERACTIONS
    from macrec_core.semantic_ids import Vocabulary
    from macrec_core.sequences import EXAMPLE_FILES, write_examples
    from macrec_core.windows import COLUMNS

    params = load_params(params_file)
    modalities, seq2seq = params.modalities_of(variant), params.seq2seq_of(variant)
    ids = read_ids(semantic_ids, modalities)
    num_levels = next(iter(ids.codes.values())).shape[1]
    aligned = tuple(task for task in seq2seq.tasks if task != "recommend")
    vocabulary = Vocabulary(
        tuple(modalities), num_levels, ids.codebook_size, aligned, *ids.visual_tokens
    )
    with atomic_folder(output, *EXAMPLE_FILES) as folder:
        counts = write_examples(
            folder,
            lambda rows: read_chunks(interactions, INTERACTIONS, rows, COLUMNS),
            ids.codes, vocabulary, seq2seq,
        )  # fmt: skip
    write_json(metrics, {"dataset": dataset, "variant": variant, "seed": seed, **counts})
