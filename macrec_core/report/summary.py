"""The summary that `dvc metrics diff` compares, and that the tables are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from macrec_core.metrics import mean_and_std
from macrec_core.ranking import YARDSTICKS as TRAINING_FREE
from macrec_core.recommendations import ALL_ITEMS, CANDIDATES, UNSEEN_ITEMS
from macrec_core.report.cells import Cell, Cells
from macrec_core.report.datasets import Dataset

RANKING = ("hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10")
# Table 1.
STATISTICS = ("num_users", "num_items", "num_interactions", "sparsity", "average_length")
# The oracle is the ceiling, and stands last.
ORACLE = "oracle"
YARDSTICKS = ("random", *TRAINING_FREE, ORACLE)


def summarise(cells: Cells, datasets: Sequence[Dataset], exclude_seen: bool) -> dict[str, Any]:
    """Mean, standard deviation and number of seeds of every metric, by dataset and variant.

    Ranking metrics stand there for both sets of candidates, and those of one of them once more
    as the variant's own. The standard deviation is left out where a single seed gives none. A
    row that lacks a seed has no figures: a mean of fewer would pass for one of all.

    Args:
        cells: what was measured of variants and baselines, and what was not.
        datasets: what was measured of whole datasets.
        exclude_seen: whether the headline is that without items bought before.
    """
    headline = UNSEEN_ITEMS if exclude_seen else ALL_ITEMS
    summary: dict[str, Any] = {}
    for dataset in datasets:
        part: dict[str, Any] = {"statistics": _statistics(dataset)}
        for name, metrics in dataset.yardsticks[headline].items():
            both = {candidates: dataset.yardsticks[candidates][name] for candidates in CANDIDATES}
            part[name] = {**metrics, **both, "users": dataset.yardstick_users}
        for variant in cells.rows(dataset.name):
            seeds = [c for c in cells.measured if (c.dataset, c.variant) == (dataset.name, variant)]
            absent = cells.seeds_missing(dataset.name, variant)
            if absent:
                part[variant] = {"missing": _named(absent), "seeds": len(seeds)}
            else:
                part[variant] = _variant(seeds, headline)
        summary[dataset.name] = part
    return summary


def _statistics(dataset: Dataset) -> dict[str, Any]:
    if dataset.statistics is None:
        return {"missing": "filter"}
    # What was dropped and why stays in the cell; here it would bury the results.
    return {name: dataset.statistics[name] for name in STATISTICS}


def _named(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _variant(seeds: Sequence[Cell], headline: str) -> dict[str, Any]:
    """Figures of one row over all its seeds."""
    part = _spreads([_values(cell, headline) for cell in seeds])
    for candidates in CANDIDATES:
        part[candidates] = _spreads([cell.ranking(candidates) for cell in seeds])
    part["seeds"] = len(seeds)
    part["stopped_by"] = sorted({c.recommender["stopped_by"] for c in seeds if c.recommender})
    return part


def _values(cell: Cell, candidates: str) -> dict[str, float]:
    """Numbers of one cell under flat names."""
    values = {name: float(cell.ranking(candidates)[name]) for name in RANKING}
    values["users"] = float(cell.evaluation["users"])
    if cell.recommender is not None:
        best = cell.recommender["best_epoch"]
        values["updates"] = float(cell.recommender["history"][best - 1]["update"])
    values["targets_bought_before"] = float(cell.evaluation["targets_bought_before"])
    for modality, metrics in modalities_of(cell).items():
        values[f"collision_rate_{modality}"] = metrics["collision_rate"]
        if "codebook_use" in metrics:  # clusters have no codebooks
            values[f"codebook_use_{modality}"] = float(np.mean(metrics["codebook_use"]))
            values[f"least_codebook_use_{modality}"] = min(metrics["codebook_use"])
    if cell.quantizer is not None:
        last = cell.quantizer["history"][-1]
        values |= {name: v for name, v in last.items() if name.startswith("unexplained")}
        if "positives" in last:
            values["positives"] = last["positives"]
    return values


def modalities_of(cell: Cell) -> dict[str, dict[str, Any]]:
    """Metrics of a cell's semantic IDs by modality; none of a baseline."""
    parts = (cell.semantic_ids or {}).items()
    return {name: v for name, v in parts if isinstance(v, dict) and "collision_rate" in v}


def _spreads(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Mean and deviation over rows of the same names."""
    return {name: _spread([row[name] for row in rows]) for name in rows[0]}


def _spread(values: list[float]) -> dict[str, float]:
    mean, std = mean_and_std(values)
    return {"mean": mean} if std is None else {"mean": mean, "std": std}
