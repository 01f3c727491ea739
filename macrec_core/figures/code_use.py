"""Figure 4: how many items each codeword has, at every level and for every modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from macrec_core.figures.canvas import COLOURS, default_style, panels, png


@dataclass(frozen=True)
class CodeUse:
    """One variant's codes of one modality.

    Attributes:
        items: [L, M] items a codeword, descending at each level.
        entropy: [L] of the codes' frequencies, as a share of its maximum log M.
        share: [L] codewords in use, of all M.
    """

    items: NDArray[np.float64]
    entropy: NDArray[np.float64]
    share: NDArray[np.float64]


def draw_code_use(dataset: str, uses: Mapping[str, Mapping[str, CodeUse]]) -> bytes:
    """PNG of one panel a modality (row) and level (column), one line a variant.

    Args:
        dataset: named in the title.
        uses: by modality, by variant; none empty.
    """
    with default_style():
        levels = max(len(use.items) for one in uses.values() for use in one.values())
        variants = list(dict.fromkeys(v for one in uses.values() for v in one))
        height = 2.0 + 0.16 * len(variants)
        figure, axes = panels(len(uses), levels, 3.1, height)
        for row, (modality, one) in zip(axes, uses.items(), strict=True):
            for level, panel in enumerate(row):
                panel.set_title(f"{modality}, level {level + 1}")
                for variant, use in one.items():
                    if level < len(use.items):
                        _line(panel, variant, variants.index(variant), use, level)
                panel.set_ylim(bottom=0)
                panel.margins(x=0.01)
                panel.xaxis.set_major_locator(MaxNLocator(integer=True))
                panel.yaxis.set_major_locator(MaxNLocator(integer=True))
                panel.legend(loc="upper right", handlelength=2.0)
            row[0].set_ylabel("items")
        for panel in axes[-1]:
            panel.set_xlabel("codewords, most items first")
        figure.suptitle(f"Items a codeword, {dataset} (H: entropy of its maximum; %: in use)")
        return png(figure)


def _line(
    panel: Any,  # noqa: ANN401 - axes come out of an untyped array of matplotlib's
    variant: str,
    place: int,
    use: CodeUse,
    level: int,
) -> None:
    panel.step(
        np.arange(1, use.items.shape[1] + 1), use.items[level], where="mid", linewidth=1.3,
        color=COLOURS[place % len(COLOURS)],
        # Lines that lie on one another show by their dashes.
        linestyle=("-", "--", ":", "-.")[place % 4],
        label=f"{variant}: H {use.entropy[level]:.2f}, {use.share[level]:.0%}",
    )  # fmt: skip
