"""FDSA: self-attention over items and, apart from it, over their features (Zhang et al., 2019).

With cross-entropy over all items in place of the original's binary one with a sampled negative,
as for SASRec.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from macrec_core.baselines.features import ItemFeatures
from macrec_core.baselines.histories import Batch
from macrec_core.baselines.model import NextItemModel
from macrec_core.baselines.transformer import Shape, Transformer, causal


class FDSA(NextItemModel):
    """Two stacks see the same places; their last states together make the history's vector.

    Raises:
        MacrecError: no item has attributes.
    """

    attribute_table: Tensor

    def __init__(self, shape: Shape, num_heads: int, features: ItemFeatures) -> None:
        super().__init__(shape.num_items)
        features.require_attributes("fdsa")
        self.num_attributes = features.num_attributes
        self.without_attributes = features.without_attributes
        self.register_buffer("attribute_table", features.attribute_table(), persistent=False)
        self.items = nn.Embedding(shape.num_items + 1, shape.hidden_size)
        # The last one stands where an item has no more, and is never seen.
        self.attributes = nn.Embedding(features.num_attributes + 1, shape.hidden_size)
        # A bias would change no weight.
        self.attribute_score = nn.Linear(shape.hidden_size, 1, bias=False)
        self.item_stack = Transformer(shape, num_heads, shape.max_history)
        self.feature_stack = Transformer(shape, num_heads, shape.max_history)
        self.merge = nn.Linear(2 * shape.hidden_size, shape.hidden_size)

    def counts(self) -> dict[str, Any]:
        """See `NextItemModel`."""
        return {**super().counts(), "num_attributes": self.num_attributes}

    def facts(self) -> dict[str, Any]:
        """See `NextItemModel`."""
        return {
            "attributes": self.num_attributes,
            "items_without_attributes": self.without_attributes,
        }

    def represent(self, batch: Batch) -> Tensor:
        """See `NextItemModel`."""
        closed = causal(batch.items.shape[1], batch.items.device)
        items = self.item_stack(self.items(batch.items), closed)
        features = self.feature_stack(self.feature_vectors(batch.items), closed)
        output: Tensor = self.merge(torch.cat([batch.last(items), batch.last(features)], dim=1))
        return output

    def feature_vectors(self, items: Tensor) -> Tensor:
        """Features [..., d] of items [...]: attributes weighted by vanilla attention.

        The weights are a softmax over the item's own attributes of a linear function of each;
        an item without attributes has the vector 0.
        """
        attributes = self.attribute_table[items]  # [..., most]
        given = attributes < self.num_attributes
        embedded = self.attributes(attributes)  # [..., most, d]
        scores = self.attribute_score(embedded)[..., 0]
        # Finite, so that a place without attributes gives no NaN.
        scores = scores.masked_fill(~given, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1) * given
        output: Tensor = (weights[..., None] * embedded).sum(dim=-2)
        return output
