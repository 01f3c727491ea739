"""What every sequence model has in common: a vector a history, a vector an item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from macrec_core.baselines.histories import Batch, Histories
from macrec_core.baselines.transformer import initialise


class NextItemModel(nn.Module, ABC):
    """Scores every item as the next one of a history by an inner product.

    Attributes:
        items: embeddings [N + extra, d]; the first N are those of items, N is the padding.
        pretrain_epochs: of `pretrain_losses`, before the training on next items.
    """

    items: nn.Embedding
    pretrain_epochs: int = 0

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.num_items = num_items

    def initialise(self, draws: torch.Generator) -> None:
        """Start from random weights."""
        initialise(self, draws)

    def counts(self) -> dict[str, Any]:
        """Sizes of what the model was made for, by which a model of other data is noticed."""
        return {"num_items": self.num_items}

    def facts(self) -> dict[str, Any]:
        """What the metrics say of the model's inputs beside the histories."""
        return {}

    def start_epoch(self, draws: torch.Generator) -> None:
        """Called before each epoch of training; most models have nothing to prepare.

        Args:
            draws: CPU generator for whatever a model samples.
        """

    @abstractmethod
    def represent(self, batch: Batch) -> Tensor:
        """Vectors [B, d] of histories; their targets are not looked at."""

    def item_vectors(self) -> Tensor:
        """Vectors [N, d] of all items."""
        return self.items.weight[: self.num_items]

    def scores(self, batch: Batch) -> Tensor:
        """[B, N], of every item as the next one; its softmax is the probability."""
        return self.represent(batch) @ self.item_vectors().T

    def loss(self, batch: Batch, draws: torch.Generator) -> Tensor:
        """Sum over the batch of the cross-entropy of the next item among all items.

        Args:
            batch: histories and targets.
            draws: CPU generator for whatever a model samples.
        """
        return functional.cross_entropy(self.scores(batch), batch.targets, reduction="sum")

    def pretrain_losses(
        self, sequences: Histories, rows: Tensor, draws: torch.Generator
    ) -> dict[str, Tensor]:
        """What pre-training minimises, `loss`, and its terms; each a sum over the rows.

        Args:
            sequences: whole training sequences, on the CPU.
            rows: those that this update learns from.
            draws: CPU generator.
        """
        # Not abstract: most models have none, and are asked only where pretrain_epochs is above 0.
        raise NotImplementedError(f"{type(self).__name__} has no pre-training")
