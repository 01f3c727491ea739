"""All pairs of a dataset's rows, tested: what `significance.json` holds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from macrec_core.significance import compare_all, holm, over_seeds
from macrec_core.user_values import METRICS, UserValues

if TYPE_CHECKING:
    from macrec_core.params.evaluation import SignificanceParams

log = logging.getLogger(__name__)


def compare_rows(rows: Mapping[str, UserValues], params: SignificanceParams) -> dict[str, Any]:
    """Every pair of rows in every metric; p-values adjusted within the metric (Holm).

    Args:
        rows: values by name, of the same users.
        params: section `significance`.

    Returns:
        `means` by metric and row, and `pairs`: a list of `one`, `other` and, by metric,
        difference (of `one` less `other`), interval, p of both tests, plain and adjusted, and
        `seeds`, the interval over seeds, where there are two or more.
    """
    means: dict[str, dict[str, float]] = {}
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for metric in METRICS:
        values = {name: row.mean(metric) for name, row in rows.items()}
        means[metric] = {name: float(np.mean(users)) for name, users in values.items()}
        found = compare_all(values, params)
        plain = [asdict(comparison) for comparison in found.values()]
        _warn_of_few_draws(len(plain), metric, params)
        for test in ("p_bootstrap", "p_t"):
            adjusted = holm([numbers[test] for numbers in plain])
            for numbers, p in zip(plain, adjusted, strict=True):
                numbers[f"{test}_holm"] = p
        for (one, other), numbers in zip(found, plain, strict=True):
            seeds = _over_seeds(rows[one], rows[other], metric, params.confidence)
            entry = pairs.setdefault((one, other), {"one": one, "other": other})
            entry[metric] = numbers | ({"seeds": seeds} if seeds else {})
    return {"means": means, "pairs": list(pairs.values())}


def _warn_of_few_draws(count: int, metric: str, params: SignificanceParams) -> None:
    """Tell where no adjusted p of the bootstrap can be small enough, whatever the rows are."""
    least = count / (params.bootstrap_draws + 1)
    if least >= 1 - params.confidence:
        log.warning(
            "%s: with %d pairs and significance.bootstrap_draws=%d no adjusted p is below %.3f; "
            "raise it", metric, count, params.bootstrap_draws, least,
        )  # fmt: skip


def _over_seeds(
    one: UserValues, other: UserValues, metric: str, confidence: float
) -> dict[str, float] | None:
    """The interval over seeds; a row without seeds, such as a yardstick, is the same for all."""
    seeds = [seed for seed in (*one.seeds, *other.seeds) if seed is not None]
    mine, others = (
        [_mean(row, seed, metric) for seed in dict.fromkeys(seeds)] for row in (one, other)
    )
    found = over_seeds(mine, others, confidence)
    return None if found is None else asdict(found)


def _mean(row: UserValues, seed: int, metric: str) -> float:
    return float(np.mean(row.seeds[seed if seed in row.seeds else None][metric]))
