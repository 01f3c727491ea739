"""Histories and the items that follow them, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macrec_core.ranking import Cases
from macrec_core.runtime import sent


@dataclass(frozen=True)
class Batch:
    """Histories side by side, oldest item first, filled up at the end.

    Attributes:
        items: [B, T] int64 item ids; N, one more than the last item's, where a history has ended.
        lengths: [B] int64, at least 1.
        targets: [B] int64, the next item of each.
    """

    items: Tensor
    lengths: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(sent(part, device) for part in (self.items, self.lengths, self.targets)))

    def last(self, states: Tensor) -> Tensor:
        """States [B, d] at the end of each history, of states [B, T, d]."""
        index = (self.lengths - 1)[:, None, None].expand(-1, 1, states.shape[2])
        return states.gather(1, index)[:, 0]

    def inside(self) -> Tensor:
        """[B, T] bool: whether a place holds an item of the history."""
        steps = torch.arange(self.items.shape[1], device=self.items.device)
        return steps < self.lengths[:, None]


@dataclass(frozen=True)
class Histories:
    """Histories that lie in one row of items, so that overlapping ones cost nothing.

    Attributes:
        items: flat item ids, with the padding N at the end.
        starts: [E] first place of each history in `items`.
        lengths: [E] its items.
        targets: [E] the item that follows.
    """

    items: Tensor
    starts: Tensor
    lengths: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.starts)

    def to(self, device: torch.device) -> Histories:
        """The same on another device."""
        parts = (self.items, self.starts, self.lengths, self.targets)
        return Histories(*(part.to(device) for part in parts))

    def batch(self, rows: Tensor) -> Batch:
        """The histories of some rows [B], side by side."""
        starts, lengths = self.starts[rows], self.lengths[rows]
        steps = torch.arange(int(lengths.max()), device=rows.device)
        inside = steps < lengths[:, None]
        places = torch.where(inside, starts[:, None] + steps, len(self.items) - 1)
        return Batch(self.items[places], lengths, self.targets[rows])


def training_histories(
    users: NDArray[np.int64], items: NDArray[np.int64], num_items: int, max_history: int
) -> Histories:
    """Every training interaction but a user's first one, after the items that came before it.

    Args:
        users: [interactions] user ids, user by user.
        items: [interactions], oldest first.
        num_items: N.
        max_history: items that a history keeps at most, the latest ones.
    """
    first = np.searchsorted(users, users)  # of each interaction's user
    ends = np.flatnonzero(np.arange(len(users)) > first)
    starts = np.maximum(first[ends], ends - max_history)
    return _histories(items, starts, ends - starts, items[ends], num_items)


def held_out_histories(cases: Cases, num_items: int, max_history: int) -> Histories:
    """The latest `max_history` items of each case, and its target."""
    ends = cases.offsets[1:]
    starts = np.maximum(cases.offsets[:-1], ends - max_history)
    return _histories(cases.items, starts, ends - starts, cases.targets, num_items)


def whole_sequences(
    users: NDArray[np.int64], items: NDArray[np.int64], num_items: int, max_history: int
) -> Histories:
    """The latest `max_history` training interactions of each user, one after another.

    Nothing else lies in the row of items. No item follows, so that all targets are the padding.

    Args:
        users: [interactions] user ids, user by user.
        items: [interactions], oldest first.
        num_items: N.
        max_history: items that a sequence keeps at most.
    """
    kept = np.searchsorted(users, users, side="right") - np.arange(len(users)) <= max_history
    _, starts, lengths = np.unique(users[kept], return_index=True, return_counts=True)
    nothing = np.full(len(starts), num_items)
    return _histories(items[kept], starts, lengths, nothing, num_items)


def _histories(
    items: NDArray[np.int64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    targets: NDArray[np.int64],
    num_items: int,
) -> Histories:
    padded = np.append(items, num_items)
    return Histories(*(torch.from_numpy(part) for part in (padded, starts, lengths, targets)))
