"""Unite the lists of several recommenders."""

from __future__ import annotations

import logging
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from macrec_core.errors import MacrecError
from stages.console import DEFAULT_PARAMS, Dataset, ParamsFile

log = logging.getLogger(__name__)


def main(
    dataset: Dataset,
    interactions: Annotated[Path, typer.Option(help="Interactions of the dataset.")],
    lists: Annotated[Path, typer.Option(help="Folder of the dataset's recommendations.")],
    united: Annotated[Path, typer.Option(help="Folder to write the united lists to.")],
    metrics: Annotated[Path, typer.Option(help="JSON file to write.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Unite lists of variants, baselines and yardsticks by a named rule, and measure the result.

    An ensemble's seed without one of its members' lists is left out, listed and logged.
    """
    from macrec_core import schemas
    from macrec_core.artifacts import atomic_folder, read_artifact, write_artifact, write_json
    from macrec_core.cases import cases_of
    from macrec_core.ensembles import missing_files, unite
    from macrec_core.params.loading import load_params
    from macrec_core.recommendations import figures, recommendations_table

    if united.resolve() == lists.resolve():
        raise MacrecError(
            f"--united={united}: is --lists, which would be lost; name another folder"
        )
    params = load_params(params_file)
    table = read_artifact(interactions, schemas.INTERACTIONS)
    cases = cases_of(table, params.eval.split, params.eval.max_users)
    report: dict[str, dict[str, object]] = {name: {} for name in params.ensembles}
    missing: dict[str, dict[str, list[str]]] = {}
    with atomic_folder(united, "*/s[0-9]*.parquet") as folder:
        for name, seed in product(params.ensembles, params.seeds):
            spec = params.ensemble_specs[name]
            absent = [str(path) for path in missing_files(lists, spec, seed)]
            if absent:
                missing.setdefault(name, {})[f"s{seed}"] = absent
                log.warning(
                    "%s: %s seed %d is not made, members have no artifact (%s)",
                    dataset, name, seed, ", ".join(absent),
                )  # fmt: skip
                continue
            result = unite(name, lists, spec, seed, cases, params.eval.ambiguous_ids)
            rows = recommendations_table(result, cases)
            write_artifact(folder / name / f"s{seed}.parquet", rows, schemas.RECOMMENDATIONS)
            report[name][f"s{seed}"] = {
                "users": len(cases),
                "users_left_out": cases.num_left_out,
                "targets_bought_before": cases.num_repeated,
                **figures(result),
            }
    write_json(metrics, {"dataset": dataset, "ensembles": report, "missing": missing})
