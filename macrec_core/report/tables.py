"""Tables 1, 3 and 4, and those beside Table 2 and Figure 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from macrec_core.report import published
from macrec_core.report.datasets import Dataset
from macrec_core.report.markdown import table
from macrec_core.report.marks import Lead
from macrec_core.report.results import ONLY_PUBLISHED, number, own_modalities
from macrec_core.report.summary import STATISTICS

_ABLATION = "without_"
_FULL = "macrec"


def statistics_table(summary: Mapping[str, Any]) -> str:
    """Table 1: what `filter` left, and the paper's figures where it has the dataset."""
    head = ["dataset", "", "users", "items", "interactions", "sparsity", "average length"]
    rows = []
    for dataset, part in summary.items():
        found = part["statistics"]
        if "missing" in found:
            rows.append([dataset, "here", "missing", *[""] * (len(STATISTICS) - 1)])
        else:
            rows.append([dataset, "here", *_statistics(found)])
        if dataset in published.STATISTICS:
            rows.append([dataset, "published", *_statistics(published.STATISTICS[dataset])])
    return table(head, rows, 2)


def _statistics(values: Mapping[str, float]) -> list[str]:
    counts = [f"{values[name]:.0f}" for name in STATISTICS[:3]]
    return [*counts, f"{100 * values['sparsity']:.2f}%", f"{values['average_length']:.2f}"]


def same_split(dataset: str, statistics: Mapping[str, Any]) -> bool:
    """Whether users, items and interactions are as many as the paper's."""
    paper = published.STATISTICS[dataset]
    return all(statistics.get(name) == paper[name] for name in STATISTICS[:3])


def ablation_table(summary: Mapping[str, Any], variants: Sequence[str]) -> str | None:
    """Table 3: HR@10 of MACRec and what is left without a part; None if no ablation runs.

    Args:
        summary: of `summarise`.
        variants: that run, in their order.
    """
    ablated = [name for name in variants if name.startswith(_ABLATION)]
    if not ablated:
        return None
    papers = [d for d in summary if d in published.ABLATIONS]
    rows = [_FULL, *ablated]
    rows += [r for d in papers[:1] for r in published.ABLATIONS[d] if r not in rows]
    head = ["variant"]
    for dataset in summary:
        head += [dataset, f"{dataset} published"] if dataset in papers else [dataset]
    lines = []
    for row in rows:
        line = [row]
        for dataset, part in summary.items():
            line.append(_headline(part, row, "hr@10"))
            if dataset in papers:
                paper = published.ABLATIONS[dataset]
                line.append(f"{paper[row]:.4f}" if row in paper else "")
        lines.append(line)
    return table(head, lines, 1)


def _headline(part: Mapping[str, Any], row: str, metric: str) -> str:
    if row not in part:
        return "not run"
    if "missing" in part[row]:
        return f"missing: {part[row]['missing']}"
    return number(part[row][metric])


def collision_table(
    summary: Mapping[str, Any], variants: Sequence[str], modalities: Sequence[str]
) -> str | None:
    """Table 4: collision rates before reassignment; None where nothing has semantic IDs.

    Args:
        summary: of `summarise`.
        variants: that run, in their order.
        modalities: in their order; further ones of a variant follow.
    """
    found = [
        own_modalities(part.get(v, {}), modalities) for part in summary.values() for v in variants
    ]
    columns = [*dict.fromkeys(m for m in modalities if any(m in f for f in found))]
    columns += sorted({m for f in found for m in f} - set(columns))
    papers = {d: rows for d, rows in published.COLLISIONS.items() if d in summary}
    printed = [m for m in ("text", "image") if papers]
    rows = []
    for dataset, part in summary.items():
        paper = papers.get(dataset, {})
        names = [v for v in variants if v in part]
        for name in [*names, *(p for p in paper if p not in names)]:
            line = _collisions(part, name, columns)
            line += [f"{paper[name][m]:.2f}" if name in paper else "" for m in printed]
            rows.append([dataset, name, *line])
    if not rows or not columns:
        return None
    return table(["dataset", "variant", *columns, *(f"{m} published" for m in printed)], rows, 2)


def _collisions(part: Mapping[str, Any], name: str, columns: Sequence[str]) -> list[str]:
    if name not in part or "missing" in part[name]:
        why = f"missing: {part[name]['missing']}" if name in part else ONLY_PUBLISHED
        return [why, *[""] * (len(columns) - 1)]
    rates = [part[name].get(f"collision_rate_{m}") for m in columns]
    return ["-" if rate is None else _percent(rate) for rate in rates]


def _percent(spread: Mapping[str, float]) -> str:
    text = f"{100 * spread['mean']:.2f}"
    return f"{text} ± {100 * spread['std']:.2f}" if "std" in spread else text


def lead_table(found: Sequence[tuple[str, str, Lead]]) -> str:
    """Our rows against the best baseline.

    Args:
        found: dataset, metric and lead.
    """
    head = ["dataset", "metric", "row", "best baseline", "difference", "interval over users"]
    head += ["p bootstrap", "adjusted", "p t-test", "adjusted", "interval over seeds"]
    rows = []
    for dataset, metric, lead in found:
        test, seeds = lead.test, lead.test.get("seeds")
        rows.append(
            [
                dataset, metric.upper(), lead.row, lead.baseline, f"{test['difference']:+.4f}",
                _interval(test), *[_p(test[name]) for name in ("p_bootstrap", "p_bootstrap_holm")],
                *[_p(test[name]) for name in ("p_t", "p_t_holm")],
                f"{_interval(seeds)}, {seeds['count']} seeds" if seeds else "one seed",
            ]
        )  # fmt: skip
    return table(head, rows, 4)


def _interval(test: Mapping[str, float]) -> str:
    return f"{test['low']:+.4f} to {test['high']:+.4f}"


def _p(value: float) -> str:
    return "< .0001" if value < 0.0001 else f"{value:.4f}".removeprefix("0")


def agreement_table(datasets: Sequence[Dataset], modalities: Sequence[str]) -> str | None:
    """Figure 1 in numbers: how embeddings agree with brand and type; None without any."""
    head = ["dataset", "modality", "of", "classes", "items without"]
    head += ["purity of clusters", "by chance", "neighbours alike", "by chance"]
    rows = []
    for dataset in datasets:
        measured = (dataset.embeddings or {}).get("modalities", {})
        for modality in modalities:
            for name, found in measured.get(modality, {}).items():
                shares = ("purity", "purity_chance", "neighbours", "neighbours_chance")
                figures = [f"{found[share]:.3f}" for share in shares]
                counts = [str(found["classes"]), str(found["without"])]
                rows.append([dataset.name, modality, name, *counts, *figures])
    return table(head, rows, 3) if rows else None
