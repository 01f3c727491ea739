"""What S³-Rec hides from itself: masked places, negative items and segments of sequences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from macrec_core.baselines.histories import Histories
from macrec_core.errors import MacrecError
from macrec_core.runtime import sent


@dataclass(frozen=True)
class Segments:
    """A stretch of each sequence and one of another sequence, of equal length.

    Attributes:
        inside: [B, T] bool, the places of the stretch.
        negative: [B, T] int64, in these places the other sequence's items.
        valid: [B] bool; False where a sequence has one item, or where no other stretch of the
            length exists.
    """

    inside: Tensor
    negative: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> Segments:
        """The same on another device."""
        return Segments(*(sent(part, device) for part in (self.inside, self.negative, self.valid)))


def draw_masks(lengths: Tensor, width: int, ratio: float, draws: torch.Generator) -> Tensor:
    """[B, width] bool: each item with probability `ratio`; where none is drawn, the last one."""
    places = torch.arange(width)
    masked = torch.rand(len(lengths), width, generator=draws) < ratio
    masked &= places < lengths[:, None]
    none = ~masked.any(dim=1, keepdim=True)
    return masked | (none & (places == lengths[:, None] - 1))


def draw_negatives(items: Tensor, num_items: int, draws: torch.Generator) -> Tensor:
    """[B, T] int64: at each place an item that its sequence does not hold, all alike likely.

    Args:
        items: [B, T], the padding N behind the end.
        num_items: N.
        draws: CPU generator.

    Raises:
        MacrecError: a sequence holds the whole catalogue.
    """
    ordered = items.sort(dim=1).values
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    distinct = ordered.masked_fill(repeated, num_items).sort(dim=1).values
    free = num_items - (distinct < num_items).sum(dim=1, keepdim=True)
    if int(free.min()) < 1:
        raise MacrecError(
            f"masked item prediction: a training sequence holds all {num_items} items, so that "
            "there is no negative one; lower sequential.max_history"
        )
    drawn = _below(free.expand_as(items), draws)
    # The drawn-th of the items that are left: every held one that lies before it moves it on.
    for held in distinct.unbind(dim=1):
        drawn = drawn + (drawn >= held[:, None])
    return drawn


def draw_segments(
    sequences: Histories, rows: Tensor, width: int, draws: torch.Generator
) -> Segments:
    """A stretch of each sequence, up to half of it, and one from elsewhere.

    Length and place are drawn with equal chances, and so is where the other begins, anywhere in
    the row of all sequences but in this one.

    Args:
        sequences: whole sequences and nothing else in their row of items.
        rows: [B] of them.
        width: T, of the longest.
        draws: CPU generator.
    """
    starts, lengths = sequences.starts[rows], sequences.lengths[rows]
    size = 1 + _below((lengths // 2).clamp(min=1), draws)
    first = _below(lengths - size + 1, draws)
    total = len(sequences.items) - 1  # without the padding
    before = (starts - size + 1).clamp(min=0)
    after = (total - size - (starts + lengths) + 1).clamp(min=0)
    place = _below((before + after).clamp(min=1), draws)
    other = torch.where(place < before, place, place - before + starts + lengths)
    steps = torch.arange(width)
    inside = (steps >= first[:, None]) & (steps < (first + size)[:, None])
    taken = (other[:, None] + steps - first[:, None]).clamp(0, total)
    valid = (lengths > 1) & (before + after > 0)
    return Segments(inside, sequences.items[taken], valid)


def _below(limits: Tensor, draws: torch.Generator) -> Tensor:
    """A whole number from 0 to below each limit, all alike likely."""
    # Double precision: of a float32 below 1 the product could round up to the limit.
    return (torch.rand(limits.shape, generator=draws, dtype=torch.double) * limits).long()
