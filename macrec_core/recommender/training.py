"""Training of the generative recommender (Eq. 19): one plain loop over updates.

Whatever is random in update s (examples, dropout, items of the implicit alignment) comes from
a stream named by the seed and s, so that a training that goes on from a checkpoint gives the
same bytes as one that was never interrupted.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from macrec_core.errors import MacrecError
from macrec_core.memory import out_of_memory_names
from macrec_core.recommender.batches import epoch_batches
from macrec_core.recommender.t5 import T5, T5Shape
from macrec_core.recommender.updates import Examples, State, learning_rate, update
from macrec_core.recommender.validation import Validation, validation_loss, validation_ndcg
from macrec_core.recommender.visual import ItemImages
from macrec_core.runtime import Runtime, generator

if TYPE_CHECKING:
    from macrec_core.checkpoints import Checkpoints
    from macrec_core.params.recommender import GrParams
    from macrec_core.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """What the recommender learns from.

    Attributes:
        examples: training examples and items.
        validation: held-out histories and targets.
        vocabulary_size: number of tokens.
        images: of every item, where sources hold visual tokens.
    """

    examples: Examples
    validation: Validation
    vocabulary_size: int
    images: ItemImages | None = None

    def to(self, device: torch.device) -> TrainingData:
        """The same on another device, but for the images, which the model holds."""
        return replace(
            self, examples=self.examples.to(device), validation=self.validation.to(device)
        )


@dataclass(frozen=True)
class TrainedRecommender:
    """The model of the best epoch, and how it got there.

    Attributes:
        model: on the CPU, in evaluation mode.
        history: one row an epoch: mean training losses and validation values.
        best_epoch: the epoch, counted from 1, whose weights the model has.
        stopped_by: `max_epochs`, `max_steps` or `patience`.
    """

    model: T5
    history: list[dict[str, float]]
    best_epoch: int
    stopped_by: str


def train_recommender(
    data: TrainingData,
    params: GrParams,
    seed: int,
    runtime: Runtime,
    checkpoints: Checkpoints,
    progress: Progress,
) -> TrainedRecommender:
    """Train until `max_epochs`, `max_steps` or `patience` ends it; keep the best epoch.

    The cosine runs over all updates that `max_epochs` and `max_steps` allow. A budget that ends
    within an epoch ends it there, and that part counts as an epoch of its own. Of several
    processes all return the same.

    Raises:
        MacrecError: the loss stops being finite, memory does not suffice, or the processes
            would not go on from the same update.
    """
    model = new_t5(data.vocabulary_size, params, generator(seed, "gr-weights"), data.images)
    model.to(runtime.device)
    remedy = runtime.against_divergence("gr.learning_rate")
    state = State(model, params, remedy, lambda: checkpoints.last)
    saved = checkpoints.load()
    if saved is not None:
        state.restore(saved)
    runtime.processes.check_same("updates made so far", state.step)
    steps_an_epoch = math.ceil(len(data.examples) / params.batch_size)
    total = steps_an_epoch * params.max_epochs
    if params.max_steps is not None:
        total = min(total, params.max_steps)
    _check_catalogue(data.examples, params, runtime)
    data = data.to(runtime.device)
    progress.start("T5 updates", total)
    progress.advance(state.step)
    with out_of_memory_names("lower gr.micro_batch_tokens"):
        while not state.stopped_by:
            _epoch(state, data, params, seed, steps_an_epoch, total, runtime, checkpoints, progress)
    if saved is None or not saved["stopped_by"]:
        checkpoints.save(state.snapshot())
    model.load_state_dict(state.best)
    log.info(
        "best epoch %d of %d, stopped by %s", state.best_epoch, len(state.history), state.stopped_by
    )
    return TrainedRecommender(model.cpu().eval(), state.history, state.best_epoch, state.stopped_by)


def new_t5(
    vocabulary_size: int,
    params: GrParams,
    draws: torch.Generator,
    images: ItemImages | None = None,
) -> T5:
    """An untrained T5 of the sizes that section `gr` names, with visual tokens or without."""
    model = T5(
        T5Shape(
            vocabulary_size, params.d_model, params.d_kv, params.d_ff, params.num_layers,
            params.num_heads, params.dropout,
        ),
        images,
    )  # fmt: skip
    model.initialise(draws)
    return model


def _epoch(
    state: State,
    data: TrainingData,
    params: GrParams,
    seed: int,
    steps_an_epoch: int,
    total: int,
    runtime: Runtime,
    checkpoints: Checkpoints,
    progress: Progress,
) -> None:
    # Not step // steps_an_epoch: a checkpoint may lie between an epoch's last update and its
    # validation, and that epoch is still to be ended.
    epoch = len(state.history)
    batches = epoch_batches(len(data.examples), params.batch_size, seed, epoch)
    while state.step < min((epoch + 1) * steps_an_epoch, total):
        rows = batches[state.step - epoch * steps_an_epoch]
        rate = learning_rate(state.step, total, params)
        update(state, data.examples, rows, rate, params, seed, runtime)
        checkpoints.offer(state.snapshot)
        sums = state.sums
        progress.advance(1, f"loss {sums['loss'] / sums['updates']:.4f}" if sums else "")
    _end_epoch(state, data, params, total, runtime)
    checkpoints.offer(state.snapshot)


def _end_epoch(
    state: State, data: TrainingData, params: GrParams, total: int, runtime: Runtime
) -> None:
    """Validate, remember the best weights, and decide whether training stops."""
    state.look()
    updates = state.sums.pop("updates")
    row = {name: value / updates for name, value in state.sums.items()}
    state.sums = {}
    row["validation_loss"] = validation_loss(state.model, data.validation, runtime)
    value = row["validation_loss"]
    if params.select_by == "ndcg@10":
        row["validation_ndcg@10"] = validation_ndcg(state.model, data.validation, runtime)
        value = -row["validation_ndcg@10"]
    if not (math.isfinite(value) and math.isfinite(row["validation_loss"])):
        raise state.not_finite(
            f"validation value is {value}, validation loss {row['validation_loss']} after update "
            f"{state.step}"
        )
    state.history.append({"epoch": len(state.history) + 1.0, "update": float(state.step), **row})
    if value < state.best_value:
        state.best_value, state.best_epoch = value, len(state.history)
        # A copy: the live weights go on changing.
        state.best = {
            name: t.detach().cpu().clone() for name, t in state.model.state_dict().items()
        }
    if len(state.history) - state.best_epoch >= params.patience:
        state.stopped_by = "patience"
    elif state.step >= total:
        budget = params.max_steps is not None and state.step >= params.max_steps
        state.stopped_by = "max_steps" if budget else "max_epochs"


def _check_catalogue(examples: Examples, params: GrParams, runtime: Runtime) -> None:
    num_items = len(next(iter(examples.item_ids.values())))
    if not params.lambda_implicit:
        return
    if min(params.implicit_batch_size, num_items) < runtime.processes.count:
        raise MacrecError(
            f"gr.implicit_batch_size={params.implicit_batch_size} of {num_items} items: fewer "
            f"than the {runtime.processes.count} processes; raise it or lower "
            "runtime.num_processes"
        )
    if params.implicit_batch_size > num_items:
        log.warning(
            "gr.implicit_batch_size=%d: the catalogue has %d items, all of them are drawn",
            params.implicit_batch_size, num_items,
        )  # fmt: skip
