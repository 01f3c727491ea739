"""The tree of existing semantic IDs, as tensors on the device that decodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macrec_core.ranking import Cases


@dataclass(frozen=True)
class Level:
    """The edges from the prefixes of one length to those that are a code longer.

    Prefixes (nodes) of one length are numbered in the order of their codes, so that the
    children of a node are neighbours and need no table.

    Attributes:
        first_child: [nodes + 1] int64; the children of node n are numbers
            `first_child[n] ... first_child[n + 1] - 1` of the next level.
        codes: [children] int64, last code of each node of the next level.
        widest: most children of a node.
    """

    first_child: Tensor
    codes: Tensor
    widest: int

    def children(self, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Children of nodes [...], each row filled up to `widest`.

        Returns:
            Numbers, codes, and whether such a child exists, each [..., widest]; for a node -1
            none exists.
        """
        known = nodes.clamp(min=0)
        first, end = self.first_child[known], self.first_child[known + 1]
        numbers = first[..., None] + torch.arange(self.widest, device=nodes.device)
        exist = (numbers < end[..., None]) & (nodes >= 0)[..., None]
        numbers = numbers.clamp(max=len(self.codes) - 1)
        return numbers, self.codes[numbers], exist


@dataclass(frozen=True)
class Trie:
    """Which codes may follow which prefix; admits exactly the catalogue's IDs.

    Attributes:
        levels: L levels; the first starts from the single node 0, and nodes after the last are
            the distinct IDs. Memory is two int64 a prefix.
        members: item ids sorted by ID; those of ID u are
            `members[member_offsets[u]:member_offsets[u + 1]]`. Several only where IDs are
            ambiguous, as some published ones are.
        member_offsets: [distinct IDs + 1].
    """

    levels: tuple[Level, ...]
    members: NDArray[np.int64]
    member_offsets: NDArray[np.int64]

    @property
    def num_ids(self) -> int:
        """Distinct IDs."""
        return len(self.member_offsets) - 1

    def exhausted(self, cases: Cases) -> tuple[Tensor, ...]:
        """Prefixes and IDs all of whose items each user has bought before.

        Returns:
            For each level nodes [U, most of a user] of the next length, ascending, filled up with
            a number of no node.
        """
        sizes = np.diff(self.member_offsets)
        id_of = np.empty(len(self.members), dtype=np.int64)
        id_of[self.members] = np.repeat(np.arange(self.num_ids), sizes)
        # Each item once, however often it was bought.
        bought = np.unique(cases.rows * len(id_of) + cases.items)
        users, nodes = bought // len(id_of), id_of[bought % len(id_of)]
        rows = []
        for level in reversed(self.levels):
            # So far every node counted its items; a node is exhausted when all are bought.
            keys, found = np.unique(users * len(sizes) + nodes, return_counts=True)
            whole = keys[found == sizes[keys % len(sizes)]]
            rows.append(_padded(whole // len(sizes), whole % len(sizes), len(cases), len(sizes)))
            children = np.diff(level.first_child.numpy())
            parents = np.repeat(np.arange(len(children)), children)
            sizes, nodes = np.bincount(parents, sizes).astype(np.int64), parents[nodes]
        return tuple(reversed(rows))

    def to(self, device: torch.device) -> Trie:
        """The same with its levels on another device."""
        moved = tuple(
            Level(level.first_child.to(device), level.codes.to(device), level.widest)
            for level in self.levels
        )
        return Trie(moved, self.members, self.member_offsets)


def build_trie(codes: NDArray[np.int32]) -> Trie:
    """Build from every item's codes [N, L]."""
    order = np.lexsort(codes.T[::-1])  # stable: items of one ID keep their order
    ranked = codes[order]
    # Whether a row's prefix differs from the row before, growing with the prefix.
    differs = np.zeros(len(ranked), dtype=bool)
    differs[0] = True
    starts = np.zeros(1, dtype=np.int64)  # first row of each prefix of the current length
    levels = []
    for level in range(codes.shape[1]):
        differs[1:] |= ranked[1:, level] != ranked[:-1, level]
        following = np.flatnonzero(differs)
        first_child = np.append(np.searchsorted(following, starts), len(following))
        levels.append(
            Level(
                torch.from_numpy(first_child),
                torch.from_numpy(ranked[following, level].astype(np.int64)),
                int(np.diff(first_child).max()),
            )
        )
        starts = following
    return Trie(tuple(levels), order, np.append(starts, len(codes)))


def _padded(
    users: NDArray[np.int64], nodes: NDArray[np.int64], num_users: int, filler: int
) -> Tensor:
    """Nodes of each user side by side, of pairs sorted by user and node."""
    counts = np.bincount(users, minlength=num_users)
    filled = np.full((num_users, max(1, int(counts.max(initial=0)))), filler)
    filled[np.arange(filled.shape[1]) < counts[:, None]] = nodes
    return torch.from_numpy(filled)
