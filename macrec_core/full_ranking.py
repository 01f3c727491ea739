"""Rankings of the whole catalogue, from a score for every item."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from macrec_core.errors import MacrecError
from macrec_core.ranking import Cases, Evaluation, Ranking

# Scores of a user for every item, [users, N] float, of the cases of a slice; minus infinity for
# an item that is never recommended.
Scores = Callable[[slice], NDArray[np.floating]]

# Scores at a time: what a core's cache holds.
_CHUNK = 2**20
# Never recommended.
_NEVER = -np.inf


def rank_all_items(
    name: str, score: Scores, cases: Cases, ties: NDArray[np.int64], length: int
) -> Evaluation:
    """The first `length` items of each case, and the place of its target among all.

    Args:
        name: of the list.
        score: see `Scores`.
        cases: users, targets and histories.
        ties: [N], decides between items of equal score, higher first. In lists item ids decide
            what is equal still; in the place of a target all equal items stand before it.
        length: items of a list.

    Raises:
        MacrecError: a score is no number.
    """
    num_items = len(ties)
    whole, unseen = _Lists(name), _Lists(name)
    case_of = cases.rows  # once: the chunks are many
    size = max(1, _CHUNK // num_items)
    for start in range(0, len(cases), size):
        rows = slice(start, min(len(cases), start + size))
        scores = np.array(score(rows), dtype=np.float32)  # a copy, changed below
        if np.isnan(scores).any():
            raise MacrecError(
                f"{name}: the score of an item for user {cases.users[rows][0]} or one of the next "
                f"{size} is no number; train again with a lower learning rate"
            )
        targets = cases.targets[rows]
        whole.add(scores, targets, ties, length)
        begin, end = cases.offsets[rows.start], cases.offsets[rows.stop]
        scores[case_of[begin:end] - start, cases.items[begin:end]] = _NEVER
        unseen.add(scores, targets, ties, length)
    return whole.evaluation(unseen.evaluation())


class _Lists:
    """Lists of the users so far."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._items: list[NDArray[np.int64]] = []
        self._scores: list[NDArray[np.float32]] = []
        self._ranks: list[NDArray[np.int64]] = []

    def add(
        self,
        scores: NDArray[np.float32],
        targets: NDArray[np.int64],
        ties: NDArray[np.int64],
        length: int,
    ) -> None:
        items = _first(scores, ties, length)
        self._items.append(items)
        self._scores.append(np.take_along_axis(scores, items, axis=1))
        self._ranks.append(_target_ranks(scores, targets, ties))

    def evaluation(self, unseen: Evaluation | None = None) -> Evaluation:
        items, scores = np.concatenate(self._items), np.concatenate(self._scores)
        kept = scores != _NEVER
        offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
        ranking = Ranking(offsets, items[kept], scores[kept].astype(np.float64))
        return Evaluation({self._name: ranking}, {self._name: np.concatenate(self._ranks)}, unseen)


def _target_ranks(
    scores: NDArray[np.float32], targets: NDArray[np.int64], ties: NDArray[np.int64]
) -> NDArray[np.int64]:
    own = scores[np.arange(len(targets)), targets][:, None]
    better = (scores > own).sum(axis=1)
    users, items = np.nonzero(scores == own)
    no_worse = ties[items] >= ties[targets[users]]  # the target itself among them
    ranks = better + np.bincount(users[no_worse], minlength=len(targets))
    return np.where(own[:, 0] == _NEVER, 0, ranks)


def _first(scores: NDArray[np.float32], ties: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The best `length` items [users, length] of each row, best first."""
    num_items = scores.shape[1]
    length = min(length, num_items)
    # Of the negatives: with many equal scores NumPy is ten times faster so.
    last = -np.partition(-scores, length - 1, axis=1)[:, length - 1, None]
    chosen = scores >= last
    crowded = np.flatnonzero(chosen.sum(axis=1) > length)
    if len(crowded):
        # Of the items that are as good as the last one, the first in the order of ties.
        order = np.lexsort((np.arange(num_items), -ties))
        better = scores[crowded] > last[crowded]
        equal = (scores[crowded] == last[crowded])[:, order]
        room = length - better.sum(axis=1, keepdims=True)
        better[:, order] |= equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= room)
        chosen[crowded] = better
    items = np.nonzero(chosen)[1].reshape(-1, length)
    values = np.take_along_axis(scores, items, axis=1)
    return np.take_along_axis(items, np.lexsort((items, -ties[items], -values)), axis=1)
