"""Rank by chance, by popularity and, where the generating process is known, by the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Dataset, ParamsFile


def main(
    dataset: Dataset,
    raw: Annotated[Path, typer.Option(help="Raw files; truth.npz is the sample's oracle.")],
    items: Annotated[Path, typer.Option(help="Items of the dataset.")],
    users: Annotated[Path, typer.Option(help="Users of the dataset.")],
    interactions: Annotated[Path, typer.Option(help="Interactions of the dataset.")],
    metrics: Annotated[Path, typer.Option(help="JSON file to write.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Measure rankings that need no training, on the same test items."""
    from macrec_core import schemas
    from macrec_core.artifacts import read_artifact, write_json
    from macrec_core.catalog.oracle import load_oracle, oracle_ranks
    from macrec_core.metrics import random_ranking_metrics, ranking_metrics
    from macrec_core.params import load_params
    from macrec_core.yardsticks import popularity_ranks, test_cases

    params = load_params(params_file)
    item_keys = read_artifact(items, schemas.ITEMS).column("item_key").to_pylist()
    user_keys = read_artifact(users, schemas.USERS).column("user_key").to_pylist()
    table = read_artifact(interactions, schemas.INTERACTIONS)
    test_users, targets, histories = test_cases(table, params.eval.max_users)
    popularity = popularity_ranks(table, targets, len(item_keys))
    report = {
        "random": random_ranking_metrics(len(item_keys)),
        "popularity": ranking_metrics(popularity),
    }
    truth = raw / "truth.npz"
    if truth.exists():
        keys = [user_keys[user] for user in test_users]
        ranks = oracle_ranks(load_oracle(truth), item_keys, keys, histories, targets)
        report["oracle"] = ranking_metrics(ranks)
    write_json(metrics, {"dataset": dataset, "users": len(targets), "rankings": report})
