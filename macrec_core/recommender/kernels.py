"""What T5 does between matrix products, in few passes over memory.

Each has a plain form that the tests compare it with, gradients included. On a CPU these passes,
not the products, are where a plain implementation of a small T5 spends its time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from macrec_core.recommender.packing import Layout

_EPSILON = 1e-6  # T5's own


class Dropout:
    """Inverted dropout with masks from a stream of its own.

    On a CPU the random bits come from NumPy, 16 for each value: torch draws them one value at a
    time, which took a quarter of a training step. The rate is rounded to a 65,536th.

    Args:
        rate: share of values set to zero, below 1.
        seed: of the stream.
        device: of the masks.
    """

    def __init__(self, rate: float, seed: int, device: torch.device) -> None:
        self._closed = min(round(rate * 65536), 65535)
        self.scale = 65536 / (65536 - self._closed)
        self._device = device
        self._bits = np.random.SFC64(seed)
        self._generator = torch.Generator(device).manual_seed(seed)

    def mask(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Zeros and ones; multiply the result by `scale`."""
        if self._device.type != "cpu":
            kept = 1.0 - self._closed / 65536
            mask = torch.empty(shape, dtype=dtype, device=self._device)
            return mask.bernoulli_(kept, generator=self._generator)
        count = shape.numel()
        words = self._bits.random_raw((count + 3) // 4).view(np.int16)
        bits = torch.from_numpy(words)[:count].view(shape)
        # Into a tensor of the wanted type: by way of bool it takes four times as long.
        return torch.ge(bits, self._closed - 32768, out=torch.empty(shape, dtype=dtype))

    def apply(self, values: Tensor) -> Tensor:
        """Values after dropout."""
        return values * (self.mask(values.shape, values.dtype) * self.scale)


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, state: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        norm = torch.linalg.vector_norm(state, dim=1, keepdim=True)  # [T, 1]
        inverse = torch.rsqrt(norm.square() / state.shape[1] + _EPSILON)
        ctx.save_for_backward(state, weight, inverse)
        return (state * inverse * weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        state, weight, inverse = ctx.saved_tensors
        normed = state * inverse
        gradient = gradient.float()
        product = gradient * normed
        mean = (product @ weight)[:, None] / len(weight)
        for_state = torch.addcmul(gradient * weight, normed, mean, value=-1.0).mul_(inverse)
        return for_state, product.sum(dim=0), None


def rms_norm(state: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """T5's layer norm: rows [T, d] float32 over their root mean square, times weight [d].

    Args:
        state: rows.
        weight: scale of each feature.
        dtype: of the result.
    """
    normed: Tensor = _RmsNorm.apply(state, weight, dtype)
    return normed


class _FeedForward(Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        first: Tensor,
        second: Tensor,
        dropout: Dropout | None,
    ) -> Tensor:
        hidden = (rows @ first.T).relu_()  # [T, d_ff]
        ctx.scale = 1.0
        if dropout is not None:
            hidden.mul_(dropout.mask(hidden.shape, hidden.dtype))
            ctx.scale = dropout.scale
        ctx.save_for_backward(rows, first, second, hidden)
        output: Tensor = hidden @ second.T
        return output if dropout is None else output.mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, first, second, hidden = ctx.saved_tensors
        if ctx.scale != 1.0:
            gradient = gradient * ctx.scale
        for_second = gradient.T @ hidden
        # A value is zero where relu or dropout closed it: the mask need not be kept.
        inner = torch.ops.aten.threshold_backward(gradient @ second, hidden, 0)
        return inner @ first, inner.T @ rows, for_second, None


def feed_forward(rows: Tensor, first: Tensor, second: Tensor, dropout: Dropout | None) -> Tensor:
    """dropout(relu(rows first^T)) second^T.

    Args:
        rows: [T, d].
        first: [d_ff, d].
        second: [d, d_ff].
        dropout: between the two; None for none.
    """
    output: Tensor = _FeedForward.apply(rows, first, second, dropout)
    return output


class _AddResidual(Function):
    @staticmethod
    def forward(ctx: Any, state: Tensor, branch: Tensor, dropout: Dropout) -> Tensor:
        mask = dropout.mask(branch.shape, branch.dtype)
        ctx.save_for_backward(mask)
        ctx.scale = dropout.scale
        return torch.add(state, branch * mask, alpha=dropout.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradient, (gradient * ctx.scale).to(mask.dtype) * mask, None


def add_residual(state: Tensor, branch: Tensor, dropout: Dropout | None) -> Tensor:
    """State [T, d] float32 plus a branch [T, d] after dropout."""
    if dropout is None:
        return state + branch
    added: Tensor = _AddResidual.apply(state, branch, dropout)
    return added


class _ToSlots(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        assert layout.index is not None
        return rows.index_select(0, layout.index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows = gradient.index_select(0, ctx.layout.inverse)
        rows[ctx.layout.num_tokens :] = 0.0
        return rows, None


def to_slots(rows: Tensor, layout: Layout) -> Tensor:
    """Rows [rows, w] in the order of the layout's slots [slots, w]."""
    if layout.index is None:
        return rows
    slots: Tensor = _ToSlots.apply(rows, layout)
    return slots


class _ToRows(Function):
    @staticmethod
    def forward(ctx: Any, slots: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        assert layout.inverse is not None
        return slots.index_select(0, layout.inverse)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # Empty slots read the last row, whose gradient is zero since nothing depends on it.
        return gradient.index_select(0, ctx.layout.index), None


def to_rows(slots: Tensor, layout: Layout) -> Tensor:
    """Slots [slots, w] in the order of the layout's rows [rows, w]."""
    if layout.inverse is None:
        return slots
    rows: Tensor = _ToRows.apply(slots, layout)
    return rows
