"""Train a sequence encoder that scores every item, of whatever it knows of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Baseline, Console, Dataset, Embeddings, ParamsFile, Seed


def main(
    dataset: Dataset,
    baseline: Baseline,
    seed: Seed,
    items: Annotated[Path, typer.Option(help="Items of the dataset.")],
    interactions: Annotated[Path, typer.Option(help="Interactions of the dataset.")],
    recommender: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    metrics: Annotated[Path, typer.Option(help="JSON file to write the history to.")],
    embeddings: Embeddings = None,
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Train a sequence encoder on next items, with cross-entropy over the whole catalogue."""
    from macrec_core import artifacts, schemas
    from macrec_core.baselines import histories
    from macrec_core.baselines.pretraining import pretrain
    from macrec_core.baselines.saved import MODEL_FILES, new_model, save_model
    from macrec_core.baselines.training import train_sequence_model
    from macrec_core.cases import cases_of, training_sequences
    from macrec_core.checkpoints import Checkpoints
    from macrec_core.item_features import embedding_files, read_features
    from macrec_core.params.loading import load_params
    from macrec_core.runtime import code_files, fingerprint, generator, scratch_root, start

    artifacts.check_replaceable(recommender, *MODEL_FILES)
    params = load_params(params_file)
    spec, settings = params.baseline(baseline), params.sequential_of(baseline)
    runtime = start(params.runtime)
    files = embedding_files(spec, embeddings)
    features = read_features(items, files)
    num_items, length = features.num_items, settings.max_history
    table = artifacts.read_artifact(interactions, schemas.INTERACTIONS)
    bought = training_sequences(table)
    train = histories.training_histories(*bought, num_items, length)
    sequences = histories.whole_sequences(*bought, num_items, length)
    cases = cases_of(table, "valid", None)
    validation = histories.held_out_histories(cases, num_items, length)
    key = fingerprint(
        [spec.model_dump_json(), settings.model_dump_json(), str(seed)],
        [items, interactions, *files.values()],
        code_files("adamw", "baselines", "cases", "item_features", "metrics", "processes",
                   "ranking", "runtime", "subsets"),
        runtime,
    )  # fmt: skip
    folder = scratch_root(Path.cwd()) / "train_baseline" / key
    every = params.runtime.checkpoint_every_s
    first, second = Checkpoints(folder / "pretraining", every), Checkpoints(folder, every)
    model = new_model(spec, settings, features, generator(seed, "baseline-weights"))
    with Console() as console:
        pretraining = pretrain(model, sequences, settings, seed, runtime, first, console)
        trained = train_sequence_model(
            model, train, validation, settings, seed, runtime, second, console
        )
    with artifacts.atomic_folder(recommender, *MODEL_FILES) as temporary:
        save_model(temporary, trained.model, spec, settings)
    report = {
        "dataset": dataset,
        "variant": baseline,
        "seed": seed,
        "examples": len(train),
        "validation_users": len(validation),
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "best_epoch": trained.best_epoch,
        "stopped_by": trained.stopped_by,
        "history": trained.history,
        **model.facts(),
        **({"pretraining": pretraining} if pretraining else {}),
    }
    artifacts.write_json(metrics, report)
