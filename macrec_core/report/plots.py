"""Small CSV tables behind `dvc plots`: long form, one `cell` column names the curve."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from macrec_core.recommendations import ALL_ITEMS, UNSEEN_ITEMS
from macrec_core.report.cells import Cell
from macrec_core.report.summary import RANKING

Rows = Iterable[Sequence[Any]]

# Figure 4 shows the second codebook layer.
_FIGURE_4_LEVEL = 1


def plot_tables(cells: Sequence[Cell], exclude_seen: bool) -> dict[str, str]:
    """CSV text by file name; ranking metrics of one set of candidates, as in `summarise`."""
    candidates = UNSEEN_ITEMS if exclude_seen else ALL_ITEMS
    return {
        "quantizer_loss.csv": _csv(("cell", "epoch", "loss"), _quantizer(cells, "loss")),
        "collision_rate.csv": _csv(
            ("cell", "epoch", "collision_rate"), _quantizer(cells, "collision_rate_")
        ),
        "unexplained_variance.csv": _csv(
            ("cell", "epoch", "unexplained"), _quantizer(cells, "unexplained_")
        ),
        "recommender_loss.csv": _csv(("cell", "epoch", "loss"), _recommender(cells)),
        "items_a_code.csv": _csv(("cell", "codeword", "items"), _items_a_code(cells)),
        "ranking.csv": _csv(("cell", *RANKING), _ranking(cells, candidates)),
    }


def _quantizer(cells: Sequence[Cell], prefix: str) -> Rows:
    for cell in cells:
        if cell.quantizer is None:
            continue
        for row in cell.quantizer["history"]:
            for name in sorted(n for n in row if n == prefix or n.startswith(prefix)):
                series = f"{cell.name} {name.removeprefix(prefix)}".strip()
                yield series, int(row["epoch"]), f"{row[name]:.6g}"


def _recommender(cells: Sequence[Cell]) -> Rows:
    for cell in cells:
        if cell.semantic_ids is None or cell.recommender is None:  # no T5
            continue
        for row in cell.recommender["history"]:
            for name, label in (("rec", "training"), ("validation_loss", "validation")):
                yield f"{cell.name} {label}", int(row["epoch"]), f"{row[name]:.6g}"


def _items_a_code(cells: Sequence[Cell]) -> Rows:
    for cell in cells:
        for modality, metrics in (cell.semantic_ids or {}).items():
            if not isinstance(metrics, dict) or "items_a_code" not in metrics:
                continue
            levels = metrics["items_a_code"]
            counts = levels[min(_FIGURE_4_LEVEL, len(levels) - 1)]
            for place, count in enumerate(counts):
                yield f"{cell.name} {modality}", place, count


def _ranking(cells: Sequence[Cell], candidates: str) -> Rows:
    for cell in cells:
        figures = cell.ranking(candidates)
        yield (cell.name, *[f"{figures[name]:.6f}" for name in RANKING])


def _csv(head: Sequence[str], rows: Rows) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
