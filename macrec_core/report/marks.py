"""Which figures of a column are marked: the best, the second, the significantly better."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from macrec_core.report.datasets import Dataset
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
    """Whether a row has another mean, or is unknown; one that is missing now has none."""
    if "missing" in part.get(row, {}):
        return False
    means = headlines(part, metric)
    return row not in means or abs(means[row] - mean) > _ROUNDING


def leads(
    tests: Mapping[str, Any], part: Mapping[str, Any], metric: str, ours: Sequence[str]
) -> list[Lead]:
    """Each of our rows against the best baseline of a metric.

    None where the best of all baselines that have figures was not tested: to lead the best of
    those that were would be less.
    """
    means = headlines(part, metric)
    baselines = {row: mean for row, mean in means.items() if not is_ours(row, ours)}
    best = max(baselines, key=lambda row: baselines[row], default=None)
    tested = tests["means"][metric]
    if best is None or best not in tested:
        log.warning("%s: the best baseline, %s, was not tested: nothing is marked", metric, best)
        return []
    found = []
    for row in means:
        if is_ours(row, ours) and row in tested:
            test = _test(tests["pairs"], row, best, metric)
            better = test["difference"] > 0 and test["p_bootstrap_holm"] < 1 - tests["confidence"]
            found.append(Lead(row, best, test, better))
    return found


def headlines(part: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Means of a metric by row, of the rows that have one; without the oracle."""
    rows = {row: values[metric] for row, values in part.items() if metric in values}
    means = {row: v["mean"] if isinstance(v, dict) else v for row, v in rows.items()}
    return {row: mean for row, mean in means.items() if row != ORACLE}


def untested(tests: Mapping[str, Any], part: Mapping[str, Any]) -> list[str]:
    """Rows that no test takes part of, but for `random`, which has no lists."""
    with_figures = {row for metric in tests["means"] for row in headlines(part, metric)}
    rows = with_figures.union(tests["missing"]) - {"random"}
    return sorted(row for row in rows if any(row not in m for m in tests["means"].values()))


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
