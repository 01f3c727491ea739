"""Who is recommended for, read from the interactions."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from macrec_core.ranking import Cases
from macrec_core.subsets import chosen_users


def cases_of(
    interactions: pa.Table, split: Literal["valid", "test"], max_users: int | None
) -> Cases:
    """Users, targets and whole histories of a split; of test, the validation item is history.

    A user's only item is no case: it has no history.

    Args:
        interactions: artifact INTERACTIONS.
        split: whose items are the targets.
        max_users: a limit, as `eval.max_users`; None for every user.
    """
    users = np.asarray(interactions.column("user_id")).astype(np.int64)
    items = np.asarray(interactions.column("item_id")).astype(np.int64)
    is_target = np.asarray(pc.equal(interactions.column("split"), split))
    has_history = np.asarray(interactions.column("position")) > 0
    ends = np.flatnonzero(is_target & has_history)
    everyone = len(ends)
    ends = ends[chosen_users(everyone, max_users)]
    starts = np.searchsorted(users, users[ends])
    lengths = ends - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, lengths)
    return Cases(users[ends], items[ends], items[flat], offsets, everyone - len(ends))


def training_sequences(interactions: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Users and items of the training interactions, user by user, oldest first."""
    train = interactions.filter(pc.equal(interactions.column("split"), "train"))
    users = np.asarray(train.column("user_id")).astype(np.int64)
    return users, np.asarray(train.column("item_id")).astype(np.int64)
