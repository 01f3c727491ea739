"""Token sequences in memory, and batches of them without padding.

What works on single tokens (projections, norms, feed-forward layers: nearly all of the work)
takes the tokens of a batch as rows one after another. Only attention needs sequences side by
side; for it the rows are put into slots, chunk by chunk of sequences of like length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from macrec_core.runtime import sent

# A chunk has a power of two of sequences and about so many slots, on a CPU: that many fit the
# caches, and so few shapes occur that their kernels are compiled once (see `batches`).
_CHUNK_SLOTS = 2048
# On a GPU: few large steps, yet not all sequences as wide as the longest. At least so many, and
# all that are like the first: about as many chunks as there are doublings of length.
_CHUNK_SEQUENCES = 256
_ROW_STEP = 256  # numbers of rows and of slots are multiples of it, for the same reason


@dataclass(frozen=True)
class Chunk:
    """Sequences side by side.

    Attributes:
        count: sequences.
        length: slots of each, as many as the longest has tokens.
        mask: [count, length] bool, False where a slot is empty; None where all are filled.
    """

    count: int
    length: int
    mask: Tensor | None = None

    @property
    def slots(self) -> int:
        """Count * length."""
        return self.count * self.length


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch stand, as rows and in slots.

    Attributes:
        chunks: in the order of the slots; sequences keep their order.
        index: [slots] row of each slot, the last row for an empty one; None where rows and slots
            are the same. The last row then belongs to no sequence, and no gradient reaches it.
            Behind the slots of the chunks some of no chunk may stand.
        inverse: [rows] slot of each row, 0 for rows of no sequence; None likewise.
        num_tokens: rows that belong to sequences; they come first.
    """

    chunks: tuple[Chunk, ...]
    index: Tensor | None
    inverse: Tensor | None
    num_tokens: int

    @property
    def count(self) -> int:
        """Sequences of all chunks."""
        return sum(chunk.count for chunk in self.chunks)

    def parts(self, slots: Tensor) -> tuple[Tensor, ...]:
        """Slots [slots, w] of each chunk."""
        sizes = [chunk.slots for chunk in self.chunks]
        split: tuple[Tensor, ...] = slots.split([*sizes, len(slots) - sum(sizes)])
        return split[:-1]

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Slots [slots, w] from those of each chunk."""
        if self.index is None:
            return concatenated(parts)
        filler = len(self.index) - sum(chunk.slots for chunk in self.chunks)
        return torch.cat([*parts, parts[0].new_zeros(filler, parts[0].shape[1])])

    @classmethod
    def dense(cls, count: int, length: int) -> Layout:
        """`count` sequences of one length, rows and slots the same."""
        return cls((Chunk(count, length),), None, None, count * length)


@dataclass(frozen=True)
class Packed:
    """A batch of sequences.

    Attributes:
        tokens: [rows] int64; 0 for rows of no sequence.
        layout: of the rows.
    """

    tokens: Tensor
    layout: Layout

    @property
    def count(self) -> int:
        """Sequences."""
        return self.layout.count

    @classmethod
    def dense(cls, tokens: Tensor) -> Packed:
        """Token ids [B, S] of sequences of one length."""
        return cls(tokens.flatten().long(), Layout.dense(*tokens.shape))


@dataclass(frozen=True)
class Sequences:
    """Variable-length token sequences as one flat tensor.

    Attributes:
        flat: [tokens] int32, on the device that reads it.
        offsets: [n + 1] int64, on the CPU: shapes are decided there, so that a GPU never waits.
    """

    flat: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Tensor:
        """[n] tokens of each sequence, on the CPU."""
        return self.offsets[1:] - self.offsets[:-1]

    def packed(self, rows: Tensor) -> Packed:
        """Some sequences in the given order; few slots stay empty if the longest come first.

        Args:
            rows: [B] int64 indices, on the CPU; at least one.
        """
        device = self.flat.device
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        layout = lay_out(lengths, device)
        within = counting(lengths)
        source = torch.repeat_interleave(starts, lengths) + within
        tokens = self.flat[sent(source, device)].long()
        if layout.inverse is not None:
            tokens = torch.nn.functional.pad(tokens, (0, len(layout.inverse) - len(tokens)))
        return Packed(tokens, layout)

    def to(self, device: torch.device) -> Sequences:
        """The same with its tokens on another device."""
        return Sequences(self.flat.to(device), self.offsets)


def lay_out(lengths: Tensor, device: torch.device) -> Layout:
    """Rows and slots of sequences of the given lengths [B], in this order, best the longest first.

    Args:
        lengths: on the CPU; at least one sequence, each of at least one token.
        device: of the layout.
    """
    longest = lengths.tolist()
    total = sum(longest)
    counts = _chunk_counts(longest, device)
    firsts = torch.tensor([0, *counts]).cumsum(0)[:-1]
    widths = torch.stack([part.max() for part in lengths.split(counts)])
    if int((widths * torch.tensor(counts)).sum()) == total and total % _ROW_STEP == 0:
        chunks = [Chunk(n, int(width)) for n, width in zip(counts, widths, strict=True)]
        return Layout(tuple(chunks), None, None, total)
    # One row more than needed at least: empty slots read it.
    rows = -(-(total + 1) // _ROW_STEP) * _ROW_STEP
    sizes = torch.tensor(counts)
    bases = (widths * sizes).cumsum(0) - widths * sizes  # first slot of each chunk
    owner = torch.repeat_interleave(torch.arange(len(counts)), sizes)  # chunk of each sequence
    base = bases[owner] + (torch.arange(len(longest)) - firsts[owner]) * widths[owner]
    slots = torch.repeat_interleave(base, lengths) + counting(lengths)  # of each token
    taken = int((widths * sizes).sum())
    index = torch.full((-(-taken // _ROW_STEP) * _ROW_STEP,), rows - 1)
    index[slots] = torch.arange(total)
    filled = (index[:taken] != rows - 1).split((widths * sizes).tolist())
    chunks = [
        Chunk(count, width, None if bool(part.all()) else sent(part.view(count, width), device))
        for count, width, part in zip(counts, widths.tolist(), filled, strict=True)
    ]
    inverse = torch.nn.functional.pad(slots, (0, rows - total))
    return Layout(tuple(chunks), sent(index, device), sent(inverse, device), total)


def _chunk_counts(lengths: list[int], device: torch.device) -> list[int]:
    """Sequences of each chunk."""
    counts, start = [], 0
    while start < len(lengths):
        if device.type == "cpu":
            wanted = max(1, min(_CHUNK_SLOTS // lengths[start], len(lengths) - start))
            counts.append(1 << (wanted.bit_length() - 1))
        else:
            counts.append(_like_first(lengths, start))
        start += counts[-1]
    return counts


def concatenated(parts: list[Tensor]) -> Tensor:
    """Rows of each part one after another."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _like_first(lengths: list[int], start: int) -> int:
    """Sequences from `start` on that differ from the first by a factor of two in length at most."""
    first, end = lengths[start], start
    while end < len(lengths) and (
        end - start < _CHUNK_SEQUENCES or first <= 2 * lengths[end] <= 4 * first
    ):
        end += 1
    return end - start


def counting(lengths: Tensor) -> Tensor:
    """0, 1, ... for each of the lengths [B] in turn, one after another."""
    ends = lengths.cumsum(0)
    return torch.arange(int(ends[-1])) - torch.repeat_interleave(ends - lengths, lengths)
