"""Evaluate a recommender by constrained beam search, ensemble and full ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import (
    DEFAULT_PARAMS,
    Console,
    Dataset,
    ParamsFile,
    Recommendations,
    Seed,
    Variant,
)


def main(
    dataset: Dataset,
    variant: Variant,
    seed: Seed,
    interactions: Annotated[Path, typer.Option(help="Interactions of the dataset.")],
    seq2seq: Annotated[Path, typer.Option(help="Folder that build_seq2seq wrote.")],
    semantic_ids: Annotated[Path, typer.Option(help="Semantic IDs of the variant.")],
    recommender: Annotated[Path, typer.Option(help="Folder of the trained model.")],
    recommendations: Recommendations,
    metrics: Annotated[Path, typer.Option(help="JSON file to write.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Evaluate on the held-out items (`eval.split`): HR@1/5/10 and NDCG@5/10, all and unseen."""
    from macrec_core.params.loading import load_params
    from stages.launch import share_work

    params = load_params(params_file)
    share_work(params.runtime)

    from macrec_core import schemas
    from macrec_core.artifacts import read_artifact, read_json, write_artifact, write_json
    from macrec_core.cases import cases_of
    from macrec_core.id_table import read_ids
    from macrec_core.recommendations import figures, recommendations_table
    from macrec_core.recommender.evaluation import evaluate_recommender
    from macrec_core.recommender.hugging_face import load_t5
    from macrec_core.runtime import start
    from macrec_core.semantic_ids import Vocabulary
    from macrec_core.sequence_tensors import check_same_users, evaluation_data, images_of

    runtime = start(params.runtime, shared=True)
    vocabulary = Vocabulary.from_json(read_json(seq2seq / "vocabulary.json"))
    table = read_artifact(seq2seq / "eval.parquet", schemas.EVALUATION_EXAMPLES)
    ids = read_ids(semantic_ids, params.modalities_of(variant))
    split = params.eval.split
    data = evaluation_data(table, split, ids.codes, vocabulary, params.eval.max_users)
    bought = read_artifact(interactions, schemas.INTERACTIONS)
    cases = cases_of(bought, split, params.eval.max_users)
    check_same_users(data, cases, seq2seq / "eval.parquet")
    with Console(shown=runtime.processes.first) as console:
        result = evaluate_recommender(
            load_t5(recommender, images_of(ids)), data.modalities, data.targets, params.eval,
            runtime, console, cases,
        )  # fmt: skip
    if not runtime.processes.first:
        return
    lists = recommendations_table(result, cases)
    write_artifact(recommendations, lists, schemas.RECOMMENDATIONS)
    report: dict[str, object] = {
        "dataset": dataset,
        "variant": variant,
        "seed": seed,
        "users": len(data.users),
        "users_left_out": cases.num_left_out,
        "targets_bought_before": cases.num_repeated,
        **figures(result),
    }
    write_json(metrics, report)
