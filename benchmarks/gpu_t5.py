"""T5 training on a GPU: seconds an epoch, through the product's own `update` and validation.

Plain is Hugging Face's T5 under autocast on random batches padded to the longest of 512, given
as ready tensors: no tokeniser, no DataLoader.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gpu_input import SMALL_EXAMPLES, Inputs, few
from benchmarks.gpu_measure import Budget, GpuRow, Machine, gpu_row
from benchmarks.gpu_settings import Gr
from benchmarks.operations import flops_of_example
from macrec_core.recommender.batches import epoch_batches
from macrec_core.recommender.hugging_face import config_of
from macrec_core.recommender.t5 import parameter_count
from macrec_core.recommender.training import TrainingData, new_t5
from macrec_core.recommender.updates import Examples, State, update
from macrec_core.recommender.validation import validation_loss, validation_ndcg
from macrec_core.runtime import generator

log = logging.getLogger("benchmarks.gpu")

_WARM_UP, _STEP = 12, 10  # updates before the clock starts, and between two looks at it
_EPOCHS = 3  # measured at most; the best counts
_PLAIN_PART, _PLAIN_UPDATES = 512, 2  # examples a forward pass of the plain version
_EPOCH_GOAL, _TRAINING_GOAL = 4.0, 600.0


def t5_training(machine: Machine, inputs: Inputs, gr: Gr, budget: Budget) -> Iterator[GpuRow]:
    """Examples a second, and what a whole training takes, validation included."""
    data = inputs.training(inputs.ids[0])
    if machine.small:
        data, _ = few(data, inputs.test_users(inputs.ids[0]), SMALL_EXAMPLES)
    for name, weight in (("t5_training", gr.lambda_implicit), ("t5_training implicit", 0.01)):
        if budget.spent:
            log.warning("%s: no time left, not measured", name)
            continue
        machine.start()
        case = replace(gr, lambda_implicit=weight)
        epoch, details = _epoch_seconds(machine, data, case, budget)
        examples = data.examples
        if name == "t5_training":
            plain, details["plain"] = _plain_rate(machine, examples, gr)
            yield from _training_rows(machine, data, gr, epoch, plain, details)
        else:
            # FLOPs are those of the recommendation term alone.
            yield gpu_row(
                machine, name, "examples/s", len(examples) / epoch, seconds=epoch,
                goal="<= 4 s an epoch", reached=epoch <= _EPOCH_GOAL, details=details,
            )  # fmt: skip


def _epoch_seconds(
    machine: Machine, data: TrainingData, gr: Gr, budget: Budget
) -> tuple[float, dict[str, object]]:
    """Seconds of an epoch, the best of up to three; scaled up where time allows only a part."""
    runtime, on_device = machine.runtime, data.to(machine.device)
    model = new_t5(data.vocabulary_size, gr.core, generator(0, "bench")).to(machine.device)
    training = _Training(machine, on_device.examples, gr, State(model, gr.core), budget)
    training.updates(0, _WARM_UP)
    found, cut = training.epochs()
    log.info("epochs: %s s", [round(each, 3) for each in found])
    values = {"loss": validation_loss, "ndcg": validation_ndcg}
    seconds = {}
    for name, validate in values.items():
        # The first time chooses kernels.
        once = partial(validate, model, on_device.validation, runtime)
        both = [machine.seconds(once) for _ in range(2)]
        seconds[f"validation_{name}_seconds"] = both[-1]
        log.info("validation by %s: %.3f s", name, both[-1])
    return min(found), {
        "epochs": found, "updates_an_epoch": training.whole, "batch_size": gr.batch_size,
        "cut": cut, "micro_batch_tokens": gr.micro_batch_tokens,
        "lambda_implicit": gr.lambda_implicit, "precision": str(runtime.autocast or torch.float32),
        "parameters": parameter_count(model), **seconds,
        "matrix_tflops": machine.matrix_rate / 1e12,
    }  # fmt: skip


@dataclass(frozen=True)
class _Training:
    """A training whose updates are timed.

    Attributes:
        machine: where it runs.
        examples: on the device.
        gr: settings.
        state: changed.
        budget: asked after every ten updates.
    """

    machine: Machine
    examples: Examples
    gr: Gr
    state: State
    budget: Budget

    @property
    def whole(self) -> int:
        """Updates of an epoch."""
        return -(-len(self.examples) // self.gr.batch_size)

    def updates(self, epoch: int, limit: int | None = None) -> int:
        """Make the updates of an epoch, or the first of them; how many there was time for."""
        batches = epoch_batches(len(self.examples), self.gr.batch_size, 0, epoch)[:limit]
        for made, rows in enumerate(batches, start=1):
            update(self.state, self.examples, rows, 1e-4, self.gr.core, 0, self.machine.runtime)
            if made % _STEP == 0 and self.budget.spent:
                return made
        return len(batches)

    def epochs(self) -> tuple[list[float], str | None]:
        """Seconds of epochs, and what was cut of a single one."""
        found: list[float] = []
        for epoch in range(1, 1 + _EPOCHS):
            made = 0

            def timed(epoch: int = epoch) -> None:
                nonlocal made
                made = self.updates(epoch)

            took = self.machine.seconds(timed)
            if made == self.whole:
                found.append(took)
            elif not found:
                cut = f"{made} of {self.whole} updates measured, scaled up"
                return [took * self.whole / made], cut
            if self.budget.spent:
                break
        return found, None


def _training_rows(
    machine: Machine,
    data: TrainingData,
    gr: Gr,
    epoch: float,
    plain: float,
    details: dict[str, object],
) -> Iterator[GpuRow]:
    flops = flops_of_example(data.examples, gr, data.vocabulary_size)
    details["gflop_an_example"] = flops / 1e9
    yield gpu_row(
        machine, "t5_training", "examples/s", len(data.examples) / epoch, flops=flops,
        plain=plain, seconds=epoch, goal="<= 4 s an epoch", reached=epoch <= _EPOCH_GOAL,
        details=details,
    )  # fmt: skip
    validation = details["validation_loss_seconds"]
    assert isinstance(validation, float)
    whole = 200 * (epoch + validation)
    yield gpu_row(
        machine, "t5_training whole", "epochs/s", 1 / (epoch + validation), seconds=whole,
        goal="200 epochs <= 600 s", reached=whole <= _TRAINING_GOAL,
        details={"projected": "200 x (an epoch + validation by loss), both as measured"},
    )  # fmt: skip


def _plain_rate(machine: Machine, data: Examples, gr: Gr) -> tuple[float, str]:
    """Examples a second of Hugging Face's T5, and what it was."""
    from transformers import T5Config, T5ForConditionalGeneration

    size = int(max(data.source.flat.max(), data.target.max())) + 1
    config = config_of(new_t5(size, gr.core, generator(0)).shape)
    model: nn.Module = T5ForConditionalGeneration(T5Config(**config))
    model.to(machine.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0.01, fused=True)
    batches = epoch_batches(len(data), gr.batch_size, 0, 0)[: 1 + _PLAIN_UPDATES]
    batches = batches if len(batches) > 1 else batches * 2

    def updates(chosen: list[Tensor]) -> None:
        for rows in chosen:
            optimizer.zero_grad(set_to_none=True)
            for part in rows.split(_PLAIN_PART):
                (_plain_loss(machine, model, data, part) * (len(part) / len(rows))).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    # Others' code: not all of it has deterministic kernels.
    strictness = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        updates(batches[:1])
        took = machine.seconds(lambda: updates(batches[1:]))
    finally:
        torch.set_deterministic_debug_mode(strictness)
    rate = sum(map(len, batches[1:])) / took
    log.info("plain Hugging Face T5: %.0f examples/s", rate)
    return rate, f"Hugging Face T5, autocast {machine.runtime.autocast}, {_PLAIN_PART} a pass"


def _plain_loss(machine: Machine, model: nn.Module, data: Examples, rows: Tensor) -> Tensor:
    ids, target = _padded(data, rows, machine.device)
    half = machine.runtime.autocast
    with torch.autocast(machine.device.type, half, enabled=half is not None):
        loss: Tensor = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=target).loss
    return loss


def _padded(data: Examples, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Source ids padded to the longest, and targets, of some examples."""
    source = data.source
    texts = [source.flat[source.offsets[r] : source.offsets[r + 1]].long() for r in rows.tolist()]
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    return ids.to(device), data.target[rows].long().to(device)
