"""Collaborative IDs: recursive spectral clustering of what users buy together (P5-CID).

After Hua et al. (2023): items are the nodes of a graph whose edges count the users that bought
both; it is divided into N clusters, a cluster of more than `max_leaf` items again, by the edges
among its own items, and so on. An item's codes are the clusters on its path and its number within
the last one, the leaf.

Clusters of a division are numbered by size, items of a leaf by item id. Paths differ in length,
IDs do not: where a path is shorter than the longest, code N stands at the levels between its leaf
and the number within it. No cluster has that code, and below one cluster either every item has it
or none; so equal prefixes still mean equal clusters, and IDs are unique.

What the paper leaves open:

- A graph in several parts (isolated items are parts of their own): each part gets as many of the
  N clusters as its share of the items gives, rounded down; parts too small for one go whole, the
  largest first, into the emptiest of the clusters that are left.
- A group that spectral clustering leaves in one piece, or so unequal that the levels allowed could
  not divide it far enough any more, is cut into N parts of equal size in the order of item ids.
  Divisions therefore end; these are counted.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from macrec_core.errors import MacrecError
from macrec_core.params.quantizer import CollaborativeIdParams

log = logging.getLogger(__name__)

Codes = NDArray[np.int32]
Integers = NDArray[np.int64]
# Nodes of a graph whose eigenvectors are computed directly, in a few hundredths of a second.
_DENSE_NODES = 500

Group = tuple[tuple[int, ...], Integers]  # path of clusters, and the items at its end


@dataclass(frozen=True)
class CollaborativeIds:
    """IDs of a catalogue and how they came about.

    Attributes:
        codes: [N, L] int32, unique rows.
        leaf_sizes: items of each leaf.
        depth: divisions above the deepest leaf.
        divisions: clusters that were divided.
        even_divisions: those of them that were cut into equal parts.
        isolated_items: items that nobody bought together with another in training.
    """

    codes: Codes
    leaf_sizes: Integers
    depth: int
    divisions: int
    even_divisions: int
    isolated_items: int

    @property
    def codebook_size(self) -> int:
        """Codes of a level that are needed at most; never fewer than two."""
        return max(2, int(self.codes.max()) + 1)

    def metrics(self) -> dict[str, int | float]:
        """Shape of the tree, and what no edge decided."""
        return {
            "levels": self.codes.shape[1],
            "depth": self.depth,
            "leaves": len(self.leaf_sizes),
            "leaf_size_min": int(self.leaf_sizes.min()),
            "leaf_size_median": float(np.median(self.leaf_sizes)),
            "leaf_size_max": int(self.leaf_sizes.max()),
            "divisions": self.divisions,
            "even_divisions": self.even_divisions,
            "isolated_items": self.isolated_items,
        }


def cooccurrence(interactions: pa.Table, num_items: int) -> csr_array:
    """Users that bought both items in training, for every pair: [N, N], symmetric.

    Args:
        interactions: artifact INTERACTIONS; validation and test items are not looked at.
        num_items: N.

    Raises:
        MacrecError: an item beyond the catalogue.
    """
    train = interactions.filter(pc.equal(interactions.column("split"), "train"))
    users, items = (np.asarray(train.column(name)) for name in ("user_id", "item_id"))
    if len(items) and items.max() >= num_items:
        raise MacrecError(
            f"interactions: item {items.max()} in a catalogue of {num_items}; make both from one "
            "catalogue"
        )
    shape = (int(users.max(initial=-1)) + 1, num_items)
    bought = csr_array((np.ones(len(users)), (users, items)), shape=shape)
    bought.data[:] = 1.0  # a user counts once, however often he bought the item
    graph = csr_array(bought.T @ bought)
    graph.setdiag(0.0)
    graph.eliminate_zeros()
    return graph


def cluster_items(graph: csr_array, params: CollaborativeIdParams, seed: int) -> CollaborativeIds:
    """IDs of the nodes of a graph.

    Args:
        graph: [N, N] symmetric, zero diagonal, as `cooccurrence` gives it.
        params: clusters a division, size of a leaf, levels.
        seed: of spectral clustering, the same for each division.

    Raises:
        MacrecError: more items than the levels allowed can tell apart.
    """
    num_items, most = graph.shape[0], params.num_clusters ** (params.max_levels - 1)
    if num_items > most * params.max_leaf:
        raise MacrecError(
            f"{num_items} items in {most} leaves of {params.max_leaf} at most; raise "
            "collaborative_ids.num_clusters, max_leaf or max_levels"
        )
    leaves: list[Group] = []
    waiting: list[Group] = [((), np.arange(num_items))]
    divisions = even = 0
    while waiting:
        path, items = waiting.pop()
        if len(items) <= params.max_leaf:
            leaves.append((path, items))
            continue
        # What the levels below the children can still divide into leaves.
        limit = params.max_leaf * params.num_clusters ** (params.max_levels - 2 - len(path))
        labels = _clusters(graph[items][:, items], params, seed)
        divisions += 1
        if labels.max() == 0 or np.bincount(labels).max() > limit:
            even += 1
            labels = np.arange(len(items)) * params.num_clusters // len(items)
        waiting += [((*path, code), items[labels == code]) for code in range(labels.max() + 1)]
    if even:
        log.warning("%d of %d divisions have no clusters: equal parts instead", even, divisions)
    return CollaborativeIds(
        _codes(leaves, num_items, params.num_clusters),
        np.array([len(items) for _, items in leaves]),
        max(len(path) for path, _ in leaves),
        divisions,
        even,
        int((np.diff(graph.indptr) == 0).sum()),
    )


def _codes(leaves: list[Group], num_items: int, padding: int) -> Codes:
    depth = max(len(path) for path, _ in leaves)
    codes = np.full((num_items, depth + 1), padding, dtype=np.int32)
    for path, items in leaves:
        codes[items, : len(path)] = path
        codes[items, depth] = np.arange(len(items))
    return codes


def _clusters(graph: csr_array, params: CollaborativeIdParams, seed: int) -> Integers:
    """Cluster [n] of each node, the largest first; the module's text says how parts share them."""
    count, total = params.num_clusters, graph.shape[0]
    _, part = connected_components(graph, directed=False)
    sizes = np.bincount(part)
    members = np.split(np.argsort(part, kind="stable"), np.cumsum(sizes)[:-1])
    labels, used = np.zeros(total, dtype=np.int64), 0
    own = count * sizes // total
    for index in np.flatnonzero(own):
        rows = members[index]
        labels[rows] = used + _spectral(graph[rows][:, rows], int(own[index]), params.n_init, seed)
        used += own[index]
    # Rounding down leaves a cluster where a part got none.
    filled = np.zeros(count - used, dtype=np.int64)
    for index in np.argsort(-sizes, kind="stable"):
        if not own[index]:
            emptiest = int(filled.argmin())
            labels[members[index]] = used + emptiest
            filled[emptiest] += sizes[index]
    return _by_size(labels)


