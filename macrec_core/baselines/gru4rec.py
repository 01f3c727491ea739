"""GRU4Rec: a recurrent network over the history (Hidasi et al., 2016).

With cross-entropy over all items, as Hidasi and Karatzoglou (2018) show to be better than the
original's ranking losses over samples.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from macrec_core.baselines.histories import Batch
from macrec_core.baselines.model import NextItemModel
from macrec_core.baselines.transformer import Shape, glorot


class GRU4Rec(NextItemModel):
    """The state after the last item, mapped to the items' width."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape.num_items)
        self.dropout = shape.dropout
        self.items = nn.Embedding(shape.num_items + 1, shape.hidden_size)
        self.network = nn.GRU(
            shape.hidden_size, shape.inner_size, shape.num_layers, batch_first=True,
            dropout=shape.dropout if shape.num_layers > 1 else 0.0,
        )  # fmt: skip
        self.dense = nn.Linear(shape.inner_size, shape.hidden_size)

    def initialise(self, draws: torch.Generator) -> None:
        """As in `NextItemModel`, but a network that passes on what it reads (Glorot and Bengio)."""
        super().initialise(draws)
        glorot(self.network, draws)

    def represent(self, batch: Batch) -> Tensor:
        """See `NextItemModel`."""
        embedded = functional.dropout(self.items(batch.items), self.dropout, self.training)
        states, _ = self.network(embedded)
        output: Tensor = self.dense(batch.last(states))
        return output
