"""Training of the generative recommender (Eq. 19): one plain loop over updates.

Whatever is random in update s (examples, dropout, items of the implicit alignment) comes from
a stream named by the seed and s, so that a training that goes on from a checkpoint gives the
same bytes as one that was never interrupted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import T5ForConditionalGeneration

from macrec_core.errors import MacrecError
from macrec_core.recommender.batches import Sequences, epoch_batches, micro_batches
from macrec_core.recommender.losses import implicit_alignment_loss, next_token_loss
from macrec_core.recommender.model import new_t5
from macrec_core.recommender.validation import Validation, validation_loss, validation_ndcg
from macrec_core.runtime import Runtime, generator

if TYPE_CHECKING:
    from macrec_core.checkpoints import Checkpoints
    from macrec_core.params import GrParams
    from macrec_core.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """What the recommender learns from.

    Attributes:
        source: n encoder inputs.
        target: [n, L + 1] token ids.
        item_ids: per modality [N, L + 1], every item's semantic ID and end, for L_implicit.
        validation: held-out histories and targets.
        vocabulary_size: number of tokens.
    """

    source: Sequences
    target: Tensor
    item_ids: Mapping[str, Tensor]
    validation: Validation
    vocabulary_size: int

    def to(self, device: torch.device) -> TrainingData:
        """The same on another device."""
        return TrainingData(
            self.source.to(device),
            self.target.to(device),
            {name: ids.to(device) for name, ids in self.item_ids.items()},
            self.validation.to(device),
            self.vocabulary_size,
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

    model: T5ForConditionalGeneration
    history: list[dict[str, float]]
    best_epoch: int
    stopped_by: str


class _State:
    """Everything a checkpoint holds."""

    def __init__(self, model: T5ForConditionalGeneration, params: GrParams) -> None:
        self.model = model
        self.optimizer = torch.optim.AdamW(
            model.parameters(), params.learning_rate, weight_decay=params.weight_decay, foreach=True
        )
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}
        self.best: dict[str, Tensor] = {}
        self.best_value, self.best_epoch = math.inf, 0
        self.stopped_by = ""

    def snapshot(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            # Of a finished training nobody needs it, and it is two thirds of the file.
            "optimizer": None if self.stopped_by else self.optimizer.state_dict(),
            "progress": f"update {self.step}",
            **{name: getattr(self, name) for name in self._PLAIN},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        if saved["optimizer"] is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
        for name in self._PLAIN:
            setattr(self, name, saved[name])

    _PLAIN = ("step", "history", "sums", "best", "best_value", "best_epoch", "stopped_by")


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
    within an epoch ends it there, and that part counts as an epoch of its own.

    Raises:
        MacrecError: the loss stops being finite.
    """
    torch.manual_seed(generator(seed, "gr-weights").initial_seed())
    num_levels = data.target.shape[1] - 1
    model = new_t5(data.vocabulary_size, num_levels, params)
    torch.nn.Module.to(model, runtime.device)  # the typed form of model.to
    state = _State(model, params)
    saved = checkpoints.load()
    if saved is not None:
        state.restore(saved)
    steps_an_epoch = math.ceil(len(data.source) / params.batch_size)
    total = steps_an_epoch * params.max_epochs
    if params.max_steps is not None:
        total = min(total, params.max_steps)
    data = data.to(runtime.device)
    num_items = len(next(iter(data.item_ids.values())))
    if params.lambda_implicit and params.implicit_batch_size > num_items:
        log.warning(
            "gr.implicit_batch_size=%d: the catalogue has %d items, all of them are drawn",
            params.implicit_batch_size, num_items,
        )  # fmt: skip
    progress.start("T5 updates", total)
    progress.advance(state.step)
    while not state.stopped_by:
        # Not step // steps_an_epoch: a checkpoint may lie between an epoch's last update and its
        # validation, and that epoch is still to be ended.
        epoch = len(state.history)
        batches = epoch_batches(
            data.source.lengths.cpu(), params.batch_size, params.length_pool, seed, epoch
        )
        while state.step < min((epoch + 1) * steps_an_epoch, total):
            rows = batches[state.step - epoch * steps_an_epoch].to(runtime.device)
            _update(
                state, data, rows, params, seed, _learning_rate(state.step, total, params), runtime
            )
            checkpoints.offer(state.snapshot)
            progress.advance(1, f"loss {state.sums['loss'] / state.sums['updates']:.4f}")
        _end_epoch(state, data, params, total, runtime)
        checkpoints.offer(state.snapshot)
    if saved is None or not saved["stopped_by"]:
        checkpoints.save(state.snapshot())
    model.load_state_dict(state.best)
    log.info(
        "best epoch %d of %d, stopped by %s", state.best_epoch, len(state.history), state.stopped_by
    )
    return TrainedRecommender(model.cpu().eval(), state.history, state.best_epoch, state.stopped_by)


