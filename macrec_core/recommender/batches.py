"""Token sequences in memory, and the order in which training meets them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from macrec_core.runtime import generator


@dataclass(frozen=True)
class Sequences:
    """Variable-length token sequences as one flat tensor.

    Attributes:
        flat: [tokens] int32.
        offsets: [n + 1] int64.
    """

    flat: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """[n] tokens of each sequence."""
        return self.offsets[1:] - self.offsets[:-1]

    def padded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Some sequences, padded with 0 to the longest of them.

        Args:
            rows: [B] int64 indices.

        Returns:
            [B, S] int64 token ids and [B, S] bool mask.
        """
        lengths = self.lengths[rows]
        places = torch.arange(int(lengths.max()), device=lengths.device)
        mask = places < lengths[:, None]
        index = (self.offsets[rows][:, None] + places).clamp(max=len(self.flat) - 1)
        return torch.where(mask, self.flat[index].long(), 0), mask

    def to(self, device: torch.device) -> Sequences:
        """The same on another device."""
        return Sequences(self.flat.to(device), self.offsets.to(device))


def epoch_batches(
    lengths: Tensor, batch_size: int, length_pool: int, seed: int, epoch: int
) -> list[Tensor]:
    """Every example once, in an order that is a function of seed and epoch alone.

    Random examples are drawn in pools of `length_pool` batches; a pool is sorted by length and
    cut into batches, whose order is then random. A pool of one batch leaves batches purely
    random; larger ones save padding and make the examples of a batch alike in length.

    Args:
        lengths: [n] source length of every example.
        batch_size: examples a batch; the last one may be smaller.
        length_pool: batches a pool.
        seed: of the run.
        epoch: counted from 0.
    """
    draws = generator(seed, "gr-order", epoch)
    order = torch.randperm(len(lengths), generator=draws)
    batches: list[Tensor] = []
    for pool in order.split(batch_size * length_pool):
        if length_pool > 1:
            pool = pool[torch.argsort(lengths[pool], stable=True)]
        batches += pool.split(batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=draws).tolist()]


def micro_batches(rows: Tensor, lengths: Tensor, size: int) -> list[Tensor]:
    """Split one batch into parts of similar length, so that little is padded.

    The gradients of the parts add up to the batch's, whatever the split.

    Args:
        rows: [B] example indices.
        lengths: [n] source length of every example.
        size: examples a part.
    """
    by_length = rows[torch.argsort(lengths[rows], stable=True)]
    return list(by_length.split(size))
