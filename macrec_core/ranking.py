"""Ranked lists: what every recommender here ends in, and whom they are made for.

Every list is measured twice: with the whole catalogue as candidates, and without what the user
has bought before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Name of the list that unites those of all modalities.
ENSEMBLE = "ensemble"
# Lists that need no training.
YARDSTICKS = ("popularity", "last_item", "item_knn", "ease")


@dataclass(frozen=True)
class Cases:
    """Users to recommend for: a target each, and what they bought before it, oldest first.

    Attributes:
        users: [U] user ids.
        targets: [U] item ids.
        items: flat item ids of the histories.
        offsets: [U + 1]; case u's history is `items[offsets[u]:offsets[u + 1]]`, never empty.
        num_left_out: users that a limit has left out.
    """

    users: NDArray[np.int64]
    targets: NDArray[np.int64]
    items: NDArray[np.int64]
    offsets: NDArray[np.int64]
    num_left_out: int = 0

    def __len__(self) -> int:
        return len(self.users)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Case of each item of `items`."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def ages(self) -> NDArray[np.int64]:
        """For each item of `items`, how many purchases came after it."""
        return np.repeat(self.offsets[1:], np.diff(self.offsets)) - 1 - np.arange(len(self.items))

    @property
    def histories(self) -> list[NDArray[np.int64]]:
        """The items of each case."""
        return np.split(self.items, self.offsets[1:-1])

    @property
    def num_repeated(self) -> int:
        """Targets that the user has bought before: out of reach where such are left out."""
        rows = self.rows
        return len(np.unique(rows[self.items == self.targets[rows]]))

    def recent(self, count: int) -> Cases:
        """The same with the last `count` items of each history."""
        kept = self.ages < count
        lengths = np.minimum(np.diff(self.offsets), count)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Cases(self.users, self.targets, self.items[kept], offsets, self.num_left_out)


@dataclass(frozen=True)
class Ranking:
    """Ranked items of many users, best first.

    Attributes:
        offsets: [U + 1]; user u's items are `items[offsets[u]:offsets[u + 1]]`.
        items: flat item ids.
        scores: flat scores.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    scores: NDArray[np.float64]

    @property
    def users(self) -> NDArray[np.int64]:
        """Flat row number of the user of each item."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclass(frozen=True)
class Evaluation:
    """Ranked lists and the place of each user's target in them.

    Attributes:
        rankings: by list name, such as a modality's.
        ranks: by list name [users], 1 for the first place, 0 where the target has none.
        unseen: the same without what the user bought before; None where histories are unknown.
    """

    rankings: Mapping[str, Ranking]
    ranks: Mapping[str, NDArray[np.int64]]
    unseen: Evaluation | None = None


def ranked(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    scores: NDArray[np.float64],
    num_users: int,
) -> Ranking:
    """Order scored items of users, given in any order; equal scores by item id."""
    order = np.lexsort((items, -scores, users))
    counts = np.bincount(users, minlength=num_users)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Ranking(offsets, items[order], scores[order])


def without_seen(ranking: Ranking, cases: Cases) -> Ranking:
    """The lists without the items of each user's history."""
    users = ranking.users
    stride = int(max(ranking.items.max(initial=0), cases.items.max(initial=0))) + 1
    kept = ~np.isin(users * stride + ranking.items, cases.rows * stride + cases.items)
    counts = np.bincount(users[kept], minlength=len(cases))
    return Ranking(
        np.concatenate([[0], np.cumsum(counts)]), ranking.items[kept], ranking.scores[kept]
    )


def together(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The lists of several evaluations of the same users, which have different names, as one."""
    unseen = [part.unseen for part in evaluations if part.unseen is not None]
    return Evaluation(
        {name: ranking for part in evaluations for name, ranking in part.rankings.items()},
        {name: ranks for part in evaluations for name, ranks in part.ranks.items()},
        together(unseen) if unseen else None,
    )
