"""One pass over the examples, as training and pre-training make it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from macrec_core.baselines.model import NextItemModel
from macrec_core.errors import MacrecError
from macrec_core.runtime import Runtime, generator, sent

if TYPE_CHECKING:
    from macrec_core.checkpoints import Checkpoints
    from macrec_core.params.baselines import SequentialParams

# A batch passes in so many parts of like length, which saves most of the filler.
_PARTS = 4

# Sums over some rows, by name; `loss` is what is minimised.
Losses = Callable[[Tensor, torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True)
class Pass:
    """One epoch of a training.

    Attributes:
        purpose: names its random streams.
        seed: of the run.
        epoch: from 0.
        params: section `sequential`.
        runtime: where to compute.
        checkpoints: of the training, for the error message.
    """

    purpose: str
    seed: int
    epoch: int
    params: SequentialParams
    runtime: Runtime
    checkpoints: Checkpoints

    def stream(self, what: str, *step: int) -> torch.Generator:
        """The random stream of one thing in this epoch, or in one update of it."""
        return generator(self.seed, f"{self.purpose}-{what}", self.epoch, *step)


def run_epoch(
    model: NextItemModel,
    losses: Losses,
    optimizer: torch.optim.Optimizer,
    lengths: Tensor,
    this: Pass,
) -> dict[str, float]:
    """Updates with every example once; the mean of each loss.

    Args:
        model: changed.
        losses: of some examples.
        optimizer: of the model's weights.
        lengths: [E] of the examples; rows lie on their device.
        this: which epoch of which training.

    Raises:
        MacrecError: the loss is not finite.
    """
    model.train()
    order = torch.randperm(len(lengths), generator=this.stream("order"))
    sums = []
    for step, rows in enumerate(order.split(this.params.batch_size)):
        # torch's dropout draws from the global stream.
        torch.manual_seed(this.stream("dropout", step).initial_seed())
        draws = this.stream("draws", step)
        optimizer.zero_grad(set_to_none=True)
        rows = sent(rows, lengths.device)
        totals: dict[str, Tensor] = {}
        by_length = rows[torch.argsort(lengths[rows], stable=True)]
        for part in by_length.tensor_split(_PARTS):
            if len(part):
                found = {label: loss / len(rows) for label, loss in losses(part, draws).items()}
                found["loss"].backward()
                for label, loss in found.items():
                    totals[label] = totals.get(label, torch.zeros_like(loss)) + loss.detach()
        optimizer.step()
        sums.append({label: total * len(rows) for label, total in totals.items()})
    means = {
        label: float(torch.stack([each[label] for each in sums]).sum()) / len(lengths)
        for label in sums[0]
    }
    _check_finite(means["loss"], this)
    return means


def _check_finite(mean: float, this: Pass) -> None:
    if not math.isfinite(mean):
        rate = this.params.learning_rate
        raise MacrecError(
            f"loss is {mean} in epoch {this.epoch + 1} at learning rate {rate}; "
            f"{this.runtime.against_divergence('sequential.learning_rate')} "
            f"(last good checkpoint: {this.checkpoints.last})"
        )
