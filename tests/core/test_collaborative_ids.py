"""P5-CID's IDs on graphs whose clusters are known."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from macrec_core.collaborative_ids import cluster_items, cooccurrence
from macrec_core.errors import MacrecError
from macrec_core.params.quantizer import CollaborativeIdParams


def settings_of(num_clusters, max_leaf, max_levels=15):
    return CollaborativeIdParams(
        num_clusters=num_clusters, max_leaf=max_leaf, max_levels=max_levels, n_init=2
    )


def cliques(sizes, bridges=(), weight=5.0):
    """Complete graphs one after another, and single edges between given nodes."""
    number = np.repeat(np.arange(len(sizes)), sizes)
    dense = np.where(number[:, None] == number, weight, 0.0)
    for a, b, edge in bridges:
        dense[a, b] = dense[b, a] = edge
    np.fill_diagonal(dense, 0.0)
    return csr_array(dense)


def edgeless(count):
    return csr_array((count, count), dtype=np.float64)


def groups(codes):
    """Sets of items of equal codes."""
    _, inverse = np.unique(codes, axis=0, return_inverse=True)
    return {frozenset(np.flatnonzero(inverse == i).tolist()) for i in range(inverse.max() + 1)}


# ------------------------------------------------------------------------------------ the graph


def test_an_edge_counts_the_users_that_bought_both_in_training(make_interactions):
    # The last two items of each user are for validation and test; user 2 buys item 1 twice.
    histories = [[0, 1, 2, 4, 4], [1, 0, 3, 3], [1, 2, 1, 0, 0], [3, 3, 3]]
    graph = cooccurrence(make_interactions(histories), 6).toarray()
    expected = np.zeros((6, 6))
    for a, b, users in ((0, 1, 2), (0, 2, 1), (1, 2, 2)):
        expected[a, b] = expected[b, a] = users
    assert np.array_equal(graph, expected)


def test_validation_and_test_items_change_nothing(make_interactions):
    rng = np.random.default_rng(0)
    train = [rng.integers(0, 40, 6).tolist() for _ in range(60)]
    graphs, codes = [], []
    for _ in range(2):
        held_out = rng.integers(0, 40, (60, 2)).tolist()
        interactions = make_interactions([a + b for a, b in zip(train, held_out, strict=True)])
        graphs.append(cooccurrence(interactions, 40))
        codes.append(cluster_items(graphs[-1], settings_of(3, 5), 0).codes)
    assert np.array_equal(graphs[0].toarray(), graphs[1].toarray())
    assert np.array_equal(codes[0], codes[1])


def test_an_item_beyond_the_catalogue_is_an_error(make_interactions):
    with pytest.raises(MacrecError, match="item 7 in a catalogue of 7; make both from one"):
        cooccurrence(make_interactions([[7, 0, 1, 2]]), 7)


# -------------------------------------------------------------------------------- known clusters


def test_two_cliques_joined_by_an_edge_are_two_clusters():
    found = cluster_items(cliques([7, 5], [(6, 7, 1.0)]), settings_of(2, 7), 0)
    # The larger one first; within a leaf items count by id; no path is shorter, so none is filled.
    assert found.codes.tolist() == [[0, i] for i in range(7)] + [[1, i] for i in range(5)]
    assert (found.depth, found.divisions, found.even_divisions) == (1, 1, 0)
    assert sorted(found.leaf_sizes) == [5, 7]
    assert found.codebook_size == 7


def test_the_cut_goes_where_the_edges_are_few_not_through_the_middle():
    found = cluster_items(cliques([16, 4], [(15, 16, 1.0)]), settings_of(2, 16), 0)
    assert groups(found.codes[:, :1]) == {frozenset(range(16)), frozenset(range(16, 20))}


def test_blocks_of_blocks_are_divided_block_by_block():
    # Four cliques of 8; pairs of them hang together more than the pairs do.
    inner = [(a, b, 2.0) for a in range(8) for b in range(8, 16)]
    inner += [(a + 16, b + 16, 2.0) for a, b, _ in inner]
    graph = cliques([8, 8, 8, 8], [*inner, (0, 16, 1.0)], weight=20.0)
    found = cluster_items(graph, settings_of(2, 8), 0)
    assert (found.depth, found.divisions) == (2, 3)
    blocks = [frozenset(range(i, i + 8)) for i in range(0, 32, 8)]
    assert groups(found.codes[:, :2]) == set(blocks)
    assert groups(found.codes[:, :1]) == {blocks[0] | blocks[1], blocks[2] | blocks[3]}
    assert sorted(found.codes[:8, 2].tolist()) == list(range(8))


def test_clusters_of_a_graph_too_large_for_a_direct_solution():
    # A ring of five cliques.
    ring = [(130 * i, (130 * i + 131) % 650, 1.0) for i in range(5)]
    found = cluster_items(cliques([130] * 5, ring), settings_of(5, 130), 0)
    assert groups(found.codes[:, :1]) == {frozenset(range(i, i + 130)) for i in range(0, 650, 130)}
    assert found.divisions == 1


def test_a_shorter_path_is_filled_with_the_code_of_no_cluster():
    # A clique of 4 is a leaf at once; the two of 5 stay together first.
    bridges = [(a, b, 3.0) for a in range(5) for b in range(5, 10)]
    graph = cliques([5, 5, 4], [*bridges, (9, 10, 0.5)], weight=30.0)
    found = cluster_items(graph, settings_of(2, 5), 0)
    assert found.codes[10:].tolist() == [[1, 2, i] for i in range(4)]  # 2 = num_clusters
    assert set(found.codes[:10, 1].tolist()) == {0, 1}
    assert (found.codes[:10, 0] == 0).all()
    assert found.metrics() == {
        "levels": 3, "depth": 2, "leaves": 3, "leaf_size_min": 4, "leaf_size_median": 5.0,
        "leaf_size_max": 5, "divisions": 2, "even_divisions": 0, "isolated_items": 0,
    }  # fmt: skip


def test_a_catalogue_of_one_leaf_is_only_numbered():
    found = cluster_items(cliques([6]), settings_of(4, 6), 0)
    assert found.codes.tolist() == [[i] for i in range(6)]
    assert (found.depth, found.codebook_size) == (0, 6)
    assert cluster_items(edgeless(1), settings_of(4, 6), 0).codebook_size == 2


# --------------------------------------------------------------------- parts, isolated, no cuts


def test_parts_of_a_graph_share_the_clusters_by_their_items():
    # Of 4 clusters 12 of 20 items give 2, 5 give 1; what has less than a share fills the fourth.
    graph = cliques([6, 6, 5, 2, 1], [(5, 6, 0.5)])
    found = cluster_items(graph, settings_of(4, 6), 0)
    expected = [range(6), range(6, 12), range(12, 17), range(17, 20)]
    assert groups(found.codes[:, :1]) == {frozenset(part) for part in expected}
    assert (found.isolated_items, found.even_divisions) == (1, 0)


def test_isolated_items_are_counted_and_spread_evenly():
    found = cluster_items(edgeless(11), settings_of(3, 4), 0)
    assert found.isolated_items == 11
    assert sorted(found.leaf_sizes) == [3, 4, 4]
    assert (found.depth, found.even_divisions) == (1, 0)


def test_a_cluster_that_stays_in_one_piece_is_cut_and_counted(monkeypatch, caplog):
    from macrec_core import collaborative_ids

    def one_piece(graph, count, n_init, seed):
        return np.zeros(graph.shape[0], dtype=np.int64)

    monkeypatch.setattr(collaborative_ids, "_spectral", one_piece)
    found = cluster_items(cliques([20]), settings_of(3, 5), 0)
    assert found.divisions == found.even_divisions == 4
    assert found.codes[:7, 0].tolist() == [0] * 7
    assert len(np.unique(found.codes, axis=0)) == 20
    assert found.leaf_sizes.max() <= 5
    assert "4 of 4 divisions have no clusters" in caplog.text


def test_levels_stay_within_their_limit_however_unequal_the_clusters(monkeypatch):
    from macrec_core import collaborative_ids

    def one_aside(graph, count, n_init, seed):
        return (np.arange(graph.shape[0]) == 0).astype(np.int64)

    monkeypatch.setattr(collaborative_ids, "_spectral", one_aside)
    graph = cliques([40])
    free = cluster_items(graph, settings_of(2, 30), 0)
    assert (free.codes.shape[1], free.even_divisions) == (11, 0)
    held = cluster_items(graph, settings_of(2, 10, max_levels=4), 0)
    assert held.codes.shape[1] <= 4
    assert held.even_divisions > 0
    assert held.leaf_sizes.max() <= 10
    assert len(np.unique(held.codes, axis=0)) == 40


def test_more_items_than_the_levels_hold_is_an_error():
    assert cluster_items(edgeless(12), settings_of(2, 3, max_levels=3), 0).codes.shape == (12, 3)
    with pytest.raises(MacrecError, match="13 items in 4 leaves of 3 at most; raise"):
        cluster_items(edgeless(13), settings_of(2, 3, max_levels=3), 0)


# --------------------------------------------------------------------------------------- always

histories = st.lists(st.lists(st.integers(0, 29), min_size=3, max_size=9), min_size=1, max_size=25)


@given(histories, st.integers(2, 5), st.integers(1, 9), st.integers(0, 3))
@example([[0, 0, 0]], 2, 1, 0)
@settings(max_examples=20, deadline=None)
def test_ids_are_unique_and_their_prefixes_say_which_leaf(histories, num_clusters, max_leaf, seed):
    rows = [(user, item) for user, items in enumerate(histories) for item in items]
    users, items = np.array(rows).T
    bought = csr_array((np.ones(len(rows)), (users, items)), shape=(len(histories), 30))
    graph = csr_array(bought.T @ bought)
    graph.setdiag(0.0)
    graph.eliminate_zeros()
    params = settings_of(num_clusters, max_leaf, max_levels=8)
    found = cluster_items(graph, params, seed)
    codes = found.codes
    assert len(np.unique(codes, axis=0)) == 30
    assert codes.min() >= 0 and codes.max() < found.codebook_size
    assert codes.shape[1] == found.depth + 1 <= 8
    sizes = sorted(len(group) for group in groups(codes[:, :-1])) if found.depth else [30]
    assert sizes == sorted(found.leaf_sizes.tolist())
    assert sizes[-1] <= max_leaf
    # Filling is all or nothing: below a prefix with it there is nothing but it.
    filled = codes[:, :-1] == num_clusters
    assert (np.diff(filled.astype(int), axis=1) >= 0).all()
    assert np.array_equal(codes, cluster_items(graph, params, seed).codes)


# -------------------------------------------------------------------------------- published data


def test_instruments_get_ids_of_few_levels(shared, make_interactions):
    path = shared / "instruments" / "Instruments.inter.json.gz"
    published = json.loads(gzip.decompress(path.read_bytes()))
    graph = cooccurrence(make_interactions(list(published.values())), 6_250)
    found = cluster_items(graph, settings_of(20, 500), 0)
    assert len(np.unique(found.codes, axis=0)) == 6_250
    assert found.leaf_sizes.max() <= 500
    assert (found.isolated_items, found.even_divisions) == (10, 0)
    assert 3 <= found.codes.shape[1] <= 8
