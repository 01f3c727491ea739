"""What every row of the results is worth to every user: the input of paired tests.

A row's lists lie in artifacts RECOMMENDATIONS, one a seed. Where a kind of row is added, its
`Source` is all that the tests need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from macrec_core import schemas
from macrec_core.artifacts import read_artifact
from macrec_core.errors import MacrecError
from macrec_core.ranking import ENSEMBLE

Floats = NDArray[np.float64]

# What is tested.
HR, NDCG = METRICS = ("hr@10", "ndcg@10")
_CUTOFF = 10

_COLUMNS = ("list", "candidates", "user_id", "rank")


@dataclass(frozen=True)
class Source:
    """Where the lists of one row lie.

    Attributes:
        name: of the row.
        listed: name of the list in the artifacts.
        files: artifact by seed; None is the key of a row without seeds.
    """

    name: str
    listed: str
    files: Mapping[int | None, Path]

    @property
    def missing(self) -> list[int | None]:
        """Seeds whose artifact does not exist."""
        return [seed for seed, path in self.files.items() if not path.exists()]


@dataclass(frozen=True)
class UserValues:
    """One row's values.

    Attributes:
        users: [U] user ids, ascending.
        seeds: by seed, by metric, [U] values.
    """

    users: NDArray[np.int64]
    seeds: Mapping[int | None, Mapping[str, Floats]]

    def mean(self, metric: str) -> Floats:
        """[U] values averaged over the seeds."""
        average: Floats = np.mean([values[metric] for values in self.seeds.values()], axis=0)
        return average


def values_of(ranks: NDArray[np.int64]) -> dict[str, Floats]:
    """By metric, [users] values of ranks [users], whose means are `hit_rate` and `ndcg`."""
    hit = (ranks > 0) & (ranks <= _CUTOFF)
    gains = np.zeros(len(ranks))
    gains[hit] = 1.0 / np.log2(ranks[hit] + 1.0)
    return {HR: hit.astype(np.float64), NDCG: gains}


def sources_of(
    folder: Path, variants: Sequence[str], baselines: Sequence[str], seeds: Sequence[int]
) -> list[Source]:
    """Sources of baselines and variants, in the order of their rows.

    Args:
        folder: holds `<row>/s<seed>.parquet`.
        variants: generative, whose headline is the ensemble of their lists.
        baselines: whose only list has their name.
        seeds: of both.
    """
    lists = {name: name for name in baselines} | dict.fromkeys(variants, ENSEMBLE)
    return [
        Source(name, listed, {seed: folder / name / f"s{seed}.parquet" for seed in seeds})
        for name, listed in lists.items()
    ]


def ensemble_sources(folder: Path, ensembles: Sequence[str], seeds: Sequence[int]) -> list[Source]:
    """Sources of united lists, which have their ensembles' names.

    Args:
        folder: holds `<ensemble>/s<seed>.parquet`.
        ensembles: names.
        seeds: of all.
    """
    return [
        Source(name, name, {seed: folder / name / f"s{seed}.parquet" for seed in seeds})
        for name in ensembles
    ]


def yardstick_sources(path: Path) -> list[Source]:
    """Sources of the lists that need no training, but for the oracle, which is no competitor.

    Where the artifact is missing, one source of its name stands for them all.

    Raises:
        MacrecError: the artifact is broken.
    """
    if not path.exists():
        return [Source(path.stem, path.stem, {None: path})]
    table = read_artifact(path, schemas.RECOMMENDATIONS, _COLUMNS[:1])
    names = pc.unique(table.column("list")).to_pylist()
    return [Source(name, name, {None: path}) for name in names if name != "oracle"]


def read_values(sources: Sequence[Source], candidates: str) -> dict[str, UserValues]:
    """Values of rows whose artifacts all exist, for one set of candidates.

    Raises:
        MacrecError: an artifact is broken, has no such list, or is of other users.
    """
    tables: dict[Path, pa.Table] = {}
    found: dict[str, UserValues] = {}
    reference: tuple[Path, NDArray[np.int64]] | None = None
    for source in sources:
        seeds, users = {}, np.empty(0, dtype=np.int64)
        for seed, path in source.files.items():
            if path not in tables:
                tables = {path: read_artifact(path, schemas.RECOMMENDATIONS, _COLUMNS)}
            users, ranks = _ranks(path, tables[path], source.listed, candidates)
            reference = reference or (path, users)
            _check_same_users(path, users, *reference)
            seeds[seed] = values_of(ranks)
        found[source.name] = UserValues(users, seeds)
    return found


def _ranks(
    path: Path, table: pa.Table, name: str, candidates: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Users, ascending by the artifact's key, and ranks of one list."""
    chosen = pc.and_(
        pc.equal(table.column("list"), name), pc.equal(table.column("candidates"), candidates)
    )
    rows = table.filter(chosen)
    if not rows.num_rows:
        raise MacrecError(
            f"{path}: has no list '{name}' of candidates '{candidates}'; run its stage again"
        )
    users = np.asarray(rows.column("user_id")).astype(np.int64)
    return users, np.asarray(rows.column("rank")).astype(np.int64)


def _check_same_users(
    path: Path, users: NDArray[np.int64], other: Path, expected: NDArray[np.int64]
) -> None:
    if not np.array_equal(users, expected):
        shared = len(np.intersect1d(users, expected))
        raise MacrecError(
            f"{path}: ranks {len(users)} users, {other} {len(expected)}, {shared} of them the "
            "same; pairs need the same users: run both stages with one eval.max_users"
        )
