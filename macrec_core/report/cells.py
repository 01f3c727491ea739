"""What was measured for one dataset, variant and seed, as read from its metric files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from macrec_core.artifacts import read_json
from macrec_core.ranking import ENSEMBLE, YARDSTICKS

if TYPE_CHECKING:
    from macrec_core.params.evaluation import EnsembleSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """One combination of the matrix.

    Attributes:
        dataset: name.
        variant: name, of a variant, a baseline or an ensemble.
        seed: random seed.
        quantizer: metrics of train_rqvae; None where IDs are imported or clustered, and of
            baselines.
        semantic_ids: metrics of assign_sids, import_sids or cluster_sids; None of baselines.
        recommender: metrics of train_gr or train_baseline; None of ensembles.
        evaluation: metrics of evaluate, evaluate_baseline or ensembles.
    """

    dataset: str
    variant: str
    seed: int
    quantizer: dict[str, Any] | None
    semantic_ids: dict[str, Any] | None
    recommender: dict[str, Any] | None
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
class MissingCell:
    """A combination of the matrix that was not measured.

    Attributes:
        dataset: name.
        variant: name, of a variant, a baseline or an ensemble.
        seed: random seed.
        files: metric files that do not exist: its own, or of a stage before it. What stages after
            that one have left tells of an earlier run. Of an ensemble also artifacts, where only
            those are gone.
    """

    dataset: str
    variant: str
    seed: int
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Cells:
    """All combinations that were asked for.

    Attributes:
        measured: with all their metrics.
        missing: the others.
    """

    measured: list[Cell] = field(default_factory=list)
    missing: list[MissingCell] = field(default_factory=list)

    def __add__(self, other: Cells) -> Cells:
        return Cells(self.measured + other.measured, self.missing + other.missing)

    def rows(self, dataset: str) -> list[str]:
        """Variants and baselines of a dataset, measured or not."""
        every: list[Cell | MissingCell] = [*self.measured, *self.missing]
        return list(dict.fromkeys(cell.variant for cell in every if cell.dataset == dataset))

    def seeds_missing(self, dataset: str, variant: str) -> list[int]:
        """Seeds of one row that were not measured."""
        return [c.seed for c in self.missing if (c.dataset, c.variant) == (dataset, variant)]

    def log_missing(self) -> None:
        """Tell what is missing, with counts and the files that show it."""
        if not self.missing:
            return
        total = len(self.measured) + len(self.missing)
        log.warning("%d of %d cells are missing; their rows have no mean", len(self.missing), total)
        for cell in self.missing:
            names = ", ".join(map(str, cell.files))
            log.warning("missing: %s %s seed %d (%s)", cell.dataset, cell.variant, cell.seed, names)


def read_cells(
    folder: Path,
    datasets: Sequence[str],
    variants: Sequence[str],
    seeds: Sequence[int],
    imported: Sequence[str],
    modalities: Sequence[str],
    clustered: Sequence[str] = (),
    visual: Sequence[str] = (),
) -> Cells:
    """Read exactly the named cells.

    A cell without one of its files, or of those that it is made from, is missing.

    Args:
        folder: holds `<dataset>/<variant>/s<seed>/<stage>.json`.
        datasets: names.
        variants: names.
        seeds: random seeds.
        imported: those of `datasets` whose IDs are imported.
        modalities: whose embeddings are quantized, where IDs are learned.
        clustered: those of `variants` whose IDs are clusters, whatever the dataset.
        visual: those of `clustered` that read image vectors.

    Raises:
        MacrecError: a file is broken.
    """
    cells = Cells()
    for dataset, variant, seed in product(datasets, variants, seeds):
        before, stages = ["filter"], ["build_seq2seq", "train_gr", "evaluate"]
        if variant in clustered:
            ids_stage = "cluster_sids"
            before += ["embed_image"] if variant in visual else []
        elif dataset in imported:
            ids_stage = "import_sids"
        else:
            ids_stage = "assign_sids"
            before += [*(f"embed_{modality}" for modality in modalities), "pseudo_labels"]
            stages.insert(0, "train_rqvae")
        found = _read(folder, (dataset, variant, seed), before, [ids_stage, *stages])
        if isinstance(found, MissingCell):
            cells.missing.append(found)
            continue
        quantizer, ids = found.get("train_rqvae"), found[ids_stage]
        trained, evaluated = found["train_gr"], found["evaluate"]
        cells.measured.append(Cell(dataset, variant, seed, quantizer, ids, trained, evaluated))
    return cells


def read_baselines(
    folder: Path,
    datasets: Sequence[str],
    baselines: Sequence[str],
    seeds: Sequence[int],
    modalities: Sequence[str] = (),
) -> Cells:
    """Read exactly the named baselines' cells; see `read_cells`.

    Args:
        folder: likewise.
        datasets: names.
        baselines: names.
        seeds: random seeds.
        modalities: whose embeddings they read.

    Raises:
        MacrecError: a file is broken.
    """
    cells = Cells()
    stages = ["train_baseline", "evaluate_baseline"]
    for dataset, baseline, seed in product(datasets, baselines, seeds):
        before = ["filter", *(f"embed_{modality}" for modality in modalities)]
        found = _read(folder, (dataset, baseline, seed), before, stages)
        if isinstance(found, MissingCell):
            cells.missing.append(found)
        else:
            trained, evaluated = found["train_baseline"], found["evaluate_baseline"]
            cells.measured.append(Cell(dataset, baseline, seed, None, None, trained, evaluated))
    return cells


def read_ensembles(
    folder: Path,
    datasets: Sequence[str],
    ensembles: Mapping[str, EnsembleSpec],
    seeds: Sequence[int],
    members: Cells,
) -> Cells:
    """Read exactly the named ensembles' cells, of one file a dataset; see `read_cells`.

    Args:
        folder: likewise.
        datasets: names.
        ensembles: their members by name.
        seeds: random seeds.
        members: cells of all variants and baselines; an ensemble of a missing one is missing.

    Raises:
        MacrecError: a file is broken.
    """
    cells = Cells()
    for dataset, (ensemble, spec), seed in product(datasets, ensembles.items(), seeds):
        path = folder / dataset / "ensembles.json"
        united: dict[str, Any] = read_json(path) if path.exists() else {}
        found = united.get("ensembles", {}).get(ensemble, {}).get(f"s{seed}")
        absent = _absent_before(folder / dataset, spec, seed, members)
        if found is None and not absent:
            left_out = united.get("missing", {}).get(ensemble, {}).get(f"s{seed}", [path])
            absent = tuple(map(Path, left_out))
        if absent:
            cells.missing.append(MissingCell(dataset, ensemble, seed, absent))
        else:
            cells.measured.append(Cell(dataset, ensemble, seed, None, None, None, found))
    return cells


def _absent_before(home: Path, spec: EnsembleSpec, seed: int, members: Cells) -> tuple[Path, ...]:
    """Files of the stages before an ensemble that do not exist, each once."""
    sources = {member.source for member in spec.members}
    needed = [home / "filter.json"]
    needed += [home / "yardsticks.json"] if sources & set(YARDSTICKS) else []
    absent = [path for path in needed if not path.exists()]
    for cell in members.missing:
        if (cell.dataset, cell.seed) == (home.name, seed) and cell.variant in sources:
            absent += cell.files
    return tuple(dict.fromkeys(absent))


def _read(
    folder: Path, place: tuple[str, str, int], before: Sequence[str], stages: Sequence[str]
) -> dict[str, dict[str, Any]] | MissingCell:
    """Metrics of a cell by stage, if those and the files of the dataset's stages are there."""
    dataset, variant, seed = place
    home = folder / dataset / variant / f"s{seed}"
    files = {stage: home / f"{stage}.json" for stage in stages}
    needed = [*(folder / dataset / f"{stage}.json" for stage in before), *files.values()]
    absent = tuple(path for path in needed if not path.exists())
    if absent:
        return MissingCell(dataset, variant, seed, absent)
    return {stage: read_json(path) for stage, path in files.items()}
