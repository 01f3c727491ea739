"""The tree of distinct IDs, by hand and against dictionaries."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from macrec_core.quantization.id_tree import id_tree, ranges


def codes_of(*rows):
    return np.array(rows, dtype=np.int32)


def test_by_hand():
    tree = id_tree(codes_of([2, 1], [0, 1], [2, 1], [2, 0]), 3)
    assert tree.order.tolist() == [1, 3, 0, 2]
    assert tree.leaf.tolist() == [0, 1, 2, 2]
    assert tree.num_leaves == 3
    # Below the root codes 0 and 2; below 0 (node 0) code 1, below 2 (node 1) codes 0 and 1.
    assert [nodes.tolist() for nodes in tree.children] == [[0, 2], [1, 3, 4]]
    assert [counts.tolist() for counts in tree.leaves_below] == [[1, 2], [1, 1, 1]]
    assert tree.taken(np.array([0]), 0).tolist() == [[1, 0, 2]]
    assert tree.taken(np.array([1, -1, 0]), 1).tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]
    assert tree.child(np.array([0, 0, 0, -1]), np.array([0, 1, 2, 0]), 0).tolist() == [0, -1, 1, -1]
    assert tree.child(np.array([1, 1, 0]), np.array([1, 2, 2]), 1).tolist() == [2, -1, -1]


@pytest.mark.parametrize(("levels", "size"), [(1, 5), (2, 4), (4, 3), (3, 50), (15, 256)])
def test_nodes_and_counts_are_those_of_a_dictionary(levels, size):
    codes = np.random.default_rng(levels).integers(0, size, (200, levels)).astype(np.int32)
    codes[100:, : levels // 2] = codes[:100, : levels // 2]
    tree = id_tree(codes, size)
    assert codes[tree.order].tolist() == sorted(codes.tolist())
    distinct = sorted(set(map(tuple, codes.tolist())))
    assert tree.num_leaves == len(distinct)
    assert [tuple(codes[row].tolist()) for row in tree.order] == [distinct[i] for i in tree.leaf]
    node = {(): 0}
    for depth in range(levels):
        counts = Counter(path[: depth + 1] for path in distinct)
        below = sorted(counts)
        assert tree.children[depth].tolist() == [
            node[path[:-1]] * size + path[-1] for path in below
        ]
        assert tree.leaves_below[depth].tolist() == [counts[path] for path in below]
        node = {path: i for i, path in enumerate(below)}


def test_ranges_by_hand():
    numbers, owner = ranges(np.array([5, 0, 9]), np.array([2, 0, 3]))
    assert numbers.tolist() == [5, 6, 9, 10, 11]
    assert owner.tolist() == [0, 0, 2, 2, 2]
