"""Training of sequence models: one plain loop, and the epoch that ranks best is the result."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from macrec_core.adamw import AdamW
from macrec_core.baselines.epochs import Pass, run_epoch
from macrec_core.baselines.histories import Histories
from macrec_core.baselines.model import NextItemModel
from macrec_core.errors import MacrecError
from macrec_core.memory import out_of_memory_names
from macrec_core.metrics import ranking_metrics
from macrec_core.runtime import Runtime

if TYPE_CHECKING:
    from macrec_core.checkpoints import Checkpoints
    from macrec_core.params.baselines import SequentialParams
    from macrec_core.progress import Progress

log = logging.getLogger(__name__)

# Scores of validation items at a time.
_SCORES = 2**24


@dataclass(frozen=True)
class TrainedModel:
    """A trained sequence model and how it got there.

    Attributes:
        model: of the best epoch, on the CPU, in evaluation mode.
        history: one row an epoch: mean loss, HR and NDCG of the validation items.
        best_epoch: counted from 1.
        stopped_by: `max_epochs` or `patience`.
    """

    model: NextItemModel
    history: list[dict[str, float]]
    best_epoch: int
    stopped_by: str


def train_sequence_model(
    model: NextItemModel,
    train: Histories,
    validation: Histories,
    params: SequentialParams,
    seed: int,
    runtime: Runtime,
    checkpoints: Checkpoints,
    progress: Progress,
) -> TrainedModel:
    """Train until the validation items' NDCG@10 has not risen for `patience` epochs.

    Every random draw comes from a stream named by seed, purpose and update, so that going on
    from a checkpoint gives the same bytes as a run that was never interrupted.

    Args:
        model: untrained; changed.
        train: examples.
        validation: one case a user; every item is a candidate.
        params: section `sequential`.
        seed: of the run.
        runtime: where to compute.
        checkpoints: of this training.
        progress: counts epochs.

    Raises:
        MacrecError: there is nothing to learn from or to choose by, the loss is not finite, or
            memory does not suffice.
    """
    for what, part in (("training", train), ("validation", validation)):
        if not len(part):
            raise MacrecError(
                f"{what}: 0 examples, at least 1 is needed; users need four interactions or more "
                "(filter.k_core)"
            )
    model.to(runtime.device)
    optimizer = AdamW(
        model.parameters(), params.learning_rate, weight_decay=params.weight_decay, fused=True
    )
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    best_epoch = 0
    saved = checkpoints.load()
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        history, best, best_epoch = saved["history"], saved["best"], saved["best_epoch"]

    def state() -> dict[str, Any]:
        return {
            "model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history,
            "best": best, "best_epoch": best_epoch, "progress": f"epoch {len(history)}",
        }  # fmt: skip

    train, validation = train.to(runtime.device), validation.to(runtime.device)
    progress.start("epochs", params.max_epochs)
    progress.advance(len(history))
    found = len(history)
    while not (stopped_by := _stopped_by(history, best_epoch, params)):
        epoch = len(history)
        with out_of_memory_names("lower sequential.batch_size"):
            loss = _epoch(model, optimizer, train, params, seed, epoch, runtime, checkpoints)
        values = ranking_metrics(ranks_of_targets(model, validation))
        updates = (epoch + 1.0) * math.ceil(len(train) / params.batch_size)
        history.append({"epoch": epoch + 1.0, "update": updates, "loss": loss, **values})
        if values["ndcg@10"] > max((row["ndcg@10"] for row in history[:-1]), default=-1.0):
            # A copy: the live weights go on changing.
            best = {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
            best_epoch = len(history)
        checkpoints.offer(state)
        progress.advance(1, f"loss {loss:.4f}, NDCG@10 {values['ndcg@10']:.4f}")
    if len(history) > found:
        checkpoints.save(state())
    model.load_state_dict(best)
    log.info("best epoch %d of %d, stopped by %s", best_epoch, len(history), stopped_by)
    return TrainedModel(model.cpu().eval(), history, best_epoch, stopped_by)


def _stopped_by(history: list[dict[str, float]], best_epoch: int, params: SequentialParams) -> str:
    if len(history) - best_epoch >= params.patience:
        return "patience"
    return "max_epochs" if len(history) >= params.max_epochs else ""


def _epoch(
    model: NextItemModel,
    optimizer: torch.optim.Optimizer,
    train: Histories,
    params: SequentialParams,
    seed: int,
    epoch: int,
    runtime: Runtime,
    checkpoints: Checkpoints,
) -> float:
    """Updates with every example once; the mean loss."""
    this = Pass("next-item", seed, epoch, params, runtime, checkpoints)
    model.start_epoch(this.stream("epoch"))

    def losses(rows: Tensor, draws: torch.Generator) -> dict[str, Tensor]:
        return {"loss": model.loss(train.batch(rows), draws)}

    return run_epoch(model, losses, optimizer, train.lengths, this)["loss"]


@torch.no_grad()
def ranks_of_targets(model: NextItemModel, cases: Histories) -> np.ndarray[Any, Any]:
    """Rank [U] of each target among all items; equal scores stand before it."""
    model.eval()
    ranks = []
    order = torch.argsort(cases.lengths, stable=True)
    for rows in order.split(max(1, _SCORES // model.num_items)):
        batch = cases.batch(rows)
        scores = model.scores(batch)
        own = scores.gather(1, batch.targets[:, None])
        ranks.append((scores >= own).sum(dim=1))
    found = torch.empty_like(order)
    found[order] = torch.cat(ranks)
    return found.cpu().numpy()
