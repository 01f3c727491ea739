"""NARM: a recurrent network whose last state attends to all of them (Li et al., 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from macrec_core.baselines.histories import Batch
from macrec_core.baselines.model import NextItemModel
from macrec_core.baselines.transformer import Shape, glorot


class NARM(NextItemModel):
    """The last state (global encoder) beside a weighted mean of all states (local encoder).

    The bilinear score of item and history is the inner product of the item with the history's
    vector B c. Two things are the authors' program's and not the paper's: one network serves
    both encoders, and a softmax makes the weights of the states sum to one.
    """

    def __init__(self, shape: Shape, representation_dropout: float) -> None:
        super().__init__(shape.num_items)
        self.dropout, self.representation_dropout = shape.dropout, representation_dropout
        width = shape.inner_size
        self.items = nn.Embedding(shape.num_items + 1, shape.hidden_size)
        self.network = nn.GRU(
            shape.hidden_size, width, shape.num_layers, batch_first=True,
            dropout=shape.dropout if shape.num_layers > 1 else 0.0,
        )  # fmt: skip
        self.query = nn.Linear(width, width, bias=False)  # A_1
        self.key = nn.Linear(width, width, bias=False)  # A_2
        self.importance = nn.Linear(width, 1, bias=False)  # v
        self.bilinear = nn.Linear(2 * width, shape.hidden_size, bias=False)  # B

    def initialise(self, draws: torch.Generator) -> None:
        """As in `NextItemModel`, but every matrix, the embeddings too, on Glorot's scale."""
        super().initialise(draws)
        glorot(self, draws)

    def represent(self, batch: Batch) -> Tensor:
        """See `NextItemModel`."""
        embedded = functional.dropout(self.items(batch.items), self.dropout, self.training)
        states, _ = self.network(embedded)
        last = batch.last(states)
        weights = self.attention(states, last, batch.inside())
        local = (weights[:, :, None] * states).sum(dim=1)
        both = torch.cat((last, local), dim=1)  # [B, 2 w]
        both = functional.dropout(both, self.representation_dropout, self.training)
        output: Tensor = self.bilinear(both)
        return output

    def attention(self, states: Tensor, last: Tensor, inside: Tensor) -> Tensor:
        """Weights [B, T] of states: softmax over j of v^T sigmoid(A_1 h_t + A_2 h_j).

        Args:
            states: [B, T, w], h_j.
            last: [B, w], h_t.
            inside: [B, T] bool; the weight of any other place is zero.
        """
        mixed = torch.sigmoid(self.query(last)[:, None] + self.key(states))
        scores: Tensor = self.importance(mixed)[:, :, 0]
        return scores.masked_fill(~inside, -torch.inf).softmax(dim=1)
