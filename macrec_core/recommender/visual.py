"""Images in the encoder's input: tokens that are computed, not looked up (VIP5).

After Geng et al. (2023): an item's fixed image vector becomes k rows of the encoder's input by a
small network, Linear-GELU-Linear. They stand in the table of input rows behind those of the
vocabulary, so that a source names them by ids as it names codes; the output knows only the
vocabulary, and nothing generates them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class ItemImages:
    """Images of a catalogue and how they enter the recommender.

    Attributes:
        vectors: [N, width] float32.
        tokens: k, input tokens of each item.
        adapter_width: of the hidden layer.
    """

    vectors: Tensor
    tokens: int
    adapter_width: int


class VisualTokens(nn.Module):
    """Input rows [N * k, d_model] of all items, item after item.

    All of them at once: a batch holds a good part of the catalogue, and the network is small
    beside T5.

    Args:
        images: of every item; part of the model, but not of its state.
        d_model: width of T5's rows.
    """

    def __init__(self, images: ItemImages, d_model: int) -> None:
        super().__init__()
        width = images.vectors.shape[1]
        self.register_buffer("vectors", images.vectors, persistent=False)
        self.inner = nn.Parameter(torch.empty(images.adapter_width, width))
        self.inner_bias = nn.Parameter(torch.zeros(images.adapter_width))
        self.outer = nn.Parameter(torch.empty(images.tokens * d_model, images.adapter_width))
        self.outer_bias = nn.Parameter(torch.zeros(images.tokens * d_model))
        self._d_model = d_model

    @torch.no_grad()
    def initialise(self, draws: torch.Generator) -> None:
        """Normal weights of deviation width ** -0.5 of what they read, as T5's; biases zero."""
        for weight in (self.inner, self.outer):
            weight.normal_(0.0, weight.shape[1] ** -0.5, generator=draws)

    def forward(self) -> Tensor:
        """The rows, float32."""
        assert isinstance(self.vectors, Tensor)
        hidden = functional.gelu(functional.linear(self.vectors, self.inner, self.inner_bias))
        rows = functional.linear(hidden, self.outer, self.outer_bias)  # [N, k * d_model]
        return rows.view(-1, self._d_model)


class FixedRows(nn.Module):
    """Rows that no longer change, computed once: of a frozen model."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)

    def forward(self) -> Tensor:
        """The rows."""
        assert isinstance(self.rows, Tensor)
        return self.rows
