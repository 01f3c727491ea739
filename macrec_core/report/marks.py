"""Which figures of a column are marked: the best, the second, the significantly better."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from macrec_core.report.cells import Dataset
from macrec_core.report.summary import ORACLE

log = logging.getLogger(__name__)

# Means of the same values summed in another order differ by less.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Lead:
    """One of our rows against the best baseline in one metric.

    Attributes:
        row: ours.
        baseline: the best of all that are not ours, by its mean.
        test: difference of ours less the baseline, interval and p-values, as in
            `significance.json`.
        significant: whether ours is better, and p_bootstrap_holm below 1 - confidence.
    """

    row: str
    baseline: str
    test: dict[str, Any]
    significant: bool


def is_ours(row: str, ours: Sequence[str]) -> bool:
    """Whether a row's name begins with one of `report.ours`."""
    return row.startswith(tuple(ours))


def emphasised(values: Mapping[str, float], texts: Mapping[str, str]) -> dict[str, str]:
    """Texts of a column by row, the best bold, the second best in italics, ties alike.

    The oracle takes no part: it knows what no recommender can.
    """
    distinct = sorted({v for row, v in values.items() if row != ORACLE}, reverse=True)
    signs = dict(zip(distinct[:2], ("**", "_"), strict=False))
    marked = {}
    for row, text in texts.items():
        sign = "" if row == ORACLE else signs.get(values[row], "")
        marked[row] = f"{sign}{text}{sign}"
    return marked


def significance_of(
    dataset: Dataset, part: Mapping[str, Any], candidates: str
) -> tuple[dict[str, Any] | None, str]:
    """The dataset's tests, or None and why there are none.

    Tests of other runs than the cells tell of are not used: their means would differ.

    Args:
        dataset: what was measured of it.
        part: its summary.
        candidates: of the headline.
    """
    found = dataset.significance
    if found is None:
        return None, "the stage `significance` has not run"
    different = [candidates] if found["candidates"] != candidates else []
    for metric, means in found["means"].items():
        different += [f"{row} {metric}" for row in means if _differs(part, row, metric, means[row])]
    if different:
        log.warning(
            "%s: significance.json is of another run than the cells (%s) and is not used; run "
            "`dvc repro -s significance@%s`", dataset.name, ", ".join(different), dataset.name,
        )  # fmt: skip
        return None, f"the stage `significance` tells of another run ({different[0]})"
    return found, ""


def _differs(part: Mapping[str, Any], row: str, metric: str, mean: float) -> bool:
    """Whether a row that was measured has another mean."""
    if row not in part:
        return True
    if "missing" in part[row]:
        return False
    value = part[row][metric]
    headline = value["mean"] if isinstance(value, dict) else value
    return bool(abs(headline - mean) > _ROUNDING)


def leads(
    tests: Mapping[str, Any], part: Mapping[str, Any], metric: str, ours: Sequence[str]
) -> list[Lead]:
    """Each of our rows against the best baseline of a metric, where both were tested."""
    tested = tests["means"][metric]
    means = {row: tested[row] for row in part if row in tested and "missing" not in part[row]}
    baselines = {row: mean for row, mean in means.items() if not is_ours(row, ours)}
    if not baselines:
        return []
    best = max(baselines, key=lambda row: baselines[row])
    found = []
    for row in means:
        if is_ours(row, ours):
            test = _test(tests["pairs"], row, best, metric)
            better = test["difference"] > 0 and test["p_bootstrap_holm"] < 1 - tests["confidence"]
            found.append(Lead(row, best, test, better))
    return found


def _test(pairs: Sequence[Mapping[str, Any]], row: str, other: str, metric: str) -> dict[str, Any]:
    """The test of a pair, turned so that the difference is of `row` less `other`."""
    for pair in pairs:
        if (pair["one"], pair["other"]) == (row, other):
            return dict(pair[metric])
        if (pair["one"], pair["other"]) == (other, row):
            return _turned(pair[metric])
    raise AssertionError(f"{row} and {other} have means but no test")


def _turned(test: Mapping[str, Any]) -> dict[str, Any]:
    turned = dict(test) | {
        "difference": -test["difference"], "low": -test["high"], "high": -test["low"],
    }  # fmt: skip
    if "seeds" in test:
        turned["seeds"] = _turned(test["seeds"])
    return turned
