"""S³-Rec: SASRec that is first pre-trained on four tasks without labels (Zhou et al., 2020).

Pre-training looks both ways along whole sequences; what follows is SASRec from the weights found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from macrec_core.baselines.features import ItemFeatures
from macrec_core.baselines.histories import Batch, Histories
from macrec_core.baselines.sasrec import SASRec
from macrec_core.baselines.segments import draw_masks, draw_negatives, draw_segments
from macrec_core.baselines.transformer import Shape, ended
from macrec_core.runtime import sent

if TYPE_CHECKING:
    from macrec_core.params.baselines import S3RecSpec


class S3Rec(SASRec):
    """SASRec with a mask among its items, attributes, and the four tasks' bilinear forms.

    Raises:
        MacrecError: no item has attributes.
    """

    attribute_table: Tensor

    def __init__(self, shape: Shape, spec: S3RecSpec, features: ItemFeatures) -> None:
        super().__init__(shape, spec.num_heads)
        features.require_attributes("s3rec")
        self.pretrain_epochs, self.mask_ratio = spec.pretrain_epochs, spec.mask_ratio
        self.weights = {
            "aap": spec.aap_weight, "mip": spec.mip_weight, "map": spec.map_weight,
            "sp": spec.sp_weight,
        }  # fmt: skip
        self.num_attributes = features.num_attributes
        self.without_attributes = features.without_attributes
        self.register_buffer("attribute_table", features.attribute_table(), persistent=False)
        width = shape.hidden_size
        self.items = nn.Embedding(shape.num_items + 2, width)  # items, padding, mask
        self.attributes = nn.Embedding(features.num_attributes, width)
        # W of each task's f(x, y) = sigma(x W y).
        self.item_attribute = nn.Linear(width, width, bias=False)
        self.context_item = nn.Linear(width, width, bias=False)
        self.context_attribute = nn.Linear(width, width, bias=False)
        self.context_segment = nn.Linear(width, width, bias=False)

    def counts(self) -> dict[str, Any]:
        """See `NextItemModel`."""
        return {**super().counts(), "num_attributes": self.num_attributes}

    def facts(self) -> dict[str, Any]:
        """See `NextItemModel`."""
        return {
            "attributes": self.num_attributes,
            "items_without_attributes": self.without_attributes,
        }

    def pretrain_losses(
        self, sequences: Histories, rows: Tensor, draws: torch.Generator
    ) -> dict[str, Tensor]:
        """The weighted sum of the four losses (`loss`) and each of them."""
        batch = sequences.batch(rows)
        width, device = batch.items.shape[1], self.items.weight.device
        masked = sent(draw_masks(batch.lengths, width, self.mask_ratio, draws), device)
        negatives = sent(draw_negatives(batch.items, self.num_items, draws), device)
        segments = draw_segments(sequences, rows, width, draws).to(device)
        batch = batch.to(device)
        real, mask, inside = batch.items < self.num_items, self.num_items + 1, segments.inside
        blank = batch.items.masked_fill(real, mask)
        states, *parts = self._seen(
            batch,
            batch.items.masked_fill(masked, mask),
            batch.items.masked_fill(inside, mask),
            torch.where(inside, batch.items, blank),
            torch.where(inside, segments.negative, blank),
        )
        seen, held = states[masked], batch.items[masked]
        losses = {
            "aap": self.aap(batch.items[real]),
            "mip": self.mip(seen, held, negatives[masked]),
            "map": self.map(seen, held),
            "sp": self.sp(*(batch.last(part)[segments.valid] for part in parts)),
        }
        total = torch.stack([self.weights[name] * losses[name] for name in losses]).sum()
        return {"loss": total, **losses}

    def aap(self, items: Tensor) -> Tensor:
        """Associated attribute prediction: each item's attributes from its embedding."""
        return self._attribute_loss(self.item_attribute(self.items(items)), items)

    def map(self, states: Tensor, items: Tensor) -> Tensor:
        """Masked attribute prediction: the masked item's attributes from what surrounds it.

        Args:
            states: [n, d] of masked places.
            items: [n] that stand there.
        """
        return self._attribute_loss(self.context_attribute(states), items)

    def mip(self, states: Tensor, items: Tensor, negatives: Tensor) -> Tensor:
        """Masked item prediction: the masked item against another one."""
        queries = self.context_item(states)
        return _against(queries, self.items(items), self.items(negatives))

    def sp(self, context: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Segment prediction: the sequence's own stretch [B, d] against another one's."""
        return _against(self.context_segment(context), positive, negative)

    def _attribute_loss(self, queries: Tensor, items: Tensor) -> Tensor:
        """Binary cross-entropy over all attributes, of items that have some."""
        table = self.attribute_table[items]  # [n, most]
        given = table[:, 0] < self.num_attributes
        queries, table = queries[given], table[given]
        labels = queries.new_zeros(len(table), self.num_attributes + 1).scatter_(1, table, 1.0)
        logits = queries @ self.attributes.weight.T
        return functional.binary_cross_entropy_with_logits(logits, labels[:, :-1], reduction="sum")

    def _seen(self, batch: Batch, *sequences: Tensor) -> tuple[Tensor, ...]:
        """States [B, T, d] of sequences [B, T] of the batch's lengths, all looking both ways."""
        closed = ended(batch.lengths, batch.items.shape[1])
        together = self.items(torch.cat(sequences))
        states: Tensor = self.transformer(together, closed.repeat(len(sequences), 1, 1, 1))
        parts: tuple[Tensor, ...] = states.split(len(batch.items))
        return parts


def _against(queries: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Sum of -log sigma(f(q, p) - f(q, n)), f the sigmoid of an inner product."""
    right = (queries * positive).sum(dim=1).sigmoid()
    wrong = (queries * negative).sum(dim=1).sigmoid()
    return -functional.logsigmoid(right - wrong).sum()
