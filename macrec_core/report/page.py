"""The whole section as one Markdown page: Tables 1 to 4, Figures 1 and 4, how each was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from macrec_core.recommendations import ALL_ITEMS, UNSEEN_ITEMS
from macrec_core.report import published
from macrec_core.report.cells import Cells
from macrec_core.report.datasets import Dataset
from macrec_core.report.marks import Lead, leads, significance_of, untested
from macrec_core.report.results import results_table
from macrec_core.report.tables import (
    ablation_table,
    agreement_table,
    collision_table,
    lead_table,
    same_split,
    statistics_table,
)


@dataclass(frozen=True)
class Layout:
    """What stands where.

    Attributes:
        baselines: in the order of their rows.
        variants: likewise, below them.
        ensembles: likewise.
        modalities: in the order of their columns; further ones of a variant follow.
        ours: beginnings of our rows' names (`report.ours`).
        exclude_seen: whether the headline is that without items bought before.
        split: whose targets were measured, test or valid.
        figures: of the codes' use, by dataset: file below the page's folder.
        embeddings: pictures of the embeddings, likewise.
    """

    baselines: Sequence[str]
    variants: Sequence[str]
    ensembles: Sequence[str]
    modalities: Sequence[str]
    ours: Sequence[str]
    exclude_seen: bool
    split: str
    figures: Mapping[str, str]
    embeddings: Mapping[str, str]

    @property
    def candidates(self) -> str:
        """Of the headline."""
        return UNSEEN_ITEMS if self.exclude_seen else ALL_ITEMS


def results_page(
    summary: Mapping[str, Any], cells: Cells, datasets: Sequence[Dataset], layout: Layout
) -> str:
    """The Markdown text.

    Args:
        summary: of `summarise`.
        cells: measured and missing.
        datasets: in their order.
        layout: what stands where.
    """
    parts = ["# Results", _missing(cells), "## Table 1: statistics of the datasets"]
    parts += ["What the stage `filter` left of the raw data.", statistics_table(summary)]
    parts += _table_2(summary, datasets, layout)
    parts += _ablations(summary, layout)
    parts += _collisions(summary, layout)
    parts += _figures(datasets, layout)
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _missing(cells: Cells) -> str:
    origin = "Written by the stage `report` from the metric files of `metrics/cells`."
    if not cells.missing:
        return f"{origin} No cell is missing."
    total = len(cells.measured) + len(cells.missing)
    return (
        f"{origin} **{len(cells.missing)} of {total} cells (dataset, row, seed) are missing**; "
        "their rows say which seeds, and have no mean."
    )


def _table_2(summary: Mapping[str, Any], datasets: Sequence[Dataset], layout: Layout) -> list[str]:
    found: list[tuple[str, str, Lead]] = []
    reasons, confidence, draws = [], 0.0, 0
    for dataset in datasets:
        part = summary[dataset.name]
        tests, reason = significance_of(dataset, part, layout.candidates)
        if tests is None:
            reasons.append(f"{dataset.name}: no tests, {reason}.")
            continue
        left_out = untested(tests, part)
        if left_out:
            names = ", ".join(f"`{row}`" for row in left_out)
            reasons.append(f"{dataset.name}: not tested, for lack of lists: {names}.")
        confidence, draws = tests["confidence"], tests["bootstrap_draws"]
        for metric in tests["means"]:
            found += [(dataset.name, metric, d) for d in leads(tests, part, metric, layout.ours)]
    stars: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for name, metric, lead in found:
        if lead.significant:
            marked = stars.setdefault(name, {}).setdefault(lead.row, [])
            marked.append((layout.candidates, metric))
    rows = [*layout.baselines, *layout.variants, *layout.ensembles]
    parts = [
        "## Table 2: results",
        results_table(summary, rows, layout.modalities, stars),
        _legend(layout),
        *_splits(summary),
        *reasons,
    ]
    if found:
        parts += [_tests(confidence, draws), lead_table(found)]
    return parts


def _legend(layout: Layout) -> str:
    ours = " or ".join(f"`{name}`" for name in layout.ours)
    targets = "" if layout.split == "test" else f"**Targets of the split `{layout.split}`.** "
    return (
        f"{targets}Mean ± standard deviation over seeds. HR and NDCG of all items of the "
        "catalogue, every user counted; columns named *unseen* leave out what the user has bought "
        "before. In each column the best is **bold**, the second _italic_, the oracle left out. "
        f"Rows whose names begin with {ours} are ours, all others but the oracle are baselines; * "
        "after HR@10 or NDCG@10 marks one of ours that is significantly better than the best "
        "baseline (below). Collisions before reassignment and codes in use are by modality."
    )


def _splits(summary: Mapping[str, Any]) -> list[str]:
    """Whether ours and the published figures are of one split."""
    notes = []
    for dataset, part in summary.items():
        if dataset in published.STATISTICS:
            note = f"{dataset}: columns named *published* are the paper's. Users, items and "
            if "missing" in part["statistics"]:
                note += "interactions here are unknown: the stage `filter` has not run."
            elif same_split(dataset, part["statistics"]):
                note += "interactions here are as many as in its Table 1: ours, same split."
            else:
                note += "interactions here are not as many as in its Table 1: **another split**."
            notes.append(note)
    return notes


def _tests(confidence: float, draws: int) -> str:
    return (
        "Tests by the stage `significance`: a user's value is the mean over seeds, pairs are of "
        f"the same users; paired bootstrap of {draws} resamples and paired t-test, two-sided; "
        "*adjusted* by Holm over all pairs of rows of dataset and metric. An asterisk needs an "
        f"adjusted bootstrap p below {1 - confidence:.2g}. Intervals hold with "
        f"{100 * confidence:.4g} %; the one over users says nothing about other seeds."
    )


def _ablations(summary: Mapping[str, Any], layout: Layout) -> list[str]:
    text = ablation_table(summary, layout.variants)
    if text is None:
        return []
    what = "unseen items" if layout.exclude_seen else "all items"
    return ["## Table 3: ablations", f"HR@10 of {what}, mean ± deviation over seeds.", text]


def _collisions(summary: Mapping[str, Any], layout: Layout) -> list[str]:
    text = collision_table(summary, layout.variants, layout.modalities)
    if text is None:
        return []
    note = (
        "Percent of items, (N - distinct IDs) / N, by modality, before reassignment (after it "
        "learned IDs are unique; imported ones stay as published)."
    )
    return ["## Table 4: collisions", note, text]


def _figures(datasets: Sequence[Dataset], layout: Layout) -> list[str]:
    parts = []
    if layout.embeddings:
        parts.append("## Figure 1: embeddings by brand and type")
        parts += [f"![Embeddings, {name}]({file})" for name, file in layout.embeddings.items()]
        parts.append(
            "t-SNE by the stage `plot_embeddings`. A picture proves nothing, hence: *purity*, "
            "the share of items that are of their pseudo-label's commonest brand or type, and "
            "*neighbours alike*, the share of an item's nearest by cosine that are of its own. "
            "Items without one take no part in either. *By chance*: of shuffled items."
        )
        parts.append(agreement_table(datasets, layout.modalities) or "")
    if layout.figures:
        parts.append("## Figure 4: items a codeword")
        parts += [f"![Codes in use, {name}]({file})" for name, file in layout.figures.items()]
        parts.append(
            "Drawn by the stage `report`: codewords of each level by their number of items "
            "before reassignment, mean over seeds; H is the entropy as a share of its maximum, "
            "then the share of codewords in use."
        )
    return parts
