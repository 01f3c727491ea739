"""Checks over a whole folder of artifacts, for CI and for people who bring their own."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from macrec_core.artifacts import (
    artifact_name,
    check_same_items,
    matrix,
    read_any,
    read_artifact,
    read_chunks,
    read_json,
    read_schema,
)
from macrec_core.errors import MacrecError
from macrec_core.metrics import collision_rate
from macrec_core.schemas import VISUAL, Contract, contract_of
from macrec_core.semantic_ids import Vocabulary

if TYPE_CHECKING:
    from macrec_core.params.whole import Params

# One row an item of the catalogue, whatever the variant.
_ITEM_LEVEL = ("embeddings", "pseudo_labels", "semantic_ids")
# Of many gigabytes in all.
_PICTURES = ("raw_images", "images")
_IMAGES_AT_ONCE = 1024
# Columns that name rows of another artifact.
_REFERENCES = {"item_id": "items", "target_item": "items", "user_id": "users"}


@dataclass(frozen=True)
class Inspection:
    """Outcome of `inspect_artifacts`.

    Attributes:
        num_files: Parquet files looked at.
        problems: one line for each that breaks a rule.
        left_over: files of what params.yaml no longer names, not looked at.
    """

    num_files: int
    problems: list[str]
    left_over: list[Path]


def inspect_artifacts(
    root: Path, imported_datasets: Set[str], is_made: Callable[[Path], bool] = lambda _: True
) -> Inspection:
    """Check every Parquet file below a folder against the contract that its metadata names.

    Beyond single files: item-level artifacts have as many rows as their dataset's items, items
    and users that are named exist, tokens lie in their vocabulary, and learned semantic IDs
    are unique.

    Args:
        root: holds a folder for each dataset.
        imported_datasets: those whose IDs are imported as published, collisions included.
        is_made: whether a path, relative to the folder, is looked at; see `made_by`.
    """
    found = sorted(root.rglob("*.parquet"))
    files = [path for path in found if is_made(path.relative_to(root))]
    problems = []
    for path in files:
        dataset = path.relative_to(root).parts[0]
        try:
            _inspect(path, root / dataset, dataset in imported_datasets)
        except MacrecError as error:
            problems.append(str(error))
    return Inspection(len(files), problems, sorted({*found} - {*files}))


def made_by(params: Params) -> Callable[[Path], bool]:
    """Which artifacts, relative to their folder, the pipeline makes with some parameters.

    DVC leaves in place what it made with others.
    """
    anywhere = {*params.variants, *params.baselines} - {*params.visual_variants}
    learned = {*anywhere, *params.visual_variants, *params.multimodal_baselines}
    seeds = {f"s{seed}" for seed in params.seeds}

    def is_made(path: Path) -> bool:
        dataset, *parts = path.with_suffix("").parts
        is_learned = dataset in params.learned_datasets
        if dataset not in params.datasets:
            return False
        match parts:
            case ["raw", *_] | ["recommendations", "yardsticks"]:
                return True
            case ["items" | "images" | "users" | "interactions"]:
                return True
            case ["pseudo_labels"]:
                return is_learned
            case ["embeddings", modality]:
                return is_learned and modality in params.modalities
            case ["ensembles", name, seed]:
                return name in params.ensembles and seed in seeds
            case ["recommendations", name, seed] | [name, seed, *_]:
                return name in (learned if is_learned else anywhere) and seed in seeds
        return False

    return is_made


def _inspect(path: Path, home: Path, imported: bool) -> None:
    nothing = read_schema(path).empty_table()
    name = artifact_name(nothing)
    contract = contract_of(name, nothing.schema)
    if contract is None:
        raise MacrecError(f"{path}: artifact name {name!r} is unknown; remove the file")
    table = _read_images(path, contract) if name in _PICTURES else read_artifact(path, contract)
    if name in _ITEM_LEVEL:
        items = home / "items.parquet"
        check_same_items(path, table.num_rows, items, read_any(items).num_rows)
    for column, reference in _REFERENCES.items():
        if name != reference and column in table.column_names:
            _check_known(path, table.column(column), column, home / f"{reference}.parquet")
    if name in ("training_examples", "evaluation_examples"):
        _check_tokens(path, table)
    if name == "semantic_ids" and not imported:
        _check_unique(path, table)


def _read_images(path: Path, contract: Contract) -> pa.Table:
    """Check an artifact a few images at a time, and return its keys."""
    for _ in read_chunks(path, contract, _IMAGES_AT_ONCE):
        pass
    return read_artifact(path, contract, contract.key)


def _check_known(path: Path, ids: pa.ChunkedArray, column: str, reference: Path) -> None:
    largest = pc.max(ids).as_py()
    known = read_any(reference).num_rows
    if largest is not None and largest >= known:
        raise MacrecError(
            f"{path}: column '{column}' names {largest}, but {reference} holds 0..{known - 1}; "
            "run `dvc repro`, or make both from one catalogue"
        )


def _check_tokens(path: Path, table: pa.Table) -> None:
    vocabulary = Vocabulary.from_json(read_json(path.parent / "vocabulary.json"))
    for column, size in (("source", vocabulary.input_size), ("target", vocabulary.size)):
        if column in table.column_names:
            largest = pc.max(pc.list_flatten(table.column(column))).as_py()
            if largest is not None and largest >= size:
                raise MacrecError(
                    f"{path}: column '{column}' holds token {largest} of a vocabulary of {size}; "
                    "run build_seq2seq again"
                )


def _check_unique(path: Path, table: pa.Table) -> None:
    for column in table.column_names[1:]:
        is_id = column != VISUAL and not column.endswith("_nearest")
        rate = collision_rate(matrix(table, column)) if is_id else 0.0
        if rate:
            raise MacrecError(
                f"{path}: column '{column}' has a collision rate of {rate:.4f}, expected 0; "
                "run the stage that writes it again"
            )
