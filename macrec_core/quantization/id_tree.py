"""The distinct IDs of a catalogue as a tree of prefixes, in arrays.

A node is a prefix that occurs. Nodes of one depth are numbered in lexicographic order; the
root is node 0 of depth 0, and a leaf is a distinct ID.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from macrec_core.metrics import id_keys

Codes = NDArray[np.int32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class IdTree:
    """The tree of some codes [N, L], each below M.

    Attributes:
        codebook_size: M.
        children: for each depth k the nodes of depth k + 1, each as its parent's number times M
            plus its code; ascending, so that a node's number is its place.
        leaves_below: as `children`, the number of distinct IDs that begin with the node.
        order: [N] rows in lexicographic order of their codes, equal ones in order of row.
        leaf: [N] the leaf of each row of `order`.
    """

    codebook_size: int
    children: list[Integers]
    leaves_below: list[Integers]
    order: Integers
    leaf: Integers

    @property
    def num_leaves(self) -> int:
        """Distinct IDs."""
        return len(self.children[-1])

    def child(self, nodes: Integers, codes: Integers, depth: int) -> Integers:
        """The children that nodes of a depth have by some codes, -1 for those they do not have.

        Args:
            nodes: [n] of the depth, -1 for a prefix that does not occur.
            codes: [n].
            depth: k.
        """
        keys = nodes * self.codebook_size + codes
        places = np.searchsorted(self.children[depth], keys)
        inside = np.minimum(places, len(self.children[depth]) - 1)
        found = (nodes >= 0) & (self.children[depth][inside] == keys)
        return np.where(found, inside, -1)

    def taken(self, nodes: Integers, depth: int) -> NDArray[np.int32]:
        """Distinct IDs below each possible child of nodes [n] of a depth: [n, M]."""
        counts = np.zeros((len(nodes), self.codebook_size), dtype=np.int32)
        edges = np.stack([nodes, nodes + 1]).clip(min=0) * self.codebook_size
        first, end = np.searchsorted(self.children[depth], edges)
        places, owner = ranges(first, end - first)
        codes = self.children[depth][places] % self.codebook_size
        counts[owner, codes] = self.leaves_below[depth][places]
        return counts


def id_tree(codes: Codes, codebook_size: int) -> IdTree:
    """The tree of codes [N, L], N > 0."""
    order = np.argsort(id_keys(codes, codebook_size), kind="stable")
    parents = np.zeros(len(codes), dtype=np.int64)
    begins = np.zeros(len(codes), dtype=bool)
    begins[0] = True
    children = []
    for level in codes.T:
        column = level[order]
        begins[1:] |= column[1:] != column[:-1]
        first = np.flatnonzero(begins)
        children.append(parents[first] * codebook_size + column[first])
        parents = np.cumsum(begins) - 1
    below = [np.ones(len(children[-1]), dtype=np.int64)]
    for nodes in reversed(children[1:]):
        edges = np.flatnonzero(np.diff(nodes // codebook_size, prepend=-1))
        below.insert(0, np.add.reduceat(below[0], edges))
    return IdTree(codebook_size, children, below, order, parents)


def ranges(starts: Integers, lengths: Integers) -> tuple[Integers, Integers]:
    """The integers of several ranges one after another, and for each the range it is of."""
    owner = np.repeat(np.arange(len(starts)), lengths)
    before = np.cumsum(lengths) - lengths
    return np.arange(len(owner)) + (starts - before)[owner], owner
