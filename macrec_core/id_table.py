"""Semantic IDs of a catalogue as an artifact: what is written, read back and reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from macrec_core.params.quantizer import VisualParams

Codes = NDArray[np.int32]


@dataclass(frozen=True)
class AssignedIds:
    """Semantic IDs of one modality.

    Attributes:
        codes: [N, L] after reassignment (or as published).
        nearest: [N, L] before it; a level less where one was added that numbers equal IDs.
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

    def collisions(self) -> dict[str, object]:
        """Collision rate before and after reassignment, and what that moved."""
        return {
            "collision_rate": collision_rate(self.nearest),
            "collision_rate_after": collision_rate(self.codes),
            "distinct": self.num_distinct,
            "moved": self.num_moved,
            "moved_above_last_level": self.num_moved_above,
        }

    def metrics(self, codebook_size: int) -> dict[str, object]:
        """Collisions; of codes from codebooks also codes in use, entropy, items a codeword."""
        return self.collisions() | {
            "codebook_use": codebook_use(self.nearest, codebook_size),
            "code_entropy": code_entropy(self.nearest, codebook_size),
            "items_a_code": sorted_code_counts(self.nearest, codebook_size).tolist(),
        }


@dataclass(frozen=True)
class Visual:
    """What the recommender's input holds of every item's image (VIP5).

    Attributes:
        vectors: [N, width] float32.
        tokens: k, input tokens of each item.
        adapter_width: of the hidden layer between a vector and its tokens.
    """

    vectors: NDArray[np.float32]
    tokens: int
    adapter_width: int


@dataclass(frozen=True)
class SemanticIds:
    """The artifact's contents.

    Attributes:
        codes: per modality [N, L].
        codebook_size: M.
        visual: None for a recommender that reads codes alone.
    """

    codes: Mapping[str, Codes]
    codebook_size: int
    visual: Visual | None = None

    @property
    def visual_tokens(self) -> tuple[int, int]:
        """Input tokens of each item's image, and items: (0, 0) without images."""
        return (0, 0) if self.visual is None else (self.visual.tokens, len(self.visual.vectors))


def scaled(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors [N, width] centred and of mean feature variance 1, whatever encoder made them.

    Raises:
        MacrecError: all are the same.
    """
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    variance = np.square(centred).mean()
    if not variance:
        raise MacrecError(
            f"embeddings: all {len(vectors)} vectors are the same, so that they tell nothing "
            "apart; check the stage that made them"
        )
    return np.asarray(centred / np.sqrt(variance), dtype=np.float32)


def published_ids(codes: Codes) -> AssignedIds:
    """Published IDs as they are: an ambiguous one goes on standing for its group of items."""
    return AssignedIds(codes, codes, 0, 0)


def ids_table(
    assigned: Mapping[str, AssignedIds], vectors: NDArray[np.float32] | None = None
) -> pa.Table:
    """Artifact `semantic_ids` of some modalities, with image vectors [N, width] or without."""
    count = len(next(iter(assigned.values())).codes)
    columns: dict[str, object] = {"item_id": np.arange(count, dtype=np.int32)}
    for modality, ids in assigned.items():
        columns[modality] = fixed_lists(ids.codes)
        missing = ids.codes.shape[1] - ids.nearest.shape[1]
        columns[f"{modality}_nearest"] = fixed_lists(np.pad(ids.nearest, ((0, 0), (0, missing))))
    if vectors is not None:
        columns[schemas.VISUAL] = fixed_lists(vectors)
    return pa.table(columns)


def write_ids(
    path: Path,
    table: pa.Table,
    modalities: list[str],
    codebook_size: int,
    visual: VisualParams | None = None,
) -> None:
    """Write artifact `semantic_ids`; sizes that the table does not show go into its metadata.

    Args:
        path: target file.
        table: from `ids_table`.
        modalities: in the table's order.
        codebook_size: M.
        visual: how image vectors enter the recommender, of a table that has them.

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
    info: dict[str, object] = {"codebook_size": codebook_size}
    if visual is not None:
        info[schemas.VISUAL] = visual.model_dump()
    write_artifact(path, table, _contract(table, modalities), info)


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
    table = read_artifact(path, _contract(found, modalities))
    info = artifact_info(table)
    size, visual = info["codebook_size"], None
    assert isinstance(size, int)
    if schemas.VISUAL in table.column_names:
        settings = info[schemas.VISUAL]
        assert isinstance(settings, dict)
        visual = Visual(matrix(table, schemas.VISUAL), **settings)
    return SemanticIds({m: matrix(table, m) for m in modalities}, size, visual)


def _contract(table: pa.Table, modalities: list[str]) -> schemas.Contract:
    """The contract of these modalities in the widths that a table has."""
    widths = {f.name: getattr(f.type, "list_size", 1) for f in table.schema}
    return schemas.semantic_ids(modalities, widths[modalities[0]], widths.get(schemas.VISUAL))
