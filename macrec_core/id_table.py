"""Semantic IDs of a catalogue as an artifact: what is written, read back and reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from macrec_core import schemas
from macrec_core.artifacts import (
    artifact_info,
    fixed_lists,
    matrix,
    read_any,
    read_artifact,
    write_artifact,
)
from macrec_core.errors import MacrecError
from macrec_core.metrics import (
    code_entropy,
    codebook_use,
    collision_rate,
    num_distinct,
    sorted_code_counts,
)

Codes = NDArray[np.int32]


@dataclass(frozen=True)
class AssignedIds:
    """Semantic IDs of one modality.

    Attributes:
        codes: [N, L] after reassignment (or as published).
        nearest: [N, L] before it.
        num_moved: items whose ID changed.
        num_moved_above: those for which the last level was exhausted.
    """

    codes: Codes
    nearest: Codes
    num_moved: int
    num_moved_above: int

    @property
    def num_distinct(self) -> int:
        """Distinct IDs."""
        return num_distinct(self.codes)

    def metrics(self, codebook_size: int) -> dict[str, object]:
        """Collision rate before and after, codes in use, entropy, items a codeword."""
        return {
            "collision_rate": collision_rate(self.nearest),
            "collision_rate_after": collision_rate(self.codes),
            "distinct": self.num_distinct,
            "moved": self.num_moved,
            "moved_above_last_level": self.num_moved_above,
            "codebook_use": codebook_use(self.nearest, codebook_size),
            "code_entropy": code_entropy(self.nearest, codebook_size),
            "items_a_code": sorted_code_counts(self.nearest, codebook_size).tolist(),
        }


@dataclass(frozen=True)
class SemanticIds:
    """The artifact's contents.

    Attributes:
        codes: per modality [N, L].
        codebook_size: M.
    """

    codes: Mapping[str, Codes]
    codebook_size: int


def published_ids(codes: Codes) -> AssignedIds:
    """Published IDs as they are: an ambiguous one goes on standing for its group of items."""
    return AssignedIds(codes, codes, 0, 0)


def ids_table(assigned: Mapping[str, AssignedIds]) -> pa.Table:
    """Artifact `semantic_ids` of some modalities."""
    count = len(next(iter(assigned.values())).codes)
    columns: dict[str, object] = {"item_id": np.arange(count, dtype=np.int32)}
    for modality, ids in assigned.items():
        columns[modality] = fixed_lists(ids.codes)
        columns[f"{modality}_nearest"] = fixed_lists(ids.nearest)
    return pa.table(columns)


def write_ids(path: Path, table: pa.Table, modalities: list[str], codebook_size: int) -> None:
    """Write artifact `semantic_ids`; the codebook's size goes into its metadata.

    Raises:
        MacrecError: a code outside the codebook.
    """
    for modality in modalities:
        largest = int(matrix(table, modality).max())
        if largest >= codebook_size:
            raise MacrecError(
                f"{path}: {modality} code {largest} in a codebook of {codebook_size}; set "
                "quant.codebook_size to the size that the IDs were made with"
            )
    num_levels = table.schema.field(modalities[0]).type.list_size
    contract = schemas.semantic_ids(modalities, num_levels)
    write_artifact(path, table, contract, {"codebook_size": codebook_size})


def read_ids(path: Path, modalities: list[str]) -> SemanticIds:
    """Read artifact `semantic_ids`.

    Raises:
        MacrecError: it breaks its contract or holds other modalities.
    """
    found = read_any(path)
    if modalities[0] not in found.column_names:
        raise MacrecError(
            f"{path}: has no column '{modalities[0]}' ({found.column_names}); run its stage again"
        )
    num_levels = getattr(found.schema.field(modalities[0]).type, "list_size", 1)
    table = read_artifact(path, schemas.semantic_ids(modalities, num_levels))
    size = artifact_info(table)["codebook_size"]
    assert isinstance(size, int)
    return SemanticIds({m: matrix(table, m) for m in modalities}, size)
