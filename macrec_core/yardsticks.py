"""Rankings that need no training: what is popular, and what is bought together.

They are no formality: on the paper's Instruments `item_knn` comes near the published rows. Each
is a score for every item; items of equal score are recommended in the order of popularity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from macrec_core.cases import training_sequences
from macrec_core.catalog.oracle import Oracle, oracle_scores
from macrec_core.full_ranking import Scores, rank_all_items
from macrec_core.metrics import expected_random_metrics
from macrec_core.ranking import Cases, Evaluation, together
from macrec_core.recommendations import ALL_ITEMS, UNSEEN_ITEMS

if TYPE_CHECKING:
    from macrec_core.params.evaluation import YardstickParams


def rank_by_yardsticks(
    interactions: pa.Table, cases: Cases, num_items: int, params: YardstickParams, length: int
) -> Evaluation:
    """Lists `popularity`, `last_item` and `item_knn`.

    Args:
        interactions: artifact INTERACTIONS; only those of training are counted.
        cases: whom to recommend for.
        num_items: N.
        params: section `yardsticks`.
        length: items of a list.
    """
    users, items = training_sequences(interactions)
    counts = np.bincount(items, minlength=num_items)
    scores: dict[str, Scores] = {
        "popularity": _popularity(counts),
        "last_item": _last_item(users, items, cases, num_items, params.cooccurrence_window),
        "item_knn": _item_knn(users, items, cases, num_items, params),
    }
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


def _item_knn(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    cases: Cases,
    num_items: int,
    params: YardstickParams,
) -> Scores:
    """Item-based nearest neighbours (Sarwar et al., 2001; Deshpande and Karypis, 2004).

    Score: sum over the last `max_history` items of decay ** age * cosine, the cosine that of the
    items' columns in the binary user-item matrix; an item is no neighbour of itself.
    """
    shape = (int(users.max(initial=-1)) + 1, num_items)
    bought = sparse.csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=shape)
    bought.data[:] = 1.0  # however often
    bought_by_both = (bought.T @ bought).tocsr()
    norms = np.sqrt(bought_by_both.diagonal())
    scale = sparse.diags(np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0))
    bought_by_both.setdiag(0.0)
    cosines = (scale @ bought_by_both @ scale).tocsr()
    recent = cases.recent(params.max_history)
    weights = (params.recency_decay**recent.ages).astype(np.float32)
    histories = sparse.csr_matrix(
        (weights, (recent.rows, recent.items)), shape=(len(cases), num_items)
    )
    return lambda rows: (histories[rows] @ cosines).toarray()
