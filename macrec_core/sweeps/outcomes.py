"""What became of a sweep's experiments, from `dvc exp show --json`."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from macrec_core.errors import MacrecError
from macrec_core.sweeps.commands import Value, experiment_name

log = logging.getLogger(__name__)

HR, NDCG = RANKING = ("hr@10", "ndcg@10")
_COLLISIONS = "collision_rate_"
_SUMMARY = "metrics/summary.json"


@dataclass(frozen=True)
class Outcome:
    """One value of a sweep on one dataset.

    Attributes:
        dataset: name.
        value: of the hyper-parameter.
        missing: why there are no figures; empty where there are.
        seeds: that the figures are means over.
        figures: by metric, `mean` and, of two seeds or more, `std`: HR@10, NDCG@10 and a
            collision rate for each modality.
    """

    dataset: str
    value: Value
    missing: str
    seeds: int
    figures: Mapping[str, Mapping[str, float]]


def read_outcomes(
    path: Path, name: str, values: Sequence[Value], variant: str, datasets: Sequence[str]
) -> list[Outcome]:
    """The outcome of every value on every dataset; missing ones are logged with their reason.

    Args:
        path: what `dvc exp show --json` printed.
        name: of the sweep.
        values: of its grid.
        variant: that was swept.
        datasets: names.

    Raises:
        MacrecError: the file is no such output, an experiment occurs twice, or none of the
            sweep's has figures.
    """
    experiments = list(_experiments(path))
    found = []
    for value in values:
        wanted = experiment_name(name, variant, value)
        named = [entry for entry in experiments if entry.get("name") == wanted]
        if len(named) > 1:
            raise MacrecError(
                f"{path}: experiment {wanted} occurs {len(named)} times; show the experiments of "
                "one commit, or remove the older one (dvc exp remove)"
            )
        summary, reason = _summary(named[0]) if named else (None, "no such experiment")
        for dataset in datasets:
            found.append(_outcome(dataset, value, summary, reason, variant))
    _tell_missing(name, variant, found)
    if all(outcome.missing for outcome in found):
        raise MacrecError(
            f"{path}: no experiment of sweep {name} has figures of {variant}; queue them "
            f"(`python -m stages sweep {name} --variant {variant}`), run `dvc queue start`, and "
            "show them again"
        )
    return found


def _tell_missing(name: str, variant: str, found: Sequence[Outcome]) -> None:
    absent = [outcome for outcome in found if outcome.missing]
    if absent:
        log.warning("%d of %d points of the sweep are missing", len(absent), len(found))
    for outcome in absent:
        experiment = experiment_name(name, variant, outcome.value)
        log.warning("missing: %s on %s: %s", experiment, outcome.dataset, outcome.missing)


def _experiments(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of all experiments, whatever commit they started from."""
    try:
        shown = json.loads(path.read_text())
        for commit in shown:
            yield from commit.get("experiments") or []
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise MacrecError(
            f"{path}: is no output of `dvc exp show --json` ({error}); make it again"
        ) from error


def _summary(entry: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """An experiment's `summary.json`, or None and why there is none."""
    state = (entry.get("executor") or {}).get("state")
    if state in ("queued", "running", "failed"):
        return None, f"{state}"
    last = (entry.get("revs") or [{}])[0]
    if last.get("error"):
        return None, f"{last['error'].get('msg', 'unreadable')}"
    metrics = (last.get("data") or {}).get("metrics") or {}
    summary = (metrics.get(_SUMMARY) or {}).get("data")
    return (summary, "") if summary else (None, f"no {_SUMMARY}")


def _outcome(
    dataset: str, value: Value, summary: Mapping[str, Any] | None, reason: str, variant: str
) -> Outcome:
    row = None if summary is None else summary.get(dataset, {}).get(variant)
    if row is None:
        return Outcome(dataset, value, reason or f"no row of {variant}", 0, {})
    if "missing" in row:
        return Outcome(dataset, value, f"missing: {row['missing']}", 0, {})
    names = [*RANKING, *sorted(key for key in row if key.startswith(_COLLISIONS))]
    return Outcome(dataset, value, "", row["seeds"], {key: row[key] for key in names})


def collisions_of(outcomes: Sequence[Outcome]) -> list[str]:
    """Names of the collision rates that occur."""
    return sorted({key for o in outcomes for key in o.figures if key.startswith(_COLLISIONS)})


def modality_of(metric: str) -> str:
    """The modality of a collision rate."""
    return metric.removeprefix(_COLLISIONS)


def outcomes_csv(outcomes: Sequence[Outcome]) -> str:
    """A line a value and dataset; what is missing says why and leaves its figures empty."""
    metrics = [*RANKING, *collisions_of(outcomes)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = [f"{metric} {kind}" for metric in metrics for kind in ("mean", "std")]
    writer.writerow(["dataset", "value", "missing", "seeds", *head])
    for outcome in outcomes:
        figures = [
            outcome.figures.get(metric, {}).get(kind, "")
            for metric in metrics
            for kind in ("mean", "std")
        ]
        value = f"{outcome.value:g}"
        writer.writerow([outcome.dataset, value, outcome.missing, outcome.seeds, *figures])
    return text.getvalue()
