"""Collaborative embeddings: items that the same people buy lie together.

Only training interactions are read: a held-out purchase that shaped its item's semantic ID would
leak into what is measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from threadpoolctl import threadpool_limits

from macrec_core.artifacts import read_artifact
from macrec_core.encoders.encoded import Encoded
from macrec_core.errors import MacrecError
from macrec_core.params.data import CooccurrenceSvdEncoder
from macrec_core.schemas import INTERACTIONS

# Of the randomised SVD: enough that the smallest axes too come out to many digits.
_POWER_ITERATIONS = 30
# Singular values below this share of the largest are rounding errors of zero.
_NEGLIGIBLE = 1e-10


def cooccurrence_svd(path: Path, num_items: int, section: CooccurrenceSvdEncoder) -> Encoded:
    """Shifted positive PMI of purchases by the same user, reduced by truncated SVD.

    U sqrt(S) of the matrix's singular vectors and values, which weighs both sides alike (Levy,
    Goldberg and Dagan, 2015). An item without neighbours, above all one without any training
    interaction, gets the zero vector and is counted.

    Args:
        path: artifact INTERACTIONS.
        num_items: N.
        section: `embed.collab`.

    Raises:
        MacrecError: `width` beyond what N items allow, or no two items with a positive value.
    """
    if section.width >= num_items:
        raise MacrecError(
            f"embed.collab.width={section.width}: {num_items} items allow at most "
            f"{num_items - 1}; lower it"
        )
    bought = training_purchases(path, num_items)
    weights = shifted_ppmi(bought, section.shift)
    if not weights.nnz:
        raise MacrecError(
            f"{path}: no two items are bought by one user more often than by chance times "
            f"embed.collab.shift={section.shift} in training; lower it, or choose other modalities"
        )
    # Not ARPACK, which restarts from random vectors of its own and gives other bytes each time.
    svd = TruncatedSVD(
        section.width, algorithm="randomized", n_iter=_POWER_ITERATIONS,
        power_iteration_normalizer="QR", random_state=section.seed,
    )  # fmt: skip
    with threadpool_limits(limits=1):  # sums in one order: equal bytes on every run
        projected = svd.fit_transform(weights)  # U S
    values = svd.singular_values_
    kept = values > _NEGLIGIBLE * values.max()
    scale = np.divide(1, np.sqrt(values), out=np.zeros_like(values), where=kept)
    lonely = np.diff(weights.indptr) == 0
    vectors = np.where(lonely[:, None], 0.0, projected * scale).astype(np.float32)
    info: dict[str, object] = {
        "encoder": section.encoder,
        "model": "cooccurrence_svd",
        "weights_sha256": None,
        "shift": section.shift,
        "seed": section.seed,
    }
    counts: dict[str, float] = {
        "interactions": int(bought.sum()),
        "items_without_interactions": int((bought.getnnz(axis=0) == 0).sum()),
        "items_without_neighbours": int(lonely.sum()),
        "neighbours": int(weights.nnz),
        "explained": float(np.square(values).sum() / weights.power(2).sum()),
    }
    return Encoded([vectors], info, counts)


def training_purchases(path: Path, num_items: int) -> sparse.csr_matrix:
    """How often each user bought each item in training, [users, N]."""
    table = read_artifact(path, INTERACTIONS, ["user_id", "item_id", "split"])
    train = table.filter(pc.equal(table.column("split"), "train"))
    users, items = (np.asarray(train.column(name)) for name in ("user_id", "item_id"))
    shape = (int(users.max(initial=-1)) + 1, num_items)
    return sparse.csr_matrix((np.ones(len(users)), (users, items)), shape=shape)


def shifted_ppmi(bought: sparse.csr_matrix, shift: float) -> sparse.csr_matrix:
    """max(PMI - log shift, 0) of items [N, N], symmetric (Levy and Goldberg, 2014).

    Two items occur together once for each user who bought both, however often; an item does not
    occur with itself. PMI = log(#(i, j) * total / (#(i) * #(j))), # counting pairs.
    """
    binary = (bought > 0).astype(np.float64)
    together = (binary.T @ binary).tocsr()
    together.setdiag(0.0)
    together.eliminate_zeros()
    pairs = np.asarray(together.sum(axis=1)).ravel()
    found = together.tocoo()
    values = np.log(found.data * pairs.sum() / (pairs[found.row] * pairs[found.col]))
    positive = np.maximum(values - np.log(shift), 0.0)
    weights = sparse.csr_matrix((positive, (found.row, found.col)), shape=found.shape)
    weights.eliminate_zeros()
    return weights
