"""Figure 3: HR@10, NDCG@10 and collision rate against the values of one hyper-parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from macrec_core.figures.canvas import COLOURS, default_style, panels, png
from macrec_core.sweeps.outcomes import HR, NDCG, Outcome, collisions_of, modality_of


def draw_sweep(name: str, variant: str, outcomes: Sequence[Outcome]) -> bytes:
    """PNG of a row a dataset; values at equal distances, missing ones marked by a cross.

    Args:
        name: of the hyper-parameter.
        variant: that was swept.
        outcomes: every value on every dataset.
    """
    datasets = list(dict.fromkeys(outcome.dataset for outcome in outcomes))
    with default_style():
        figure, axes = panels(len(datasets), 3, 3.4, 2.7)
        for row, dataset in zip(axes, datasets, strict=True):
            mine = [outcome for outcome in outcomes if outcome.dataset == dataset]
            _panel(row[0], f"{dataset}: HR@10", name, mine, {HR: ""})
            _panel(row[1], f"{dataset}: NDCG@10", name, mine, {NDCG: ""})
            rates = {metric: modality_of(metric) for metric in collisions_of(mine)}
            _panel(row[2], f"{dataset}: collision rate", name, mine, rates)
        count = sum(bool(outcome.missing) for outcome in outcomes)
        spread = any("std" in values for o in outcomes for values in o.figures.values())
        seeds = "mean and deviation over seeds" if spread else "one seed, without an interval"
        text = f"Sweep of {name}, {variant}: {seeds}"
        figure.suptitle(f"{text}; {count} of {len(outcomes)} missing (crosses)" if count else text)
        return png(figure)


def _panel(
    panel: Any,  # noqa: ANN401 - axes come out of an untyped array of matplotlib's
    title: str,
    name: str,
    outcomes: Sequence[Outcome],
    lines: dict[str, str],
) -> None:
    """Curves of some metrics of one dataset, by metric its label in the legend."""
    panel.set_title(title)
    panel.set_xlabel(name)
    places = range(len(outcomes))
    for colour, (metric, label) in zip(COLOURS, lines.items(), strict=False):
        figures = [outcome.figures.get(metric, {}) for outcome in outcomes]
        # Not a number: no line leads over what is missing.
        means = [figure.get("mean", math.nan) for figure in figures]
        spreads = [figure.get("std", math.nan) for figure in figures]
        panel.errorbar(
            places, means, yerr=spreads, color=colour, marker="o", markersize=4, linewidth=1.3,
            capsize=3, label=label,
        )  # fmt: skip
    absent = [x for x, outcome in zip(places, outcomes, strict=True) if outcome.missing]
    if absent:
        # At the lower edge, whatever the scale.
        panel.scatter(
            absent, [0.03] * len(absent), marker="x", color="#b00020", s=30,
            transform=panel.get_xaxis_transform(), clip_on=False,
        )  # fmt: skip
    panel.set_xticks(list(places), [f"{outcome.value:g}" for outcome in outcomes])
    panel.set_xlim(-0.4, len(outcomes) - 0.6)
    panel.margins(y=0.2)
    if any(lines.values()):
        panel.legend(loc="best")
