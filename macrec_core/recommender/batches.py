"""The order in which training meets examples, and how it splits them into parts."""

from __future__ import annotations

import torch
from torch import Tensor

from macrec_core.runtime import generator

# Counts of sequences are multiples of it where they can be: the kernels for bfloat16 on a CPU
# are compiled for each shape they meet, which takes longer than running them.
_COUNT_STEP = 16


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Every example once, in a random order that is a function of seed and epoch alone.

    Args:
        count: examples.
        batch_size: examples a batch; the last one may be smaller.
        seed: of the run.
        epoch: counted from 0.
    """
    order = torch.randperm(count, generator=generator(seed, "gr-order", epoch))
    return list(order.split(batch_size))


def micro_batches(rows: Tensor, lengths: Tensor, max_tokens: int) -> list[Tensor]:
    """Split rows into parts of similar length, longest first, so that little is padded.

    The gradients of the parts add up to the batch's, whatever the split.

    Args:
        rows: [B] example indices.
        lengths: [n] length of every example.
        max_tokens: tokens a part, were it padded; a longer example is a part of its own.
    """
    by_length = rows[torch.argsort(lengths[rows], descending=True, stable=True)]
    longest = lengths[by_length].tolist()
    parts, start = [], 0
    while start < len(by_length):
        count = max(1, max_tokens // longest[start])
        if count > _COUNT_STEP:
            count -= count % _COUNT_STEP
        parts.append(by_length[start : start + count])
        start += count
    return parts
