"""Conflict reassignment: from nearest codes to provably unique semantic IDs.

After MQL4GRec (Zhai et al., 2025): of the items that share an ID, the one closest to its
last-level code keeps it; each other takes the nearest free code at the last level, and where
that level is exhausted, the next nearest code one level up. Read as a walk over the tree of
all M^L IDs, which also says what happens when the level above is exhausted too: a displaced
item descends from the deepest level of its own path that still has room, at each level into
the nearest child whose subtree is not full.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macrec_core.errors import MacrecError

Codes = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class UniqueCodes:
    """Codes without collisions.

    Attributes:
        codes: [N, L] int32, unique rows.
        num_moved: items whose ID changed.
        num_moved_above: those of them for which the last level was exhausted.
    """

    codes: Codes
    num_moved: int
    num_moved_above: int


def make_unique(latents: Floats, codebooks: Floats, nearest: Codes) -> UniqueCodes:
    """Reassign conflicting IDs until every item has its own.

    Deterministic: displaced items move in the order of their distance to the contested code,
    then of their row. Distances at a level are taken to the residual along the item's new path.

    Args:
        latents: [N, d] encoder outputs.
        codebooks: [L, M, d].
        nearest: [N, L] int32 codes by Eq. 2.

    Raises:
        MacrecError: N > M^L, for which no assignment exists.
    """
    num_items, num_levels = nearest.shape
    size = codebooks.shape[1]
    if num_items > size**num_levels:
        raise MacrecError(
            f"{num_items} items have no unique IDs of {num_levels} levels of {size} codes "
            f"(at most {size**num_levels}); raise quant.codebook_size or quant.num_levels"
        )
    displaced = _displaced(latents, codebooks, nearest)
    codes = nearest.copy()
    tree = _Occupancy(size, num_levels)
    settled = np.ones(num_items, dtype=bool)
    settled[displaced] = False
    for path in codes[settled].tolist():
        tree.add(tuple(path))
    moved_above = 0
    for item in displaced.tolist():
        path, level = _free_path(tree, latents[item], codebooks, nearest[item].tolist())
        tree.add(path)
        codes[item] = path
        moved_above += level < num_levels - 1
    assert len(np.unique(codes, axis=0)) == num_items
    return UniqueCodes(codes, len(displaced), moved_above)


def _displaced(latents: Floats, codebooks: Floats, nearest: Codes) -> NDArray[np.int64]:
    """Rows that must move: all but the closest of each group with one ID, closest first."""
    residual = latents.astype(np.float64)
    for level, codebook in enumerate(codebooks):
        residual = residual - codebook[nearest[:, level]]
    # What the last level leaves over is exactly the distance to the last-level code.
    distance = np.square(residual).sum(axis=1)
    _, group = np.unique(nearest, axis=0, return_inverse=True)
    order = np.lexsort((np.arange(len(nearest)), distance, group.reshape(-1)))
    first_of_group = np.r_[True, np.diff(group.reshape(-1)[order]) != 0]
    others = order[~first_of_group]
    by_distance: NDArray[np.int64] = others[np.lexsort((others, distance[others]))]
    return by_distance


class _Occupancy:
    """How many IDs are taken below each prefix."""

    def __init__(self, size: int, num_levels: int) -> None:
        self._capacity = [size ** (num_levels - depth) for depth in range(num_levels + 1)]
        self._taken: dict[tuple[int, ...], int] = defaultdict(int)

    def add(self, path: tuple[int, ...]) -> None:
        for depth in range(len(path) + 1):
            self._taken[path[:depth]] += 1

    def full(self, prefix: tuple[int, ...]) -> bool:
        return bool(self._taken.get(prefix, 0) >= self._capacity[len(prefix)])


def _free_path(
    tree: _Occupancy, latent: Floats, codebooks: Floats, path: list[int]
) -> tuple[tuple[int, ...], int]:
    """The nearest free ID that leaves `path` as deep as possible, and the level of leaving."""
    level = len(path) - 1
    while tree.full(tuple(path[:level])):
        level -= 1
    chosen = tuple(path[:level])
    residual = latent.astype(np.float64)
    for depth, code in enumerate(chosen):
        residual = residual - codebooks[depth, code]
    for depth in range(level, len(path)):
        distances = np.square(residual - codebooks[depth]).sum(axis=1)
        ranked = np.argsort(distances, kind="stable").tolist()
        code = next(c for c in ranked if not tree.full((*chosen, c)))
        chosen = (*chosen, code)
        residual = residual - codebooks[depth, code]
    return chosen, level
