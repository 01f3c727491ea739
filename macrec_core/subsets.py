"""The one rule by which a limit on users chooses them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def chosen_users(count: int, limit: int | None) -> NDArray[np.int64]:
    """Rows 0..count-1, or a subset of `limit` of them, ascending.

    The subset is a function of `count` and `limit` alone, so that every variant, seed and
    yardstick is measured on the same users.
    """
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])