def _learning_rate(step: int, total: int, params: GrParams) -> float:
    """Linear warm-up, then cosine to zero; `step` counts from 0."""
    warmup = math.ceil(total * params.warmup_fraction)
    if step < warmup:
        return params.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return params.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


def _update(
    state: _State,
    data: TrainingData,
    rows: Tensor,
    params: GrParams,
    seed: int,
    learning_rate: float,
    runtime: Runtime,
) -> None:
    """One optimisation step on the examples `rows`."""
    state.model.train()
    draws = generator(seed, "gr-update", state.step)
    torch.manual_seed(draws.initial_seed())  # dropout
    state.optimizer.zero_grad(set_to_none=True)
    device_type = runtime.device.type
    values = {"rec": 0.0}
    tokens = data.target.shape[1] if params.token_reduction == "sum" else 1
    for part in micro_batches(rows, data.source.lengths, params.micro_batch_size):
        source, mask = data.source.padded(part)
        with torch.autocast(device_type, runtime.autocast, enabled=runtime.autocast is not None):
            loss = next_token_loss(
                state.model, source, mask, data.target[part].long(), params.label_smoothing
            )
        share = len(part) / len(rows)
        (tokens * share * loss).backward()
        values["rec"] += share * float(loss.detach())
    if params.lambda_implicit and len(data.item_ids) > 1:
        values["implicit"] = _align_implicitly(state, data, params, draws, runtime)
    values["loss"] = tokens * values["rec"] + params.lambda_implicit * values.get("implicit", 0.0)
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), params.max_grad_norm)
    if not (math.isfinite(values["loss"]) and bool(torch.isfinite(norm))):
        raise MacrecError(
            f"T5 loss is {values['loss']}, gradient norm {float(norm)} at update {state.step + 1}, "
            f"learning rate {learning_rate:.3g}; lower gr.learning_rate or set "
            "runtime.precision to 'float32'"
        )
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
    state.optimizer.step()
    state.step += 1
    for name, value in {**values, "updates": 1.0}.items():
        state.sums[name] = state.sums.get(name, 0.0) + value


def _align_implicitly(
    state: _State,
    data: TrainingData,
    params: GrParams,
    draws: torch.Generator,
    runtime: Runtime,
) -> float:
    """Add the gradient of lambda L_implicit on items drawn from the whole catalogue."""
    count = len(next(iter(data.item_ids.values())))
    items = torch.randperm(count, generator=draws)[: params.implicit_batch_size]
    with torch.autocast(
        runtime.device.type, runtime.autocast, enabled=runtime.autocast is not None
    ):
        loss = implicit_alignment_loss(
            state.model,
            data.item_ids,
            items.to(runtime.device),
            params.temperature,
            params.implicit_similarity,
        )
    (params.lambda_implicit * loss).backward()
    return float(loss.detach())


def _end_epoch(
    state: _State, data: TrainingData, params: GrParams, total: int, runtime: Runtime
) -> None:
    """Validate, remember the best weights, and decide whether training stops."""
    updates = state.sums.pop("updates")
    row = {name: value / updates for name, value in state.sums.items()}
    state.sums = {}
    row["validation_loss"] = validation_loss(state.model, data.validation, runtime)
    value = row["validation_loss"]
    if params.select_by == "ndcg@10":
        row["validation_ndcg@10"] = validation_ndcg(state.model, data.validation)
        value = -row["validation_ndcg@10"]
    if not math.isfinite(value):
        raise MacrecError(
            f"T5 validation value is {value} after update {state.step}; lower gr.learning_rate "
            "or set runtime.precision to 'float32'"
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
