"""The summary that `dvc metrics diff` compares, and the results table that people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from macrec_core.metrics import mean_and_std
from macrec_core.recommendations import ALL_ITEMS, CANDIDATES, UNSEEN_ITEMS
from macrec_core.report.cells import Cell, Dataset

RANKING = ("hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10")
# Of the second set of candidates the table shows these.
_UNSEEN_SHOWN = ("hr@1", "hr@10", "ndcg@10")
# The oracle is the ceiling, and stands last.
_YARDSTICKS = ("random", "popularity", "last_item", "item_knn", "oracle")


def summarise(
    cells: Sequence[Cell], datasets: Sequence[Dataset], exclude_seen: bool
) -> dict[str, Any]:
    """Mean, standard deviation and number of seeds of every metric, by dataset and variant.

    Ranking metrics stand there for both sets of candidates, and those of one of them once more
    as the variant's own. The standard deviation is left out where a single seed gives none.

    Args:
        cells: what was measured of variants and baselines.
        datasets: what was measured of whole datasets.
        exclude_seen: whether the headline is that without items bought before.
    """
    headline = UNSEEN_ITEMS if exclude_seen else ALL_ITEMS
    summary: dict[str, Any] = {}
    for dataset in datasets:
        # What was dropped and why stays in the cell; here it would bury the results.
        table_1 = ("num_users", "num_items", "num_interactions")
        part: dict[str, Any] = {"statistics": {name: dataset.statistics[name] for name in table_1}}
        for name, metrics in dataset.yardsticks[headline].items():
            both = {candidates: dataset.yardsticks[candidates][name] for candidates in CANDIDATES}
            part[name] = {**metrics, **both, "users": dataset.yardstick_users}
        for variant in dict.fromkeys(c.variant for c in cells if c.dataset == dataset.name):
            seeds = [c for c in cells if (c.dataset, c.variant) == (dataset.name, variant)]
            part[variant] = _spreads([_values(cell, headline) for cell in seeds])
            for candidates in CANDIDATES:
                rows = [cell.ranking(candidates) for cell in seeds]
                part[variant][candidates] = _spreads(rows)
            part[variant]["seeds"] = len(seeds)
            part[variant]["stopped_by"] = sorted({c.recommender["stopped_by"] for c in seeds})
        summary[dataset.name] = part
    return summary


def results_table(
    summary: dict[str, Any],
    datasets: Sequence[str],
    variants: Sequence[str],
    modalities: Sequence[str],
) -> str:
    """Markdown: dataset x variant, with yardsticks for scale, for both sets of candidates.

    `variants` are those and baselines, in the order of their rows. "updates" made the exported
    model; what followed gave no better validation value. A part of the users shows in the row,
    and so does a budget of updates (`gr.max_steps`) that ended the training.
    """
    names = " / ".join(modalities)
    head = ["dataset", "variant", *[name.upper() for name in RANKING]]
    head += [f"unseen {name.upper()}" for name in _UNSEEN_SHOWN]
    head += [f"collisions % ({names})", f"codes in use % ({names})", "users", "updates", "seeds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * 2 + "---:|" * (len(head) - 2)]
    for dataset in datasets:
        part = summary[dataset]
        everyone = part["statistics"]["num_users"]
        for name in (*_YARDSTICKS[:-1], *variants, *_YARDSTICKS[-1:]):
            if name in part:
                cells = _row(name, part[name], modalities, everyone)
                lines.append("| " + " | ".join([dataset, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _values(cell: Cell, candidates: str) -> dict[str, float]:
    """Numbers of one cell under flat names."""
    values = {name: float(cell.ranking(candidates)[name]) for name in RANKING}
    values["users"] = float(cell.evaluation["users"])
    best = cell.recommender["best_epoch"]
    values["updates"] = float(cell.recommender["history"][best - 1]["update"])
    values["targets_bought_before"] = float(cell.evaluation["targets_bought_before"])
    for modality, metrics in _modalities(cell).items():
        values[f"collision_rate_{modality}"] = metrics["collision_rate"]
        values[f"codebook_use_{modality}"] = float(np.mean(metrics["codebook_use"]))
        values[f"least_codebook_use_{modality}"] = min(metrics["codebook_use"])
    if cell.quantizer is not None:
        last = cell.quantizer["history"][-1]
        values |= {name: v for name, v in last.items() if name.startswith("unexplained")}
        if "positives" in last:
            values["positives"] = last["positives"]
    return values


def _modalities(cell: Cell) -> dict[str, dict[str, Any]]:
    return {name: v for name, v in (cell.semantic_ids or {}).items() if isinstance(v, dict)}


def _spreads(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Mean and deviation over rows of the same names."""
    return {name: _spread([row[name] for row in rows]) for name in rows[0]}


def _spread(values: list[float]) -> dict[str, float]:
    mean, std = mean_and_std(values)
    return {"mean": mean} if std is None else {"mean": mean, "std": std}


def _row(name: str, metrics: dict[str, Any], modalities: Sequence[str], everyone: int) -> list[str]:
    shown = [metrics[ALL_ITEMS][metric] for metric in RANKING]
    shown += [metrics[UNSEEN_ITEMS][metric] for metric in _UNSEEN_SHOWN]
    if name in _YARDSTICKS:
        numbers = [f"{value:.4f}" for value in shown]
        users = _part_of(metrics["users"], everyone)
        return [f"*{name}*", *numbers, "", "", users, "", ""]
    numbers = [_number(spread) for spread in shown]
    shares = []
    for kind in ("collision_rate", "codebook_use"):
        found = [metrics.get(f"{kind}_{modality}") for modality in modalities]
        shares.append(" / ".join("-" if v is None else f"{100 * v['mean']:.1f}" for v in found))
    users = _part_of(metrics["users"]["mean"], everyone)
    updates = f"{metrics['updates']['mean']:.0f}"
    if "max_steps" in metrics["stopped_by"]:
        updates += " (budget)"
    return [name, *numbers, *shares, users, updates, str(metrics["seeds"])]


def _part_of(users: float, everyone: int) -> str:
    return str(everyone) if users == everyone else f"{users:.0f} of {everyone}"


def _number(spread: dict[str, float]) -> str:
    text = f"{spread['mean']:.4f}"
    return f"{text} ± {spread['std']:.4f}" if "std" in spread else text
