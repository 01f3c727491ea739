"""Evaluate a sequence encoder by full ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import (
    DEFAULT_PARAMS,
    Baseline,
    Dataset,
    Embeddings,
    ParamsFile,
    Recommendations,
    Seed,
)


def main(
    dataset: Dataset,
    baseline: Baseline,
    seed: Seed,
    items: Annotated[Path, typer.Option(help="Items of the dataset.")],
    interactions: Annotated[Path, typer.Option(help="Interactions of the dataset.")],
    recommender: Annotated[Path, typer.Option(help="Folder of the trained model.")],
    recommendations: Recommendations,
    metrics: Annotated[Path, typer.Option(help="JSON file to write.")],
    embeddings: Embeddings = None,
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Evaluate on the held-out items (`eval.split`): HR@1/5/10 and NDCG@5/10, all and unseen."""
    from macrec_core import schemas
    from macrec_core.artifacts import read_artifact, write_artifact, write_json
    from macrec_core.baselines.evaluation import evaluate_sequence_model
    from macrec_core.baselines.histories import held_out_histories
    from macrec_core.baselines.saved import load_model, load_spec
    from macrec_core.cases import cases_of
    from macrec_core.item_features import embedding_files, read_features
    from macrec_core.params.loading import load_params
    from macrec_core.recommendations import figures, recommendations_table
    from macrec_core.runtime import start

    params = load_params(params_file)
    runtime = start(params.runtime)
    spec, settings = load_spec(recommender)
    features = read_features(items, embedding_files(spec, embeddings))
    model = load_model(recommender, features)
    table = read_artifact(interactions, schemas.INTERACTIONS)
    cases = cases_of(table, params.eval.split, params.eval.max_users)
    histories = held_out_histories(cases, model.num_items, settings.max_history)
    length = params.eval.list_length
    result = evaluate_sequence_model(baseline, model, histories, cases, length, runtime)
    write_artifact(recommendations, recommendations_table(result, cases), schemas.RECOMMENDATIONS)
    report: dict[str, object] = {
        "dataset": dataset,
        "variant": baseline,
        "seed": seed,
        "users": len(cases),
        "users_left_out": cases.num_left_out,
        "targets_bought_before": cases.num_repeated,
        **figures(result),
    }
    write_json(metrics, report)
