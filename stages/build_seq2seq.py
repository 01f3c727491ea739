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
    import pyarrow.compute as pc

    from macrec_core import schemas
    from macrec_core.artifacts import atomic_folder, read_artifact, write_artifact, write_json
    from macrec_core.id_table import read_ids
    from macrec_core.params import load_params
    from macrec_core.semantic_ids import Vocabulary
    from macrec_core.sequences import evaluation_examples, training_examples, windows

    params = load_params(params_file)
    modalities, seq2seq = params.modalities_of(variant), params.seq2seq_of(variant)
    table = read_artifact(interactions, schemas.INTERACTIONS)
    ids = read_ids(semantic_ids, modalities)
    num_levels = next(iter(ids.codes.values())).shape[1]
    aligned = tuple(task for task in seq2seq.tasks if task != "recommend")
    vocabulary = Vocabulary(tuple(modalities), num_levels, ids.codebook_size, aligned)
    train = training_examples(table, ids.codes, vocabulary, seq2seq)
    evaluation = evaluation_examples(table, ids.codes, vocabulary, seq2seq.max_history)
    with atomic_folder(output) as folder:
        write_artifact(folder / "train.parquet", train, schemas.TRAINING_EXAMPLES)
        write_artifact(folder / "eval.parquet", evaluation, schemas.EVALUATION_EXAMPLES)
        write_json(folder / "vocabulary.json", vocabulary.to_json())
    tasks = train.group_by(["task", "source_modality", "target_modality"]).aggregate(
        [([], "count_all")]
    )
    counts = {
        f"{row['task']}:{row['source_modality']}>{row['target_modality']}": row["count_all"]
        for row in tasks.to_pylist()
    }
    splits = {
        f"{split}_users": pc.sum(pc.equal(table.column("split"), split)).as_py()
        for split in ("valid", "test")
    }
    cut = {
        f"{split}_histories_cut": windows(table, split, seq2seq.max_history).num_cut
        for split in ("train", "valid", "test")
    }
    report = {
        "examples": train.num_rows,
        "tasks": counts,
        "vocabulary": vocabulary.size,
        **splits,
        **cut,
    }
    write_json(metrics, {"dataset": dataset, "variant": variant, "seed": seed, **report})