def _spectral(graph: csr_array, count: int, n_init: int, seed: int) -> Integers:
    """Cluster [n] of each node of a connected graph (Shi and Malik 2000; von Luxburg 2007).

    K-means on the `count` smoothest eigenvectors of the random walk, as scikit-learn's
    `SpectralClustering`. Its solvers are not used: ARPACK there inverts the Laplacian, which took
    20 s in place of 1 on Instruments, and LOBPCG gives up on small graphs.
    """
    if count >= graph.shape[0]:
        return np.arange(graph.shape[0])
    if count == 1:
        return np.zeros(graph.shape[0], dtype=np.int64)
    kmeans = KMeans(count, n_init=n_init, random_state=seed)
    # One thread: sums of several are added in the order in which threads end.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Fewer distinct rows than clusters: fewer clusters come out.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(kmeans.fit_predict(_smoothest(graph, count, seed))).astype(np.int64)


def _smoothest(graph: csr_array, count: int, seed: int) -> NDArray[np.float64]:
    """Eigenvectors [n, count] of D^-1 A of a connected graph A, D its degrees."""
    scale = np.asarray(graph.sum(axis=0)) ** -0.5
    # D^-1/2 A D^-1/2: symmetric, of the same eigenvalues.
    walk = csr_array(diags_array(scale) @ graph @ diags_array(scale))
    num_nodes = graph.shape[0]
    if num_nodes <= _DENSE_NODES:
        _, vectors = eigh(walk.toarray(), subset_by_index=(num_nodes - count, num_nodes - 1))
    else:
        start = np.random.default_rng(seed).uniform(-1.0, 1.0, num_nodes)
        try:
            _, vectors = eigsh(walk, count, which="LA", v0=start)
        except ArpackNoConvergence as error:
            raise MacrecError(
                f"spectral clustering of {num_nodes} items into {count} does not converge "
                f"({error}); change collaborative_ids.num_clusters"
            ) from error
    return np.asarray(vectors * scale[:, None])


def _by_size(labels: Integers) -> Integers:
    """The same clusters numbered by size; of equal ones that of the first node comes first."""
    _, first, inverse, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(first))
    return np.asarray(rank[inverse])
