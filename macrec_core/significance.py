"""Whether one row of the results beats another: paired tests over users and over seeds.

Every row is measured on the same users, so that differences are taken user by user: what makes a
user easy or hard for all rows cancels. A user's value is the mean over the seeds. The tests say
how the difference would vary with other users; how it varies with other seeds, the interval over
seeds says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from macrec_core.params.evaluation import SignificanceParams

Floats = NDArray[np.float64]

# Users drawn at once, which bounds memory: [draws, users] of 8 bytes.
_DRAWN_AT_ONCE = 1 << 22
# Sums of the same numbers in another order differ by less.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Comparison:
    """Paired tests of one pair of rows in one metric.

    Attributes:
        difference: mean of the first row less mean of the second.
        low: lower end of the bootstrap's percentile interval.
        high: its upper end.
        p_bootstrap: two-sided, of the paired bootstrap.
        p_t: two-sided, of the paired t-test.
    """

    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_t: float


@dataclass(frozen=True)
class Seeds:
    """How the difference of two rows varies with the seed.

    Attributes:
        difference: mean over the seeds.
        low: lower end of its interval by Student's t.
        high: upper end.
        count: seeds.
    """

    difference: float
    low: float
    high: float
    count: int


def bootstrap_means(values: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Means of every row over resampled users: [draws, rows].

    One resample serves all rows, so that the difference of two columns is the paired bootstrap
    of their difference: users are drawn once, however many pairs there are.

    Args:
        values: [users, rows].
        draws: resamples of as many users, with replacement.
        rng: generator of the resamples.
    """
    num_users = len(values)
    means = np.empty((draws, values.shape[1]))
    chunk = max(1, _DRAWN_AT_ONCE // num_users)
    # One thread: with more, the sums may be added in another order.
    with threadpool_limits(limits=1):
        for start in range(0, draws, chunk):
            size = min(chunk, draws - start)
            drawn = rng.integers(0, num_users, (size, num_users))
            drawn += np.arange(size)[:, None] * num_users
            counts = np.bincount(drawn.ravel(), minlength=size * num_users)
            means[start : start + size] = counts.reshape(size, num_users) @ values / num_users
    return means


def paired_t_test(differences: Floats) -> float:
    """Two-sided p of a mean of 0 for differences [n], by Student's t.

    Equal differences have no spread: p is 1 where they are 0, and 0 otherwise; a single
    difference says nothing, p is 1.
    """
    count, mean = len(differences), float(np.mean(differences))
    if count < 2:
        return 1.0
    error = float(np.std(differences, ddof=1)) / np.sqrt(count)
    if error < _ROUNDING:
        return 1.0 if abs(mean) < _ROUNDING else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, count - 1))


def compare_all(
    values: Mapping[str, Floats], params: SignificanceParams
) -> dict[tuple[str, str], Comparison]:
    """Both tests of every pair of rows, in the order of the rows.

    The bootstrap's p is the share of resampled differences at least as far from the difference
    found as that is from 0 (Efron and Tibshirani 1993, section 16.4), the found one counted in:
    never 0, at least 1 / (draws + 1).

    Args:
        values: by row [users], the same users in the same order.
        params: section `significance`.
    """
    rows = list(values)
    if len(rows) < 2:
        return {}
    matrix = np.stack([values[row] for row in rows], axis=1)  # [users, rows]
    rng = np.random.default_rng(params.seed)
    means = bootstrap_means(matrix, params.bootstrap_draws, rng)
    tail = 100 * (1 - params.confidence) / 2
    found = {}
    for one, other in combinations(range(len(rows)), 2):
        apart = matrix[:, one] - matrix[:, other]
        difference = float(np.mean(apart))
        drawn = means[:, one] - means[:, other]
        low, high = np.percentile(drawn, [tail, 100 - tail])
        as_far = np.abs(drawn - difference) >= abs(difference) - _ROUNDING
        p = (1 + np.count_nonzero(as_far)) / (len(drawn) + 1)
        found[rows[one], rows[other]] = Comparison(
            difference, float(low), float(high), float(p), paired_t_test(apart)
        )
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down rule (1979).

    The k-th smallest of m is multiplied by m - k + 1; none becomes smaller than one before it,
    or larger than 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(value) for value in adjusted]


def over_seeds(one: Sequence[float], other: Sequence[float], confidence: float) -> Seeds | None:
    """Student's interval of the mean paired difference over seeds; None below two of them.

    Args:
        one: a row's means, a seed each.
        other: another row's, of the same seeds.
        confidence: of the interval.
    """
    differences = np.subtract(one, other)
    if len(differences) < 2:
        return None
    mean = float(np.mean(differences))
    error = float(np.std(differences, ddof=1)) / np.sqrt(len(differences))
    reach = float(stats.t.ppf((1 + confidence) / 2, len(differences) - 1)) * error
    return Seeds(mean, mean - reach, mean + reach, len(differences))
