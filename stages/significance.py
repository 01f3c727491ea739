"""Test every pair of rows of the results table: paired bootstrap and t-test over users."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, Dataset, ParamsFile

log = logging.getLogger(__name__)


def main(
    dataset: Dataset,
    recommendations: Annotated[Path, typer.Option(help="Folder of the rows' artifacts.")],
    ensembles: Annotated[Path, typer.Option(help="Folder of the united lists.")],
    metrics: Annotated[Path, typer.Option(help="JSON file to write.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Compare all rows of a dataset; rows with a missing seed are left out, listed and logged."""
    from macrec_core.artifacts import write_json
    from macrec_core.comparisons import compare_rows
    from macrec_core.params.loading import load_params
    from macrec_core.recommendations import ALL_ITEMS, UNSEEN_ITEMS
    from macrec_core.user_values import (
        ensemble_sources,
        read_values,
        sources_of,
        yardstick_sources,
    )

    params = load_params(params_file)
    candidates = UNSEEN_ITEMS if params.eval.exclude_seen else ALL_ITEMS
    baselines = list(params.baselines)
    if dataset in params.learned_datasets:
        baselines += params.multimodal_baselines
    sources = sources_of(recommendations, params.variants, baselines, params.seeds)
    sources += ensemble_sources(ensembles, params.ensembles, params.seeds)
    sources += yardstick_sources(recommendations / "yardsticks.parquet")
    missing = {s.name: s.missing for s in sources if s.missing}
    for source in (s for s in sources if s.missing):
        log.warning(
            "%s: %s lacks %d of %d artifacts (%s); no pair with it is tested",
            dataset, source.name, len(source.missing), len(source.files),
            ", ".join(str(source.files[seed]) for seed in source.missing),
        )  # fmt: skip
    rows = read_values([s for s in sources if not s.missing], candidates)
    report = {
        "dataset": dataset,
        "candidates": candidates,
        "users": max((len(row.users) for row in rows.values()), default=0),
        "bootstrap_draws": params.significance.bootstrap_draws,
        "confidence": params.significance.confidence,
        "missing": missing,
        **compare_rows(rows, params.significance),
    }
    write_json(metrics, report)
