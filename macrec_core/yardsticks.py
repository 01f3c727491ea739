"""Rankings that need no training: what is popular, and what is bought together.

They are no formality: on the paper's Instruments `item_knn` comes near the published rows, and
`ease` reaches HR@10 .1423 where MACRec's is .1363. Each is a score for every item; items of equal
score are recommended in the order of popularity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.linalg import lapack

from macrec_core.cases import training_sequences
from macrec_core.catalog.oracle import Oracle, oracle_scores
from macrec_core.errors import MacrecError
from macrec_core.full_ranking import Scores, rank_all_items
from macrec_core.metrics import expected_random_metrics
from macrec_core.ranking import Cases, Evaluation, together
from macrec_core.recommendations import ALL_ITEMS, UNSEEN_ITEMS

if TYPE_CHECKING:
    from macrec_core.params.evaluation import YardstickParams


def rank_by_yardsticks(
    interactions: pa.Table, cases: Cases, num_items: int, params: YardstickParams, length: int
) -> Evaluation:
    """Lists `popularity`, `last_item`, `item_knn` and, unless it is switched off, `ease`.

    Args:
        interactions: artifact INTERACTIONS; only those of training are counted.
        cases: whom to recommend for.
        num_items: N.
        params: section `yardsticks`.
        length: items of a list.

    Raises:
        MacrecError: memory does not suffice for EASE.
    """
    users, items = training_sequences(interactions)
    counts = np.bincount(items, minlength=num_items)
    scores: dict[str, Scores] = {
        "popularity": _popularity(counts),
        "last_item": _last_item(users, items, cases, num_items, params.cooccurrence_window),
    }
    bought_by_both = _bought_by_both(users, items, num_items)
    recent = _recent(cases, num_items, params)
    cosines = _cosines(bought_by_both)
    scores["item_knn"] = lambda rows: (recent[rows] @ cosines).toarray()
    if params.ease_regularization is not None:
        weights = ease_weights(bought_by_both, params.ease_regularization)
        scores["ease"] = lambda rows: recent[rows] @ weights
    return together(
        [rank_all_items(name, score, cases, counts, length) for name, score in scores.items()]
    )


def rank_by_oracle(
    oracle: Oracle, item_keys: Sequence[str], user_keys: Sequence[str], cases: Cases, length: int
) -> Evaluation:
    """List `oracle`: the order of the true probabilities, where the generating process is known.

    Args:
        oracle: the generating process.
        item_keys: the catalogue; item id i is `item_keys[i]`.
        user_keys: of the cases.
        cases: whom to recommend for.
        length: items of a list.
    """
    scores = oracle_scores(oracle, item_keys, user_keys, cases.histories)
    equal = np.zeros(len(item_keys), dtype=np.int64)
    return rank_all_items("oracle", scores.__getitem__, cases, equal, length)


def random_metrics(num_items: int, cases: Cases) -> dict[str, dict[str, float]]:
    """Expected metrics of a random order of all items, and of those not bought before."""
    everything = np.full(len(cases), num_items)
    rows = cases.rows
    seen = np.unique(rows * num_items + cases.items) // num_items
    unseen = everything - np.bincount(seen, minlength=len(cases))
    bought = np.zeros(len(cases), dtype=bool)
    bought[rows[cases.items == cases.targets[rows]]] = True
    return {
        ALL_ITEMS: expected_random_metrics(everything),
        # A target bought before is no candidate, and so never hit.
        UNSEEN_ITEMS: expected_random_metrics(np.where(bought, np.inf, unseen)),
    }


def _popularity(counts: NDArray[np.int64]) -> Scores:
    return lambda rows: np.broadcast_to(counts, (rows.stop - rows.start, len(counts)))


def _last_item(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    cases: Cases,
    num_items: int,
    window: int,
) -> Scores:
    """How often an item came within `window` purchases after the user's last one.

    Each time counts 1 / distance.
    """
    counts = sparse.csr_matrix((num_items, num_items), dtype=np.float32)
    for distance in range(1, window + 1):
        same = users[distance:] == users[:-distance]
        pairs = items[:-distance][same], items[distance:][same]
        weights = np.full(len(pairs[0]), 1.0 / distance, dtype=np.float32)
        counts += sparse.csr_matrix((weights, pairs), shape=counts.shape)
    last = cases.items[cases.offsets[1:] - 1]
    return lambda rows: counts[last[rows]].toarray()


def _bought_by_both(
    users: NDArray[np.int64], items: NDArray[np.int64], num_items: int
) -> sparse.csr_matrix:
    """[N, N] float32: how many users bought both items; on the diagonal, that one."""
    shape = (int(users.max(initial=-1)) + 1, num_items)
    bought = sparse.csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=shape)
    bought.data[:] = 1.0  # however often
    return (bought.T @ bought).tocsr()


def _recent(cases: Cases, num_items: int, params: YardstickParams) -> sparse.csr_matrix:
    """[U, N] float32: the last `max_history` items of each case, each with decay ** age."""
    recent = cases.recent(params.max_history)
    weights = (params.recency_decay**recent.ages).astype(np.float32)
    return sparse.csr_matrix((weights, (recent.rows, recent.items)), shape=(len(cases), num_items))


def _cosines(bought_by_both: sparse.csr_matrix) -> sparse.csr_matrix:
    """Item-based nearest neighbours (Sarwar et al., 2001; Deshpande and Karypis, 2004).

    [N, N]: cosines of the items' columns in the binary user-item matrix; an item is no neighbour
    of itself.
    """
    norms = np.sqrt(bought_by_both.diagonal())
    scale = sparse.diags(np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0))
    others = bought_by_both.copy()
    others.setdiag(0.0)
    return (scale @ others @ scale).tocsr()


def ease_weights(bought_by_both: sparse.csr_matrix, regularization: float) -> NDArray[np.float32]:
    """Embarrassingly shallow autoencoder: weights [N, N] of one item for another (Steck, 2019).

    B minimises |X - XB|^2 + regularization |B|^2 with a zero diagonal, for the binary user-item
    matrix X: with P the inverse of XᵀX + regularization I, B_ij = -P_ij / P_jj. Takes N^3
    multiplications and about 20 N^2 bytes.

    Args:
        bought_by_both: [N, N], XᵀX.
        regularization: above 0.

    Raises:
        MacrecError: memory does not suffice.
    """
    try:
        gram = np.asfortranarray(bought_by_both.toarray(), dtype=np.float64)
        np.fill_diagonal(gram, gram.diagonal() + regularization)
        factor, _ = linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
        inverse, _ = lapack.dpotri(factor, lower=True, overwrite_c=True)  # its lower triangle
        np.copyto(inverse, inverse.T, where=~np.tri(len(inverse), dtype=bool))
    except MemoryError as error:
        raise MacrecError(
            f"memory does not suffice for EASE of {bought_by_both.shape[0]} items ({error}); "
            "yardsticks.ease_regularization: null leaves it out"
        ) from error
    weights: NDArray[np.float32] = np.divide(-inverse, inverse.diagonal(), dtype=np.float32)
    np.fill_diagonal(weights, 0.0)
    return weights
