"""What was measured for one dataset whatever the variant, as read from its metric files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from macrec_core.artifacts import read_json
from macrec_core.recommendations import CANDIDATES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """What was measured for one dataset whatever the variant.

    Attributes:
        name: its name.
        statistics: metrics of filter (Table 1 and what was dropped); None where it did not run.
        yardsticks: by set of candidates, metrics by name of ranking: random, popularity,
            last_item, item_knn, ease and, where known, oracle; empty where they were not measured.
        yardstick_users: users that they were measured on.
        significance: tests of all pairs of rows; None where there are none.
        embeddings: how embeddings agree with brands and types; None where it was not measured.
    """

    name: str
    statistics: dict[str, Any] | None
    yardsticks: dict[str, dict[str, dict[str, float]]]
    yardstick_users: int
    significance: dict[str, Any] | None = None
    embeddings: dict[str, Any] | None = None


def read_datasets(
    folder: Path, names: Sequence[str], imported: Sequence[str], modalities: Sequence[str]
) -> list[Dataset]:
    """Read what is measured once a dataset; what does not exist is left empty, and logged.

    What lacks a file of a stage before it counts as absent: it tells of an earlier run.

    Args:
        folder: holds `<dataset>/<stage>.json`.
        names: of the datasets.
        imported: those of them without embeddings.
        modalities: whose embeddings are drawn.

    Raises:
        MacrecError: a file is broken.
    """
    datasets = []
    embedded = ["filter", *(f"embed_{modality}" for modality in modalities), "pseudo_labels"]
    for name in names:
        stages: dict[str, list[str]] = {"filter": [], "yardsticks": ["filter"], "significance": []}
        stages |= {} if name in imported else {"plot_embeddings": embedded}
        found = {stage: _optional(folder / name, stage, before) for stage, before in stages.items()}
        measured: dict[str, Any] = found["yardsticks"] or {}
        figures = {candidates: measured.get(candidates, {}) for candidates in CANDIDATES}
        datasets.append(
            Dataset(
                name, found["filter"], figures, measured.get("users", 0), found["significance"],
                found.get("plot_embeddings"),
            )
        )  # fmt: skip
    return datasets


def _optional(home: Path, stage: str, before: Sequence[str]) -> dict[str, Any] | None:
    """Metrics of a dataset's stage, if they and those of the stages before it are there."""
    files = [home / f"{name}.json" for name in (*before, stage)]
    absent = ", ".join(str(path) for path in files if not path.exists())
    if absent:
        log.warning("missing: %s; the report goes on without %s", absent, stage)
        return None
    return read_json(files[-1])
