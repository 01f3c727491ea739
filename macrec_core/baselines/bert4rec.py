"""BERT4Rec: bidirectional encoder with masked items (Sun et al., 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from macrec_core.baselines.histories import Batch
from macrec_core.baselines.model import NextItemModel
from macrec_core.baselines.transformer import Shape, Transformer
from macrec_core.runtime import sent


class BERT4Rec(NextItemModel):
    """Every place sees all; masked items are guessed, and at the end the one after the last.

    Trained on each history with its target as the last item. A share of the examples,
    `last_item_ratio`, masks the last item alone, as at inference; in the others every item is
    masked with probability `mask_ratio`, and where none is drawn, the last one.
    """

    def __init__(
        self, shape: Shape, num_heads: int, mask_ratio: float, last_item_ratio: float
    ) -> None:
        super().__init__(shape.num_items)
        self.mask_ratio, self.last_item_ratio = mask_ratio, last_item_ratio
        # Items, padding, mask.
        self.items = nn.Embedding(shape.num_items + 2, shape.hidden_size)
        # A history and the item after it.
        self.transformer = Transformer(shape, num_heads, shape.max_history + 1)
        self.dense = nn.Linear(shape.hidden_size, shape.hidden_size)
        self.dense_norm = nn.LayerNorm(shape.hidden_size)
        self.item_bias = nn.Parameter(torch.zeros(shape.num_items))

    def represent(self, batch: Batch) -> Tensor:
        """Vectors [B, d] at a mask after the last item."""
        masks = torch.full_like(batch.targets, self.num_items + 1)
        states = self._states(self._extended(batch, masks), batch.lengths + 1)
        return states[torch.arange(len(states), device=states.device), batch.lengths]

    def scores(self, batch: Batch) -> Tensor:
        """See `NextItemModel`."""
        return super().scores(batch) + self.item_bias

    def loss(self, batch: Batch, draws: torch.Generator) -> Tensor:
        """Sum over the batch of each sequence's mean cross-entropy of its masked items."""
        items = self._extended(batch, batch.targets)
        lengths = batch.lengths + 1
        masked = sent(self.draw_masks(lengths.cpu(), items.shape[1], draws), items.device)
        states = self._states(items.masked_fill(masked, self.num_items + 1), lengths)
        logits = states[masked] @ self.item_vectors().T + self.item_bias
        losses = functional.cross_entropy(logits, items[masked], reduction="none")
        return (losses / masked.sum(dim=1).repeat_interleave(masked.sum(dim=1))).sum()

    def draw_masks(self, lengths: Tensor, width: int, draws: torch.Generator) -> Tensor:
        """[B, width] bool: what is masked of sequences of these lengths; at least one item."""
        places = torch.arange(width)
        masked = torch.rand(len(lengths), width, generator=draws) < self.mask_ratio
        masked &= places < lengths[:, None]
        only_last = torch.rand(len(lengths), 1, generator=draws) < self.last_item_ratio
        only_last |= ~masked.any(dim=1, keepdim=True)
        return torch.where(only_last, places == lengths[:, None] - 1, masked)

    def _extended(self, batch: Batch, following: Tensor) -> Tensor:
        """[B, T + 1]: histories with one more item."""
        items = functional.pad(batch.items, (0, 1), value=self.num_items)
        return items.scatter(1, batch.lengths[:, None], following[:, None])

    def _states(self, items: Tensor, lengths: Tensor) -> Tensor:
        outside = torch.arange(items.shape[1], device=items.device) >= lengths[:, None]
        states = self.transformer(self.items(items), outside[:, None, None])
        output: Tensor = self.dense_norm(functional.gelu(self.dense(states)))
        return output
