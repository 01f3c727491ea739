"""Rank without training: by chance, popularity, co-occurrence and, where it is known, the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Dataset, ParamsFile, Recommendations


def main(
    dataset: Dataset,
    raw: Annotated[Path, typer.Option(help="Raw files; truth.npz is the sample's oracle.")],
    items: Annotated[Path, typer.Option(help="Items of the dataset.")],
    users: Annotated[Path, typer.Option(help="Users of the dataset.")],
    interactions: Annotated[Path, typer.Option(help="Interactions of the dataset.")],
    recommendations: Recommendations,
    metrics: Annotated[Path, typer.Option(help="JSON file to write.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Measure rankings that need no training, on the same held-out items."""
    from macrec_core import schemas
    from macrec_core.artifacts import read_artifact, write_artifact, write_json
    from macrec_core.cases import cases_of
    from macrec_core.catalog.oracle import load_oracle
    from macrec_core.params.loading import load_params
    from macrec_core.ranking import together
    from macrec_core.recommendations import figures, recommendations_table
    from macrec_core.yardsticks import random_metrics, rank_by_oracle, rank_by_yardsticks

    params = load_params(params_file)
    item_keys = read_artifact(items, schemas.ITEMS).column("item_key").to_pylist()
    user_keys = read_artifact(users, schemas.USERS).column("user_key").to_pylist()
    table = read_artifact(interactions, schemas.INTERACTIONS)
    cases = cases_of(table, params.eval.split, params.eval.max_users)
    length = params.eval.list_length
    result = rank_by_yardsticks(table, cases, len(item_keys), params.yardsticks, length)
    truth = raw / "truth.npz"
    if truth.exists():
        keys = [user_keys[user] for user in cases.users]
        best = rank_by_oracle(load_oracle(truth), item_keys, keys, cases, length)
        result = together([result, best])
    write_artifact(recommendations, recommendations_table(result, cases), schemas.RECOMMENDATIONS)
    report: dict[str, object] = {
        "dataset": dataset,
        "users": len(cases),
        "users_left_out": cases.num_left_out,
        "targets_bought_before": cases.num_repeated,
    }
    expected = random_metrics(len(item_keys), cases)
    for candidates, lists in figures(result).items():
        report[candidates] = {**lists, "random": expected[candidates]}
    write_json(metrics, report)
