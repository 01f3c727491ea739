"""The evaluation on a GPU: all test users, two modalities, 20 beams, through the product's own.

No plain version here: `generate` with a Python function for every prefix would take an hour.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.gpu_input import Inputs, TestUsers, first_users
from benchmarks.gpu_measure import Budget, GpuRow, Machine, gpu_row
from benchmarks.gpu_settings import SMALL_EVAL, Eval, Gr
from benchmarks.operations import flops_of_history
from macrec_core.recommender.evaluation import evaluate_recommender
from macrec_core.recommender.t5 import T5
from macrec_core.recommender.training import new_t5
from macrec_core.runtime import Runtime, generator

log = logging.getLogger("benchmarks.gpu")

_PROBE = 1024  # users of the run that warms up
_LARGER = (1024, 4096)  # users at once that are tried beside the preset's
_GOAL = 5.0


class _LastAdvance:
    """Progress that only remembers when it heard last."""

    def __init__(self) -> None:
        self.at = 0.0

    def start(self, description: str, total: int) -> None:
        """Nothing."""

    def advance(self, units: int = 1, status: str = "") -> None:
        """Remember now."""
        self.at = time.perf_counter()


def evaluation(machine: Machine, inputs: Inputs, gr: Gr, budget: Budget) -> Iterator[GpuRow]:
    """Histories a second of the whole evaluation, random weights, published IDs."""
    ids = inputs.ids[0]
    users = inputs.test_users(ids)
    settings = SMALL_EVAL if machine.small else Eval()
    if machine.small:
        users = first_users(users, 50)
    model = new_t5(inputs.vocabulary.size, gr.core, generator(0, "bench"))
    with torch.no_grad():
        model.embedding.mul_(3.0)  # far from flat distributions
    # Decoding is float32, whatever training is.
    runtime = Runtime(machine.device, None)
    machine.start()
    probe = first_users(users, min(_PROBE, len(users.targets)))
    _evaluate(machine, model, probe, settings, runtime)
    took, _ = _evaluate(machine, model, probe, settings, runtime)
    cut = None
    affordable = int(budget.left / took * len(probe.targets))
    whole = len(users.targets)
    if affordable < whole:
        users = first_users(users, max(len(probe.targets), affordable))
        cut = f"{len(users.targets)} of {whole} users decoded, scaled up"
    took, host = _evaluate(machine, model, users, settings, runtime)
    seconds = took * whole / len(users.targets)
    modalities = users.modalities.values()
    histories = len(users.targets) * len(modalities)
    lengths = torch.cat([part.source.lengths for part in modalities])
    flops = flops_of_history(
        lengths, gr, inputs.vocabulary.num_levels, settings.num_beams, inputs.vocabulary.size
    )
    yield gpu_row(
        machine, "evaluation", "histories/s", histories / took, flops=flops, seconds=seconds,
        goal="<= 5 s", reached=seconds <= _GOAL,
        details={
            "users": whole, "beams": settings.num_beams, "batch_size": settings.batch_size,
            "cut": cut, "seconds_of_fusion_and_ranks": host, "ids": ids, "precision": "float32",
            "gflop_a_history": flops / 1e9, "ceiling": "of bfloat16, decoding is float32",
        },
    )  # fmt: skip
    yield from _larger_batches(machine, model, users, runtime, budget, took)


def _larger_batches(
    machine: Machine, model: T5, users: TestUsers, runtime: Runtime, budget: Budget, took: float
) -> Iterator[GpuRow]:
    """The same with more users at once, which a GPU may prefer; tells what to set."""
    for size in _LARGER:
        if machine.small or budget.left < 3 * took:
            return
        machine.start()
        settings = replace(Eval(), batch_size=size)
        _evaluate(machine, model, first_users(users, size), settings, runtime)
        took, host = _evaluate(machine, model, users, settings, runtime)
        histories = len(users.targets) * len(users.modalities)
        yield gpu_row(
            machine, f"evaluation batch_size={size}", "histories/s", histories / took,
            seconds=took,
            details={"seconds_of_fusion_and_ranks": host, "users": len(users.targets)},
        )  # fmt: skip


def _evaluate(
    machine: Machine, model: T5, users: TestUsers, settings: Eval, runtime: Runtime
) -> tuple[float, float]:
    """Seconds of an evaluation, and those of them after the last beam search."""
    progress = _LastAdvance()

    def run() -> None:
        evaluate_recommender(
            model, users.modalities, users.targets, settings.core, runtime, progress
        )

    took = machine.seconds(run)
    end = time.perf_counter()
    log.info(
        "%d users at %d a batch: %.3f s, %.3f of them after the last search",
        len(users.targets), settings.batch_size, took, end - progress.at,
    )  # fmt: skip
    return took, end - progress.at
