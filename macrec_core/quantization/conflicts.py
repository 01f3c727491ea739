"""Conflict reassignment: from nearest codes to provably unique semantic IDs.

After MQL4GRec (Zhai et al., 2025): of the items that share an ID, the one closest to its
last-level code keeps it; each other takes the nearest free code at the last level, and where
that level is exhausted, the next nearest code one level up. Read as a walk over the tree of
all M^L IDs, which also says what happens when the level above is exhausted too: a displaced
item descends from the deepest level of its own path that still has room, at each level into
the nearest child whose subtree is not full.

Item by item that is a walk from the leaf upwards and down again. The same comes out from the
root downwards, a level at a time for all displaced items together: below a prefix an item goes
to the child on its own path while that one has room, and otherwise to the nearest that has.
Which child has room depends on nothing below it, so that a level is settled before the next
begins, and different prefixes of a level have nothing to do with each other. Below one prefix
the items go in their order, many at a time (`_Places`). tests/ compare with the walk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from macrec_core.errors import MacrecError
from macrec_core.metrics import num_distinct
from macrec_core.quantization.id_tree import IdTree, id_tree, ranges
from macrec_core.quantization.nearest import squared_distances

Codes = NDArray[np.int32]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Room = NDArray[np.int32]

# Items placed together at most. Bounds memory: [items, M] counts of room.
_ITEMS = 1 << 16
# Rows of a table of distances [rows, M], and of differences [rows, M, d].
_ROWS, _DIRECT_ROWS = 4096, 256


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
    # Every distinct ID keeps one item, so its tree is that of the IDs taken from the start.
    tree = id_tree(nearest, size)
    rows = _displaced(latents, codebooks, nearest, tree)
    places = _Places(latents, codebooks, nearest, tree, rows)
    for level in range(num_levels):
        places.descend(level)
    codes = nearest.copy()
    codes[rows] = places.codes
    assert num_distinct(codes) == num_items
    return UniqueCodes(codes, len(rows), places.num_moved_above)


def _displaced(latents: Floats, codebooks: Floats, nearest: Codes, tree: IdTree) -> Integers:
    """Rows that must move: all but the closest of each group with one ID, closest first."""
    shared = np.bincount(tree.leaf)[tree.leaf] > 1
    rows, leaf = tree.order[shared], tree.leaf[shared]
    distance = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        # What the last level leaves over is exactly the distance to the last-level code.
        left_over = _residuals(latents, codebooks, rows[part], nearest[rows[part]])
        distance[part] = np.square(left_over).sum(axis=1)
    order = np.lexsort((distance, leaf))  # stable: of equal distances the first row stays first
    closest = np.diff(leaf[order], prepend=-1) != 0
    others = order[~closest]
    moving: Integers = rows[others][np.lexsort((rows[others], distance[others]))]
    return moving


def _residuals(latents: Floats, codebooks: Floats, rows: Integers, path: Codes) -> Doubles:
    """What paths [n, k] of some rows leave over of their latents: [n, d]."""
    residual = latents[rows].astype(np.float64)
    for level in range(path.shape[1]):
        residual = residual - codebooks[level, path[:, level]]
    return residual


class _Places:
    """The new IDs of the displaced items, level by level.

    Attributes:
        codes: [n, L] of the displaced items in their order, as far as levels are settled.
        num_moved_above: items that left their path before the last level.
    """

    def __init__(
        self, latents: Floats, codebooks: Floats, nearest: Codes, tree: IdTree, rows: Integers
    ) -> None:
        self._latents, self._codebooks, self._tree, self._rows = latents, codebooks, tree, rows
        self._own = nearest[rows]  # [n, L]
        self.codes = np.zeros_like(self._own)
        self.num_moved_above = 0
        self._on_path = np.ones(len(rows), dtype=bool)
        # Items below one prefix are a group; its node is -1 where nobody keeps an ID there.
        self._group = np.zeros(len(rows), dtype=np.int64)
        self._node = np.zeros(1, dtype=np.int64)

    def descend(self, level: int) -> None:
        """Settle a level: give every item a child of the prefix it has reached."""
        size, num_levels = self._tree.codebook_size, self._own.shape[1]
        self.num_moved_above = int((~self._on_path).sum())
        # An item on its path prefers that to the nearest child; -1: not chosen yet.
        self.codes[:, level] = np.where(self._on_path, self._own[:, level], -1)
        items = np.argsort(self._group, kind="stable")
        edges = np.searchsorted(self._group[items], np.arange(len(self._node) + 1))
        # IDs below a child; more than there are items is as good as any number.
        capacity = min(size ** (num_levels - level - 1), len(self._latents))
        first = 0
        while first < len(self._node):  # as many groups together as have _ITEMS items, or one
            end = int(np.searchsorted(edges, edges[first] + _ITEMS, side="right")) - 1
            groups = slice(first, max(end, first + 1))
            room = capacity - self._tree.taken(self._node[groups], level)
            self._settle(level, items, edges[groups.start : groups.stop + 1], room)
            first = groups.stop
        chosen = self.codes[:, level]
        self._on_path &= chosen == self._own[:, level]
        keys, self._group = np.unique(self._group * size + chosen, return_inverse=True)
        self._node = self._tree.child(self._node[keys // size], keys % size, level)

    def _settle(self, level: int, items: Integers, edges: Integers, room: Room) -> None:
        """Give the items of some groups their children, in their order within each group.

        A window of items chooses at once among the children that have room before it. Choices
        hold up to the first one for which the items before it leave no room; from there the
        next window begins, twice as long as what went through. Who has chosen a child that is
        still open then need not choose again.

        Args:
            level: of the codes that are chosen.
            items: the displaced items, group after group.
            edges: [g + 1] where the groups begin in `items`.
            room: [g, M] items that each child still takes; used up.
        """
        starts, ends = edges[:-1].copy(), edges[1:]
        width = np.full(len(starts), _ITEMS)
        while len(active := np.flatnonzero(starts < ends)):
            begin = starts[active]
            length = np.minimum(width[active], ends[active] - begin)
            places, owner = ranges(begin, length)
            group, window = active[owner], items[places]
            self._choose(level, window, room, group)
            choice = self.codes[window, level]
            through = _first_too_many(choice, owner, room[active], length)
            passed = places - begin[owner] < through[owner]
            np.subtract.at(room, (group[passed], choice[passed]), 1)
            starts[active] += through
            width[active] = np.minimum(2 * through, _ITEMS)

    def _choose(self, level: int, window: Integers, room: Room, group: Integers) -> None:
        """Give items whose child has no room, or that have none, the nearest that has."""
        codes = self.codes[:, level]
        waiting = np.flatnonzero((codes[window] < 0) | (room[group, codes[window]] <= 0))
        for start in range(0, len(waiting), _ROWS):
            part = waiting[start : start + _ROWS]
            item = window[part]
            path = self.codes[item, :level]
            residual = _residuals(self._latents, self._codebooks, self._rows[item], path)
            codes[item] = _nearest_open(residual, self._codebooks[level], room[group[part]] > 0)


def _first_too_many(choice: Integers, owner: Integers, room: Room, length: Integers) -> Integers:
    """How many items of each window [g] come before the first that finds its choice full."""
    keys = owner * room.shape[1] + choice
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    rank = np.empty(len(keys), dtype=np.int64)  # among the window's items of the same choice
    rank[order] = np.arange(len(keys)) - np.searchsorted(ordered, ordered)
    too_many = np.flatnonzero(rank >= room[owner, choice])
    through = length.copy()
    place = too_many - (np.cumsum(length) - length)[owner[too_many]]
    np.minimum.at(through, owner[too_many], place)
    return through


def _nearest_open(residual: Doubles, codebook: Floats, is_open: NDArray[np.bool_]) -> Integers:
    """Index [n] of the nearest of codes [M, d] that are open [n, M] to residuals [n, d]."""
    # In float32, whose rounding the margins allow for; what they leave open is decided exactly.
    distances, margins = squared_distances(
        torch.from_numpy(residual).float(), torch.from_numpy(codebook)
    )
    distances.masked_fill_(~torch.from_numpy(is_open), torch.inf)
    least = distances.topk(min(2, len(codebook)), dim=1, largest=False)
    choice: Integers = least.indices[:, 0].numpy().copy()
    # Written so that a NaN is unsure too.
    unsure = np.flatnonzero((~(least.values[:, -1] - least.values[:, 0] > margins)).numpy())
    for start in range(0, len(unsure), _DIRECT_ROWS):
        rows = unsure[start : start + _DIRECT_ROWS]
        directly = np.square(residual[rows, None] - codebook).sum(axis=2)  # [n, M]
        # Sorted, not the least: a NaN goes behind all numbers, and a closed code behind it.
        ranked = np.argsort(directly, axis=1, kind="stable")
        place = np.take_along_axis(is_open[rows], ranked, axis=1).argmax(axis=1)
        choice[rows] = ranked[np.arange(len(rows)), place]
    return choice
