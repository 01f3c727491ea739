"""Train the generative recommender (T5) of a variant and export it in Hugging Face format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Console, Dataset, ParamsFile, Seed, Variant


def main(
    dataset: Dataset,
    variant: Variant,
    seed: Seed,
    seq2seq: Annotated[Path, typer.Option(help="Folder that build_seq2seq wrote.")],
    semantic_ids: Annotated[Path, typer.Option(help="Semantic IDs of the variant.")],
    recommender: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    metrics: Annotated[Path, typer.Option(help="JSON file to write the history to.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Train T5 with explicit and implicit alignment (Eqs. 14-19)."""
    from macrec_core.params.loading import load_params
    from stages.launch import share_work

    params = load_params(params_file)
    share_work(params.runtime)

    from macrec_core import artifacts, schemas
    from macrec_core.checkpoints import Checkpoints
    from macrec_core.id_table import read_ids
    from macrec_core.recommender.hugging_face import T5_FILES, save_t5
    from macrec_core.recommender.t5 import parameter_count
    from macrec_core.recommender.training import train_recommender
    from macrec_core.runtime import code_files, fingerprint, scratch_root, start
    from macrec_core.semantic_ids import Vocabulary
    from macrec_core.sequence_tensors import images_of, training_data

    artifacts.check_replaceable(recommender, *T5_FILES)
    gr, runtime = params.gr_of(variant), start(params.runtime, use_precision=True, shared=True)
    first = runtime.processes.first
    names = ("train.parquet", "eval.parquet", "vocabulary.json")
    train_file, eval_file, vocabulary_file = (seq2seq / name for name in names)
    ids = read_ids(semantic_ids, params.modalities_of(variant))
    data = training_data(
        artifacts.read_artifact(train_file, schemas.TRAINING_EXAMPLES, ["source", "target"]),
        artifacts.read_artifact(eval_file, schemas.EVALUATION_EXAMPLES),
        ids.codes, Vocabulary.from_json(artifacts.read_json(vocabulary_file)),
        gr.max_validation_users, images_of(ids),
    )  # fmt: skip
    key = fingerprint(
        [gr.model_dump_json(), str(seed)],
        [train_file, eval_file, vocabulary_file, semantic_ids],
        code_files(
            "adamw", "contrastive", "fusion", "id_table", "metrics", "processes", "ranking",
            "recommender", "runtime", "semantic_ids", "sequence_tensors", "subsets",
        ),
        runtime,
    )  # fmt: skip
    folder = scratch_root(Path.cwd()) / "train_gr" / key
    checkpoints = Checkpoints(folder, params.runtime.checkpoint_every_s, writes=first)
    with Console(shown=first) as console:
        trained = train_recommender(data, gr, seed, runtime, checkpoints, console)
    if not first:
        return
    with artifacts.atomic_folder(recommender, *T5_FILES) as temporary:
        save_t5(trained.model, temporary, data.examples.target.shape[1] - 1)
    report = {
        "dataset": dataset,
        "variant": variant,
        "seed": seed,
        "examples": len(data.examples),
        "validation_users": len(data.validation.target_items),
        "parameters": parameter_count(trained.model),
        "best_epoch": trained.best_epoch,
        "stopped_by": trained.stopped_by,
        "history": trained.history,
    }
    artifacts.write_json(metrics, report)
