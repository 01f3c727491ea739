"""What was measured for one dataset, variant and seed, as read from its metric files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from macrec_core.artifacts import read_json
from macrec_core.recommendations import CANDIDATES


@dataclass(frozen=True)
class Cell:
    """One combination of the matrix.

    Attributes:
        dataset: name.
        variant: name.
        seed: random seed.
        quantizer: metrics of train_rqvae; None where IDs are imported.
        semantic_ids: metrics of assign_sids or import_sids.
        recommender: metrics of train_gr.
        evaluation: metrics of evaluate.
    """

    dataset: str
    variant: str
    seed: int
    quantizer: dict[str, Any] | None
    semantic_ids: dict[str, Any]
    recommender: dict[str, Any]
    evaluation: dict[str, Any]

    @property
    def name(self) -> str:
        """As in DVC's stage names: dataset-variant-seed."""
        return f"{self.dataset}-{self.variant}-{self.seed}"


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
) -> list[Cell]:
    """Read exactly the named cells; a missing file is an error, never a smaller table.

    Args:
        folder: holds `<dataset>/<variant>/s<seed>/<stage>.json`.
        datasets: names.
        variants: names.
        seeds: random seeds.
        imported: those of `datasets` whose IDs are imported.

    Raises:
        MacrecError: a file is missing or broken.
    """
    cells = []
    for dataset in datasets:
        ids_stage = "import_sids" if dataset in imported else "assign_sids"
        for variant in variants:
            for seed in seeds:
                home = folder / dataset / variant / f"s{seed}"
                quantizer = home / "train_rqvae.json"
                cells.append(
                    Cell(
                        dataset,
                        variant,
                        seed,
                        None if dataset in imported else read_json(quantizer),
                        read_json(home / f"{ids_stage}.json"),
                        read_json(home / "train_gr.json"),
                        read_json(home / "evaluate.json"),
                    )
                )
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
