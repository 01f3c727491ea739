"""STAMP: attention that gives priority to the last item (Liu et al., 2018).

The paper puts each trilinear product through a sigmoid before the softmax. Of N items the right
one could then never be more probable than e / (e + N - 1), and cross-entropy would learn
little. The authors' program has no such sigmoid, and neither has this.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from macrec_core.baselines.histories import Batch
from macrec_core.baselines.model import NextItemModel
from macrec_core.baselines.transformer import Shape

# Deviations of the paper's initial weights.
_ITEMS_STD, _MATRICES_STD = 0.002, 0.05


class STAMP(NextItemModel):
    """A weighted sum of the items and the last item, each through a layer, multiplied.

    The trilinear product <h_s, h_t, x_i> is the inner product of an item x_i with the history's
    vector h_s * h_t.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape.num_items)
        self.dropout = shape.dropout
        width = shape.hidden_size
        self.items = nn.Embedding(shape.num_items + 1, width)
        self.key = nn.Linear(width, width)  # W_1, b_a
        self.query = nn.Linear(width, width, bias=False)  # W_2
        self.context = nn.Linear(width, width, bias=False)  # W_3
        self.importance = nn.Linear(width, 1, bias=False)  # W_0
        self.general = nn.Linear(width, width)  # W_s, b_s
        self.current = nn.Linear(width, width)  # W_t, b_t

    def initialise(self, draws: torch.Generator) -> None:
        """Start from the paper's weights: normal, items smaller than matrices; biases zero."""
        for name, weights in sorted(self.named_parameters()):
            if name.endswith("bias"):
                nn.init.zeros_(weights)
            else:
                std = _ITEMS_STD if name == "items.weight" else _MATRICES_STD
                nn.init.normal_(weights, 0.0, std, generator=draws)

    def represent(self, batch: Batch) -> Tensor:
        """See `NextItemModel`."""
        embedded = functional.dropout(self.items(batch.items), self.dropout, self.training)
        last, inside = batch.last(embedded), batch.inside()
        mean = (embedded * inside[:, :, None]).sum(dim=1) / batch.lengths[:, None]
        weights = self.attention(embedded, last, mean, inside)
        memory = (weights[:, :, None] * embedded).sum(dim=1)
        return torch.tanh(self.general(memory)) * torch.tanh(self.current(last))

    def attention(self, embedded: Tensor, last: Tensor, mean: Tensor, inside: Tensor) -> Tensor:
        """Weights [B, T] of items, which nothing makes sum to one.

        W_0 sigmoid(W_1 x_i + W_2 x_t + W_3 m_s + b_a).

        Args:
            embedded: [B, T, d], x_i.
            last: [B, d], x_t.
            mean: [B, d] of the history's items, m_s.
            inside: [B, T] bool; the weight of any other place is zero.
        """
        asked = self.query(last) + self.context(mean)
        mixed = torch.sigmoid(self.key(embedded) + asked[:, None])
        weights: Tensor = self.importance(mixed)[:, :, 0]
        return weights.masked_fill(~inside, 0.0)
