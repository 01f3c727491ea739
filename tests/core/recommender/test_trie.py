from __future__ import annotations

from itertools import product

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from macrec_core.recommender.trie import build_trie


@st.composite
def catalogues(draw):
    """Codes [N, L] and a codebook size; items may share an ID."""
    levels, size = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    code = st.integers(0, size - 1)
    row = st.lists(code, min_size=levels, max_size=levels)
    return np.array(draw(st.lists(row, min_size=1, max_size=25)), np.int32), size


def walk(trie, codes):
    """The ID that a sequence of codes leads to, or -1 where the trie forbids one of them."""
    node = torch.tensor(0)
    for level, code in zip(trie.levels, codes, strict=True):
        numbers, following, exist = level.children(node)
        found = numbers[exist & (following == code)]
        assert len(found) <= 1
        if not len(found):
            return -1
        node = found[0]
    return int(node)


@settings(max_examples=60, deadline=None)
@given(catalogues())
def test_it_admits_exactly_the_catalogue(catalogue):
    codes, size = catalogue
    trie = build_trie(codes)
    existing = {tuple(row) for row in codes.tolist()}
    admitted = {
        sequence for sequence in product(range(size), repeat=codes.shape[1])
        if walk(trie, sequence) >= 0
    }  # fmt: skip
    assert admitted == existing
    assert trie.num_ids == len(existing)


@settings(max_examples=60, deadline=None)
@given(catalogues())
def test_every_id_knows_all_of_its_items(catalogue):
    codes, _ = catalogue
    trie = build_trie(codes)
    for row in codes:
        found = walk(trie, row)
        members = trie.members[trie.member_offsets[found] : trie.member_offsets[found + 1]]
        assert members.tolist() == np.flatnonzero((codes == row).all(axis=1)).tolist()
    assert sorted(trie.members.tolist()) == list(range(len(codes)))


def test_ids_are_numbered_in_the_order_of_their_codes():
    codes = np.array([[2, 1], [0, 3], [2, 0], [0, 3]], np.int32)
    trie = build_trie(codes)
    assert [walk(trie, row) for row in ([0, 3], [2, 0], [2, 1])] == [0, 1, 2]
    assert trie.member_offsets.tolist() == [0, 2, 3, 4]
    assert trie.members.tolist() == [1, 3, 2, 0]


def test_moving_keeps_everything():
    trie = build_trie(np.array([[0, 1], [1, 1]], np.int32))
    moved = trie.to(torch.device("cpu"))
    for a, b in zip(moved.levels, trie.levels, strict=True):
        assert torch.equal(a.first_child, b.first_child)
        assert torch.equal(a.codes, b.codes)
        assert a.widest == b.widest
    assert moved.members is trie.members


def test_a_dead_node_has_no_children():
    level = build_trie(np.array([[0, 1], [1, 1], [1, 2]], np.int32)).levels[1]
    numbers, codes, exist = level.children(torch.tensor([[0, -1, 1]]))
    assert exist.tolist() == [[[True, False], [False, False], [True, True]]]
    assert numbers[exist].tolist() == [0, 1, 2]
    assert codes[exist].tolist() == [1, 1, 2]
