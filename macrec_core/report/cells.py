"""What was measured for one dataset, variant and seed, as read from its metric files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from macrec_core.artifacts import read_json
from macrec_core.ranking import ENSEMBLE
from macrec_core.recommendations import CANDIDATES


@dataclass(frozen=True)
class Cell:
    """One combination of the matrix.

    Attributes:
        dataset: name.
        variant: name, of a variant or a baseline.
        seed: random seed.
        quantizer: metrics of train_rqvae; None where IDs are imported or clustered, and of
            baselines.
        semantic_ids: metrics of assign_sids, import_sids or cluster_sids; None of baselines.
        recommender: metrics of train_gr or train_baseline.
        evaluation: metrics of evaluate or evaluate_baseline.
    """

    dataset: str
    variant: str
    seed: int
    quantizer: dict[str, Any] | None
    semantic_ids: dict[str, Any] | None
    recommender: dict[str, Any]
    evaluation: dict[str, Any]

    @property
    def name(self) -> str:
        """As in DVC's stage names: dataset-variant-seed."""
        return f"{self.dataset}-{self.variant}-{self.seed}"

    def ranking(self, candidates: str) -> dict[str, float]:
        """HR and NDCG of a set of candidates: of the ensemble, or of the only list there is."""
        lists: dict[str, dict[str, float]] = self.evaluation[candidates]
        return lists[ENSEMBLE if self.semantic_ids is not None else self.variant]


@dataclass(frozen=True)
class Dataset:
    """What was measured for one dataset whatever the variant.

    Attributes:
        name: its name.
        statistics: metrics of filter (Table 1 and what was dropped).
        yardsticks: by set of candidates, metrics by name of ranking: random, popularity,
            last_item, item_knn and, where known, oracle.
        yardstick_users: test users that they were measured on.
    """

    name: str
    statistics: dict[str, Any]
    yardsticks: dict[str, dict[str, dict[str, float]]]
    yardstick_users: int


def read_cells(
    folder: Path,
    datasets: Sequence[str],
    variants: Sequence[str],
    seeds: Sequence[int],
    imported: Sequence[str],
    clustered: Sequence[str] = (),
) -> list[Cell]:
    """Read exactly the named cells; a missing file is an error, never a smaller table.

    Args:
        folder: holds `<dataset>/<variant>/s<seed>/<stage>.json`.
        datasets: names.
        variants: names.
        seeds: random seeds.
        imported: those of `datasets` whose IDs are imported.
        clustered: those of `variants` whose IDs are clusters, whatever the data set.

    Raises:
        MacrecError: a file is missing or broken.
    """
    cells = []
    for dataset in datasets:
        for variant in variants:
            ids_stage = "import_sids" if dataset in imported else "assign_sids"
            ids_stage = "cluster_sids" if variant in clustered else ids_stage
            for seed in seeds:
                home = folder / dataset / variant / f"s{seed}"
                quantizer = home / "train_rqvae.json"
                cells.append(
                    Cell(
                        dataset,
                        variant,
                        seed,
                        read_json(quantizer) if ids_stage == "assign_sids" else None,
                        read_json(home / f"{ids_stage}.json"),
                        read_json(home / "train_gr.json"),
                        read_json(home / "evaluate.json"),
                    )
                )
    return cells


def read_baselines(
    folder: Path, datasets: Sequence[str], baselines: Sequence[str], seeds: Sequence[int]
) -> list[Cell]:
    """Read exactly the named baselines' cells; see `read_cells`.

    Raises:
        MacrecError: a file is missing or broken.
    """
    cells = []
    for dataset, baseline, seed in product(datasets, baselines, seeds):
        home = folder / dataset / baseline / f"s{seed}"
        trained = read_json(home / "train_baseline.json")
        evaluated = read_json(home / "evaluate_baseline.json")
        cells.append(Cell(dataset, baseline, seed, None, None, trained, evaluated))
    return cells


def read_datasets(folder: Path, names: Sequence[str]) -> list[Dataset]:
    """Read what is measured once a dataset.

    Raises:
        MacrecError: a file is missing or broken.
    """
    datasets = []
    for name in names:
        statistics = read_json(folder / name / "filter.json")
        measured: dict[str, Any] = read_json(folder / name / "yardsticks.json")
        figures = {candidates: measured[candidates] for candidates in CANDIDATES}
        datasets.append(Dataset(name, statistics, figures, measured["users"]))
    return datasets
