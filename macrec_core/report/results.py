"""Table 2: every row of every dataset, ours and, beside it, published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from macrec_core.recommendations import ALL_ITEMS, UNSEEN_ITEMS
from macrec_core.report import published
from macrec_core.report.markdown import table
from macrec_core.report.marks import emphasised
from macrec_core.report.summary import ORACLE, RANKING, YARDSTICKS

# Of the second set of candidates the table shows these.
_UNSEEN_SHOWN = ("hr@1", "hr@10", "ndcg@10")
_MEASURED = [(ALL_ITEMS, metric) for metric in RANKING] + [
    (UNSEEN_ITEMS, metric) for metric in _UNSEEN_SHOWN
]
ONLY_PUBLISHED = "only published"

# Metrics in which a row is significantly better than the best baseline, by dataset and row.
Stars = Mapping[str, Mapping[str, Sequence[tuple[str, str]]]]


def results_table(
    summary: Mapping[str, Any], rows: Sequence[str], modalities: Sequence[str], stars: Stars
) -> str:
    """Markdown: dataset x row, with yardsticks for scale, for both sets of candidates.

    "updates" made the exported model; what followed gave no better validation value. A part of
    the users shows in the row, and so does a budget of updates (`gr.max_steps`) that ended the
    training. Published figures have columns of their own, where the paper has a dataset.

    Args:
        summary: of `summarise`.
        rows: baselines and variants, in their order.
        modalities: in their order; further ones of a variant follow.
        stars: (candidates, metric) that get an asterisk.
    """
    with_paper = any(dataset in published.RESULTS for dataset in summary)
    head = ["dataset", "variant", *[name.upper() for name in RANKING]]
    head += [f"{name.upper()} published" for name in RANKING] if with_paper else []
    head += [f"unseen {name.upper()}" for name in _UNSEEN_SHOWN]
    head += ["collisions %", "codes in use %", "users", "updates", "seeds"]
    lines = []
    for dataset, part in summary.items():
        paper = published.RESULTS.get(dataset, {})
        names = _names(part, rows, paper)
        shown = _shown(part, names, stars.get(dataset, {}))
        for name in names:
            printed = [f"{paper[name][m]:.4f}" if name in paper else "" for m in RANKING]
            figures = [*shown[name][: len(RANKING)], *(printed if with_paper else [])]
            figures += shown[name][len(RANKING) :]
            label = f"*{name}*" if name in YARDSTICKS else name
            lines.append([dataset, label, *figures, *_rest(part, name, modalities)])
    return table(head, lines, 2)


def _names(part: Mapping[str, Any], rows: Sequence[str], paper: Mapping[str, object]) -> list[str]:
    """Rows of a dataset: yardsticks, what ran here, what is only published; the oracle last."""
    names = [name for name in YARDSTICKS if name != ORACLE and name in part]
    names = names or ["yardsticks"]
    names += [name for name in rows if name in part]
    names += [name for name in paper if name not in names]
    return names + [ORACLE] * (ORACLE in part)


def _shown(
    part: Mapping[str, Any],
    names: Sequence[str],
    stars: Mapping[str, Sequence[tuple[str, str]]],
) -> dict[str, list[str]]:
    """By row, the texts of all measured columns."""
    shown: dict[str, list[str]] = {name: [] for name in names}
    measured = [name for name in names if name in part and "missing" not in part[name]]
    for candidates, metric in _MEASURED:
        spreads = {name: _spread(part[name][candidates][metric]) for name in measured}
        values = {name: spread["mean"] for name, spread in spreads.items()}
        texts = emphasised(values, {name: number(spread) for name, spread in spreads.items()})
        for name, text in texts.items():
            star = (candidates, metric) in stars.get(name, ())
            shown[name].append(f"{text} *" if star else text)
    for name in set(names) - set(measured):
        shown[name] = [_why(part, name), *[""] * (len(_MEASURED) - 1)]
    return shown


def _why(part: Mapping[str, Any], name: str) -> str:
    """Why a row has no figures."""
    if name in part:
        return f"missing: {part[name]['missing']}"
    return "missing" if name == "yardsticks" else ONLY_PUBLISHED


def _spread(value: Mapping[str, float] | float) -> Mapping[str, float]:
    """A yardstick has a number, whatever runs with seeds a mean."""
    return value if isinstance(value, Mapping) else {"mean": value}


def number(spread: Mapping[str, float]) -> str:
    """Mean and, if there is one, standard deviation."""
    text = f"{spread['mean']:.4f}"
    return f"{text} ± {spread['std']:.4f}" if "std" in spread else text


def own_modalities(row: Mapping[str, Any], modalities: Sequence[str]) -> list[str]:
    """Modalities of a row's semantic IDs: those named, in their order, then others."""
    prefix = "collision_rate_"
    found = [key.removeprefix(prefix) for key in row if key.startswith(prefix)]
    return [m for m in modalities if m in found] + sorted(set(found) - set(modalities))


def _rest(part: Mapping[str, Any], name: str, modalities: Sequence[str]) -> list[str]:
    """Collisions, codes in use, users, updates and seeds."""
    row = part.get(name)
    if row is None:
        return [""] * 5
    if "missing" in row:
        return ["", "", "", "", f"{row['seeds']} measured"]
    everyone = part["statistics"].get("num_users")
    if name in YARDSTICKS:
        return ["", "", _part_of(row["users"], everyone), "", ""]
    shares = []
    for kind in ("collision_rate", "codebook_use"):
        keys = {m: f"{kind}_{m}" for m in own_modalities(row, modalities)}
        found = {m: row[key]["mean"] for m, key in keys.items() if key in row}
        shares.append(", ".join(f"{m} {100 * value:.1f}" for m, value in found.items()))
    updates = f"{row['updates']['mean']:.0f}" if "updates" in row else ""
    if "max_steps" in row["stopped_by"]:
        updates += " (budget)"
    return [*shares, _part_of(row["users"]["mean"], everyone), updates, str(row["seeds"])]


def _part_of(users: float, everyone: int | None) -> str:
    if everyone is None:
        return f"{users:.0f}"
    return str(everyone) if users == everyone else f"{users:.0f} of {everyone}"
