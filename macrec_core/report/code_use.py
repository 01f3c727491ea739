"""From cells to Figure 4's lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from macrec_core.report.cells import Cells
from macrec_core.report.summary import modalities_of

if TYPE_CHECKING:
    from macrec_core.figures.code_use import CodeUse


def code_uses(
    cells: Cells, dataset: str, modalities: Sequence[str]
) -> dict[str, dict[str, CodeUse]]:
    """Use of codes by modality and variant, mean over seeds; rows that lack one are left out.

    Args:
        cells: measured and missing.
        dataset: whose.
        modalities: in their order; further ones of a variant follow.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for cell in cells.measured:
        if cell.dataset != dataset or cells.seeds_missing(dataset, cell.variant):
            continue
        for modality, metrics in modalities_of(cell).items():
            if "codebook_use" not in metrics:  # clusters have no codebooks
                continue
            found.setdefault(modality, {}).setdefault(cell.variant, []).append(metrics)
    if not found:
        return {}
    # Only a report that draws needs matplotlib.
    from macrec_core.figures.code_use import CodeUse

    order = [m for m in modalities if m in found] + sorted(set(found) - set(modalities))
    return {
        modality: {
            variant: CodeUse(
                _mean(seeds, "items_a_code"), _mean(seeds, "code_entropy"),
                _mean(seeds, "codebook_use"),
            )
            for variant, seeds in found[modality].items()
        }
        for modality in order
    }  # fmt: skip


def _mean(seeds: Sequence[dict[str, Any]], name: str) -> NDArray[np.float64]:
    average: NDArray[np.float64] = np.mean([metrics[name] for metrics in seeds], axis=0)
    return average


def draw_all(cells: Cells, datasets: Sequence[str], modalities: Sequence[str]) -> dict[str, bytes]:
    """Figure 4 of each dataset that has semantic IDs, as PNG."""
    pictures = {}
    for dataset in datasets:
        uses = code_uses(cells, dataset, modalities)
        if uses:
            from macrec_core.figures.code_use import draw_code_use

            pictures[dataset] = draw_code_use(dataset, uses)
    return pictures
