"""Rankings that need no training, for scale: popularity and chance."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from macrec_core.subsets import chosen_users


def test_cases(
    interactions: pa.Table, max_users: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.int64]]]:
    """Users, test targets and whole histories (validation item included).

    As in the evaluation, a user's only item is no case: it has no history.

    Args:
        interactions: artifact INTERACTIONS.
        max_users: a limit, as `eval.max_users`; None for every user.
    """
    users = np.asarray(interactions.column("user_id")).astype(np.int64)
    items = np.asarray(interactions.column("item_id")).astype(np.int64)
    is_test = np.asarray(pc.equal(interactions.column("split"), "test"))
    has_history = np.asarray(interactions.column("position")) > 0
    ends = np.flatnonzero(is_test & has_history)
    ends = ends[chosen_users(len(ends), max_users)]
    starts = np.searchsorted(users, users[ends])
    histories = [items[start:end] for start, end in zip(starts, ends, strict=True)]
    return users[ends], items[ends], histories


def popularity_ranks(
    interactions: pa.Table, targets: NDArray[np.int64], num_items: int
) -> NDArray[np.int64]:
    """Rank of each test target by number of training interactions, all items ranked.

    Items of equal popularity count as before the target.

    Args:
        interactions: artifact INTERACTIONS.
        targets: [users] test items.
        num_items: N.
    """
    train = interactions.filter(pc.equal(interactions.column("split"), "train"))
    counts = np.bincount(np.asarray(train.column("item_id")), minlength=num_items)
    at_least = np.cumsum(np.bincount(counts)[::-1])[::-1]  # items with this count or more
    return np.asarray(at_least[counts[targets]])
