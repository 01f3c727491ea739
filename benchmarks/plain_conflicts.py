"""Conflict reassignment item by item, as one would write it down: what the fast one replaces.

The tests compare `macrec_core.quantization.conflicts` with it, and `sid_assignment` measures
how much slower it is.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]
Floats = NDArray[np.float32]


def make_unique_plainly(
    latents: Floats, codebooks: Floats, nearest: Codes
) -> tuple[Codes, int, int]:
    """Unique codes, the items that moved, and those of them that left their last prefix.

    Args:
        latents: [N, d] encoder outputs.
        codebooks: [L, M, d].
        nearest: [N, L] int32 codes by Eq. 2; N <= M^L.
    """
    num_items, num_levels = nearest.shape
    displaced = _displaced(latents, codebooks, nearest)
    codes = nearest.copy()
    tree = _Occupancy(codebooks.shape[1], num_levels)
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
    return codes, len(displaced), moved_above


def _displaced(latents: Floats, codebooks: Floats, nearest: Codes) -> NDArray[np.int64]:
    """Rows that must move: all but the closest of each group with one ID, closest first."""
    residual = latents.astype(np.float64)
    for level, codebook in enumerate(codebooks):
        residual = residual - codebook[nearest[:, level]]
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
