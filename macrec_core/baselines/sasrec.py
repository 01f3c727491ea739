"""SASRec: self-attentive sequential recommendation (Kang and McAuley, 2018).

With cross-entropy over all items in place of the original's one sampled negative, which is
weaker (Klenitskiy and Vasilev, 2023) and not what the paper's figures come from.
"""

from __future__ import annotations

from torch import Tensor, nn

from macrec_core.baselines.histories import Batch
from macrec_core.baselines.model import NextItemModel
from macrec_core.baselines.transformer import Shape, Transformer, causal


class SASRec(NextItemModel):
    """Each place sees itself and what came before; the last one's state is the history's vector."""

    def __init__(self, shape: Shape, num_heads: int) -> None:
        super().__init__(shape.num_items)
        self.items = nn.Embedding(shape.num_items + 1, shape.hidden_size)
        self.transformer = Transformer(shape, num_heads, shape.max_history)

    def represent(self, batch: Batch) -> Tensor:
        """See `NextItemModel`."""
        closed = causal(batch.items.shape[1], batch.items.device)
        return batch.last(self.transformer(self.items(batch.items), closed))
