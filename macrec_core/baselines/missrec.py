"""MISSRec: interests mined from items' texts and pictures (Wang et al., 2023), from scratch.

Without the original's pre-training on other categories.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from macrec_core.baselines.features import ItemFeatures
from macrec_core.baselines.histories import Batch
from macrec_core.baselines.interests import discover_interests
from macrec_core.baselines.model import NextItemModel
from macrec_core.baselines.transformer import Block, Shape, attend, ended

if TYPE_CHECKING:
    from macrec_core.params.baselines import MISSRecSpec


class InterestDecoderBlock(nn.Module):
    """Self-attention over the history, attention to its interests, and feed-forward layer."""

    def __init__(self, shape: Shape, num_heads: int) -> None:
        super().__init__()
        width = shape.hidden_size
        self.block = Block(shape, num_heads)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.cross_norm = nn.LayerNorm(width, self.block.norm.eps)

    def forward(
        self, states: Tensor, closed: Tensor, interests: Tensor, interests_closed: Tensor
    ) -> Tensor:
        """States [B, T, d] after states [B, T, d] and interests [B, S, d].

        Args:
            states: of the history's places.
            closed: [B, 1, 1, T] bool, places after its end.
            interests: states of the history's interests.
            interests_closed: [B, 1, 1, S] bool, those that are none.
        """
        states = self.block.attended(states, closed)
        size, length, _ = states.shape
        heads, drop = self.block.num_heads, self.block.drop
        queries = self.query(states).view(size, length, heads, -1).transpose(1, 2)
        both = self.key_value(interests).view(size, interests.shape[1], 2, heads, -1)
        keys, values = both.permute(2, 0, 3, 1, 4)
        mixed = self.out(attend(queries, keys, values, interests_closed, drop))
        output: Tensor = self.block.fed(self.cross_norm(states + drop(mixed)))
        return output


class MISSRec(NextItemModel):
    """Encodes a history's distinct interests, decodes its items beside them, fuses candidates.

    Interests are clusters of all modalities' adapted item vectors together, found again before
    each epoch; an item belongs to one for each modality. They are constants to the gradient.
    """

    interests: Tensor
    interest_of: Tensor

    def __init__(self, shape: Shape, spec: MISSRecSpec, features: ItemFeatures) -> None:
        super().__init__(shape.num_items)
        self.spec, self.widths, self.dropout = spec, features.widths, shape.dropout
        width, modalities = shape.hidden_size, spec.modalities
        for name in modalities:
            vectors = _standardized(features.vectors[name], spec.standardize)
            self.register_buffer(f"vectors_{name}", vectors, persistent=False)
        self.adapters = nn.ModuleDict(
            {name: nn.Linear(features.widths[name], width) for name in modalities}
        )
        if spec.item_ids:
            self.items = nn.Embedding(shape.num_items + 1, width)
        self.positions = nn.Embedding(shape.max_history, width)
        self.input_norm = nn.LayerNorm(width, 1e-12)
        layers = range(shape.num_layers)
        self.encoder = nn.ModuleList(Block(shape, spec.num_heads) for _ in layers)
        self.decoder = nn.ModuleList(InterestDecoderBlock(shape, spec.num_heads) for _ in layers)
        self.fusion = nn.Parameter(torch.zeros(()))
        points = shape.num_items * len(modalities)
        self.num_interests = math.ceil(spec.interest_ratio * points)
        # Of the padding: one more, which is none.
        self.register_buffer("interests", torch.zeros(self.num_interests + 1, width))
        padding = torch.full((len(modalities), shape.num_items + 1), self.num_interests)
        self.register_buffer("interest_of", padding)

    def counts(self) -> dict[str, Any]:
        """See `NextItemModel`."""
        return {**super().counts(), "widths": {m: self.widths[m] for m in self.spec.modalities}}

    def facts(self) -> dict[str, Any]:
        """See `NextItemModel`."""
        return {"interests": self.num_interests}

    def initialise(self, draws: torch.Generator) -> None:
        """As in `NextItemModel`, all modalities of equal weight, and first interests."""
        super().initialise(draws)
        with torch.no_grad():
            self.fusion.zero_()
        self.start_epoch(draws)

    @torch.no_grad()
    def start_epoch(self, draws: torch.Generator) -> None:
        """Discover interests among the items as the adapters show them now."""
        points = torch.cat(self.adapted())
        owners, centres = discover_interests(
            points, self.num_interests, self.spec.kmeans_iterations, draws
        )
        self.interests[:-1] = centres
        self.interest_of[:, :-1] = owners.view(len(self.interest_of), -1)

    def adapted(self) -> list[Tensor]:
        """Vectors [N, d] of all items, by modality."""
        return [
            self.adapters[name](self.get_buffer(f"vectors_{name}")) for name in self.spec.modalities
        ]

    def represent(self, batch: Batch) -> Tensor:
        """See `NextItemModel`; of length 1."""
        return self._decoded(batch, self.adapted())[0]

    def scores(self, batch: Batch) -> Tensor:
        """See `NextItemModel`."""
        vectors = self.adapted()
        return self._fused(self._decoded(batch, vectors)[0], vectors)

    def loss(self, batch: Batch, draws: torch.Generator) -> Tensor:
        """Cross-entropy over all items, and what keeps a history's interests apart."""
        vectors = self.adapted()
        users, pooled = self._decoded(batch, vectors)
        scores = self._fused(users, vectors)
        entropy = functional.cross_entropy(scores, batch.targets, reduction="sum")
        # Of states of equal length the mean is short where they are orthogonal.
        return entropy + self.spec.orthogonality * pooled.square().mean(dim=1).sum()

    def _fused(self, users: Tensor, vectors: list[Tensor]) -> Tensor:
        """Scores [B, N]: cosines with each modality's vectors, weighted by the user, over tau."""
        similar = torch.stack([users @ functional.normalize(v, dim=1).T for v in vectors])
        scores = (similar * (self.fusion * similar).softmax(dim=0)).sum(dim=0)
        if self.spec.item_ids:
            own = users @ functional.normalize(self.item_vectors(), dim=1).T
            # Every modality and the ID count alike.
            scores = (own + len(vectors) * scores) / (1 + len(vectors))
        return scores / self.spec.temperature

    def _decoded(self, batch: Batch, vectors: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Users [B, d] of length 1, and the mean state [B, d] of their interests."""
        memory, open_ = self._interests(batch.items)
        none = ~open_[:, None, None]
        for block in self.encoder:
            memory = block(memory, none)
        pooled = (memory * open_[..., None]).sum(dim=1) / open_.sum(dim=1, keepdim=True)
        states, closed = self._embedded(batch, vectors), ended(batch.lengths, batch.items.shape[1])
        for block in self.decoder:
            states = block(states, closed, memory, none)
        return functional.normalize(batch.last(states), dim=1), pooled

    def _interests(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [B, S, d] of the histories' interests, and which of them count [B, S].

        A repeated one does not: the encoder knows no places, so that to close it is to leave
        it out.
        """
        found = self.interest_of[:, items].transpose(0, 1).flatten(1).sort(dim=1).values
        counted = found < self.num_interests
        counted[:, 1:] &= found[:, 1:] != found[:, :-1]
        return self.interests[found], counted

    def _embedded(self, batch: Batch, vectors: list[Tensor]) -> Tensor:
        """[B, T, d]: modalities, ID and place of each item, added up."""
        content = functional.pad(torch.stack(vectors).sum(dim=0), (0, 0, 0, 1))  # and the padding
        states = functional.embedding(batch.items, content)
        states = states + self.positions.weight[: batch.items.shape[1]]
        if self.spec.item_ids:
            states = states + self.items(batch.items)
        return functional.dropout(self.input_norm(states), self.dropout, self.training)


def _standardized(vectors: Tensor, how: str) -> Tensor:
    """Vectors as they are (`none`), or centred and of mean feature variance 1."""
    if how == "none":
        return vectors
    centred = vectors - vectors.mean(dim=0)
    return centred / centred.square().mean().sqrt().clamp(min=torch.finfo(vectors.dtype).tiny)
