"""What is reported: ranking metrics, collision rate, codebook use.

Ranks are 1 for the first place and 0 where the target is not in the list.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HIT_CUTOFFS = (1, 5, 10)
NDCG_CUTOFFS = (5, 10)


def hit_rate(ranks: NDArray[np.int64], k: int) -> float:
    """HR@k: share of users whose target stands among the first k places."""
    return float(np.mean((ranks > 0) & (ranks <= k)))


def ndcg(ranks: NDArray[np.int64], k: int) -> float:
    """NDCG@k with one relevant item a user: mean of 1 / log2(rank + 1) within k, else 0."""
    hit = (ranks > 0) & (ranks <= k)
    return float(np.sum(1.0 / np.log2(ranks[hit] + 1.0)) / len(ranks))


def ranking_metrics(ranks: NDArray[np.int64]) -> dict[str, float]:
    """HR@1/5/10 and NDCG@5/10 over all users.

    Args:
        ranks: [users], every user counted, 0 for a miss.
    """
    hits = {f"hr@{k}": hit_rate(ranks, k) for k in HIT_CUTOFFS}
    return hits | {f"ndcg@{k}": ndcg(ranks, k) for k in NDCG_CUTOFFS}


def expected_random_metrics(candidates: NDArray[np.floating]) -> dict[str, float]:
    """Expected metrics of a uniformly random order.

    Args:
        candidates: [users] how many candidates each has, the target among them; infinity where
            it is not.
    """
    values = {f"hr@{k}": float(np.mean(np.minimum(1.0, k / candidates))) for k in HIT_CUTOFFS}
    for k in NDCG_CUTOFFS:
        gains = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(1, k + 1) + 1.0))])
        reached = gains[np.minimum(candidates, k).astype(np.int64)]
        values[f"ndcg@{k}"] = float(np.mean(reached / candidates))
    return values


def collision_rate(codes: NDArray[np.int32]) -> float:
    """(N - distinct IDs) / N, of codes [N, L] (Table 4)."""
    return 1.0 - num_distinct(codes) / len(codes)


def num_distinct(codes: NDArray[np.int32]) -> int:
    """Distinct IDs among codes [N, L]."""
    if not len(codes):
        return 0
    # Numbers sort ten times faster than rows.
    keys = np.sort(id_keys(codes, int(codes.max()) + 1))
    return 1 + int(np.count_nonzero(keys[1:] != keys[:-1]))


def id_keys(codes: NDArray[np.int32], codebook_size: int) -> NDArray[np.int64]:
    """A number [N] for each of codes [N, L]: equal for equal ones, in lexicographic order."""
    keys, span = np.zeros(len(codes), dtype=np.int64), 1
    for level in codes.T:
        if span * codebook_size > np.iinfo(np.int64).max:
            # Too many IDs for 64 bits: from here on number the prefixes that occur.
            _, keys = np.unique(keys, return_inverse=True)
            span = len(keys)
        keys = keys * codebook_size + level
        span *= codebook_size
    return keys


def codebook_use(codes: NDArray[np.int32], codebook_size: int) -> list[float]:
    """Share of codes in use at each level, of codes [N, L]."""
    return [len(np.unique(level)) / codebook_size for level in codes.T]


def code_entropy(codes: NDArray[np.int32], codebook_size: int) -> list[float]:
    """Entropy of code frequencies at each level, as a share of its maximum log M."""
    shares = []
    for level in codes.T:
        p = np.bincount(level, minlength=codebook_size) / len(level)
        p = p[p > 0]
        shares.append(float(-(p * np.log(p)).sum() / np.log(codebook_size)))
    return shares


def sorted_code_counts(codes: NDArray[np.int32], codebook_size: int) -> NDArray[np.int64]:
    """Items a codeword at each level, in descending order: [L, M] (Figure 4)."""
    counts = [np.bincount(level, minlength=codebook_size) for level in codes.T]
    return -np.sort(-np.stack(counts), axis=1)


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; None where one value gives none."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), std
