"""Pre-training of sequence models that have one, before they learn next items."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from macrec_core.adamw import AdamW
from macrec_core.baselines.epochs import Pass, run_epoch
from macrec_core.baselines.histories import Histories
from macrec_core.baselines.model import NextItemModel
from macrec_core.errors import MacrecError
from macrec_core.memory import out_of_memory_names
from macrec_core.runtime import Runtime

if TYPE_CHECKING:
    from macrec_core.checkpoints import Checkpoints
    from macrec_core.params.baselines import SequentialParams
    from macrec_core.progress import Progress


def pretrain(
    model: NextItemModel,
    sequences: Histories,
    params: SequentialParams,
    seed: int,
    runtime: Runtime,
    checkpoints: Checkpoints,
    progress: Progress,
) -> list[dict[str, float]]:
    """Train for `model.pretrain_epochs` epochs on what whole sequences tell; nothing for most.

    Random draws and checkpoints are as in `train_sequence_model`. Every epoch is made: nothing
    is measured by which one could choose.

    Args:
        model: untrained; changed.
        sequences: whole training sequences.
        params: section `sequential`.
        seed: of the run.
        runtime: where to compute.
        checkpoints: of the pre-training.
        progress: counts epochs.

    Returns:
        One row an epoch: mean of each loss.

    Raises:
        MacrecError: there is nothing to learn from, the loss is not finite, or memory does not
            suffice.
    """
    if not model.pretrain_epochs:
        return []
    if not len(sequences):
        raise MacrecError("pre-training: 0 sequences, at least 1 is needed (filter.k_core)")
    model.to(runtime.device)
    optimizer = AdamW(
        model.parameters(), params.learning_rate, weight_decay=params.weight_decay, fused=True
    )
    history: list[dict[str, float]] = []
    saved = checkpoints.load()
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        history = saved["history"]

    def state() -> dict[str, Any]:
        return {
            "model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history,
            "progress": f"epoch {len(history)}",
        }  # fmt: skip

    progress.start("epochs of pre-training", model.pretrain_epochs)
    progress.advance(len(history))
    found = len(history)
    while len(history) < model.pretrain_epochs:
        epoch = len(history)
        this = Pass("pretraining", seed, epoch, params, runtime, checkpoints)
        with out_of_memory_names("lower sequential.batch_size"):
            losses = _epoch(model, optimizer, sequences, this)
        updates = (epoch + 1.0) * math.ceil(len(sequences) / params.batch_size)
        history.append({"epoch": epoch + 1.0, "update": updates, **losses})
        checkpoints.offer(state)
        progress.advance(1, f"loss {losses['loss']:.4f}")
    if len(history) > found:
        checkpoints.save(state())
    return history


def _epoch(
    model: NextItemModel, optimizer: torch.optim.Optimizer, sequences: Histories, this: Pass
) -> dict[str, float]:
    """Updates with every sequence once; the mean of each loss."""

    def losses(rows: Tensor, draws: torch.Generator) -> dict[str, Tensor]:
        return model.pretrain_losses(sequences, rows, draws)

    return run_epoch(model, losses, optimizer, sequences.lengths, this)
