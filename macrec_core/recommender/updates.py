"""One update of the generative recommender (Eq. 19), and the state that updates change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from macrec_core.adamw import AdamW
from macrec_core.errors import MacrecError
from macrec_core.recommender.augmentation import thinned
from macrec_core.recommender.batches import micro_batches
from macrec_core.recommender.kernels import Dropout
from macrec_core.recommender.losses import implicit_alignment_loss, next_token_loss
from macrec_core.recommender.packing import Sequences
from macrec_core.recommender.t5 import T5, Mode
from macrec_core.runtime import Runtime, generator, sent

if TYPE_CHECKING:
    from macrec_core.params.recommender import GrParams

# Reading a loss makes the CPU wait for a GPU; so many updates share one wait there.
_UPDATES_A_LOOK = 20


@dataclass(frozen=True)
class Examples:
    """Training examples of all tasks.

    Attributes:
        source: n encoder inputs.
        target: [n, L + 1] token ids, the end token last.
        item_ids: per modality [N, L + 1], every item's semantic ID and end, for L_implicit.
        item_tokens: tokens of an item in the inputs.
        first_code: least token id of a code; less are those of prompts.
    """

    source: Sequences
    target: Tensor
    item_ids: Mapping[str, Tensor]
    item_tokens: int
    first_code: int

    def __len__(self) -> int:
        return len(self.source)

    def to(self, device: torch.device) -> Examples:
        """The same on another device."""
        ids = {name: ids.to(device) for name, ids in self.item_ids.items()}
        source, target = self.source.to(device), self.target.to(device)
        return replace(self, source=source, target=target, item_ids=ids)

    @cached_property
    def leads(self) -> Tensor:
        """[n] int64 on the CPU: tokens before the first item of an input, its prompt or none."""
        flat = self.source.flat
        return (flat[sent(self.source.offsets[:-1], flat.device)] < self.first_code).long().cpu()

    def thinned(self, rows: Tensor, share: float, draws: torch.Generator) -> Examples:
        """Only these examples [B], with items of their histories left out; see `thinned`."""
        source = thinned(self.source, self.leads, self.item_tokens, rows, share, draws)
        return replace(self, source=source, target=self.target[sent(rows, self.target.device)])


class State:
    """Everything that a checkpoint holds.

    Args:
        model: trained in place.
        params: section `gr`.
        remedy: for error messages, what helps against a loss that is not finite.
        last_checkpoint: for error messages, names the last good one.
    """

    def __init__(
        self,
        model: T5,
        params: GrParams,
        remedy: str = "lower gr.learning_rate",
        last_checkpoint: Callable[[], str] = lambda: "none was saved",
    ) -> None:
        self.model, self._remedy, self._last_checkpoint = model, remedy, last_checkpoint
        # fused: one pass over the weights; chosen for good, since each kind rounds otherwise.
        self.optimizer = AdamW(
            model.parameters(), params.learning_rate, weight_decay=params.weight_decay, fused=True
        )
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}
        self.best: dict[str, Tensor] = {}
        self.best_value, self.best_epoch = math.inf, 0
        self.stopped_by = ""
        # Losses and gradient norms of updates that nobody has looked at yet.
        self._unseen: list[tuple[dict[str, Tensor], float]] = []

    _PLAIN = ("step", "history", "sums", "best", "best_value", "best_epoch", "stopped_by")

    def snapshot(self) -> dict[str, Any]:
        """What a checkpoint saves; never a state after a loss that was not finite.

        Raises:
            MacrecError: such a loss has been met.
        """
        self.look()
        return {
            "model": self.model.state_dict(),
            # Of a finished training nobody needs it, and it is two thirds of the file.
            "optimizer": None if self.stopped_by else self.optimizer.state_dict(),
            "progress": f"update {self.step}",
            **{name: getattr(self, name) for name in self._PLAIN},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self.model.load_state_dict(saved["model"])
        if saved["optimizer"] is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
        for name in self._PLAIN:
            setattr(self, name, saved[name])

    def note(self, values: dict[str, Tensor], learning_rate: float) -> None:
        """Remember the values of the update just made."""
        self._unseen.append((values, learning_rate))
        if values["loss"].device.type == "cpu" or len(self._unseen) == _UPDATES_A_LOOK:
            self.look()

    def look(self) -> None:
        """Add up the values of recent updates.

        Raises:
            MacrecError: one of them is not finite.
        """
        unseen = self._unseen
        if not unseen:
            return
        names = list(unseen[0][0])
        rows = torch.stack([torch.stack([row[n].float() for n in names]) for row, _ in unseen])
        first = self.step - len(unseen) + 1
        for place, (row, (_, rate)) in enumerate(zip(rows.tolist(), unseen, strict=True)):
            values = dict(zip(names, row, strict=True))
            norm = values.pop("norm")
            if not (math.isfinite(values["loss"]) and math.isfinite(norm)):
                raise self.not_finite(
                    f"loss is {values['loss']}, gradient norm {norm} at update {first + place}, "
                    f"learning rate {rate:.3g}"
                )
            for name, value in {**values, "updates": 1.0}.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
        # Only now: after a loss that is not finite every look, and so every snapshot, fails.
        self._unseen = []

    def not_finite(self, what: str) -> MacrecError:
        """The error of a value that is no number, with the remedy."""
        return MacrecError(
            f"T5 {what}; {self._remedy} (last good checkpoint: {self._last_checkpoint()})"
        )


def learning_rate(step: int, total: int, params: GrParams) -> float:
    """Linear warm-up, then cosine to zero; `step` counts from 0."""
    warmup = math.ceil(total * params.warmup_fraction)
    if step < warmup:
        return params.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return params.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


def update(
    state: State,
    data: Examples,
    rows: Tensor,
    rate: float,
    params: GrParams,
    seed: int,
    runtime: Runtime,
) -> None:
    """One optimisation step on the examples `rows`, shared among the processes.

    Every process works on its share of the rows; the gradients' sum is that of the whole batch.

    Args:
        state: changed.
        data: on the runtime's device.
        rows: [B] indices, on the CPU.
        rate: learning rate.
        params: section `gr`.
        seed: of the run.
        runtime: device, precision, processes.

    Raises:
        MacrecError: the loss is not finite.
    """
    processes = runtime.processes
    mode = Mode(runtime.autocast or torch.float32, _dropout(params, seed, state.step, runtime))
    state.optimizer.zero_grad()
    if params.history_dropout:
        draws = generator(seed, "gr-histories", state.step)
        data = data.thinned(rows, params.history_dropout, draws)
        rows = torch.arange(len(rows))
    # Sorted first, so that the processes' shares are of like length.
    by_length = rows[torch.argsort(data.source.lengths[rows], stable=True)]
    own = processes.share(by_length)
    rec = _recommend(state, data, own, len(rows), params, mode, runtime)
    values = {"rec": rec}
    if params.lambda_implicit and len(data.item_ids) > 1:
        values["implicit"] = _align_implicitly(state, data, params, seed, mode, runtime)
    weights = list(state.model.parameters())
    processes.sum_gradients_(weights, [rec])
    values["loss"] = _weight(data, params) * rec
    if "implicit" in values:
        values["loss"] = values["loss"] + params.lambda_implicit * values["implicit"]
    values["norm"] = torch.nn.utils.clip_grad_norm_(weights, params.max_grad_norm)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.step()
    state.step += 1
    state.note(values, rate)


def _weight(data: Examples, params: GrParams) -> int:
    """Of the mean negative log-likelihood of a token in Eq. 19."""
    return data.target.shape[1] if params.token_reduction == "sum" else 1


def _recommend(
    state: State,
    data: Examples,
    own: Tensor,
    total: int,
    params: GrParams,
    mode: Mode,
    runtime: Runtime,
) -> Tensor:
    """Add the gradient of the first term of Eq. 19; this process's part of its mean per token."""
    rec = torch.zeros((), device=runtime.device)
    weight = _weight(data, params)
    for part in micro_batches(own, data.source.lengths, params.micro_batch_tokens):
        source = data.source.packed(part)
        target = data.target[sent(part, runtime.device)].long()
        loss = next_token_loss(state.model, source, target, params.label_smoothing, mode)
        share = len(part) / total
        (weight * share * loss).backward()
        rec += share * loss.detach()
    return rec


def _dropout(params: GrParams, seed: int, step: int, runtime: Runtime) -> Dropout | None:
    if not params.dropout:
        return None
    stream = generator(seed, "gr-dropout", step, runtime.processes.rank).initial_seed()
    return Dropout(params.dropout, stream, runtime.device)


def _align_implicitly(
    state: State, data: Examples, params: GrParams, seed: int, mode: Mode, runtime: Runtime
) -> Tensor:
    """Add the gradient of lambda L_implicit on items drawn from the whole catalogue."""
    count = len(next(iter(data.item_ids.values())))
    draws = generator(seed, "gr-items", state.step)
    items = torch.randperm(count, generator=draws)[: params.implicit_batch_size]
    loss = implicit_alignment_loss(
        state.model,
        data.item_ids,
        sent(items, runtime.device),
        params.temperature,
        params.implicit_similarity,
        mode,
        runtime.processes,
    )
    (params.lambda_implicit * loss).backward()
    return loss.detach()
