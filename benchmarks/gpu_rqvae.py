"""The quantizer on a GPU: 1,000 epochs at the paper's sizes, through `train_quantizer`.

Embeddings are random, in clusters: 6,250 items, 4,096 wide for texts and 768 for images, each
modality in 512 clusters of its own, which are also its pseudo-labels. No plain version: its loop
is the one of the CPU's benchmark.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.gpu_measure import Budget, GpuRow, Machine, gpu_row
from benchmarks.gpu_settings import SMALL_QUANT, Quant
from macrec_core.checkpoints import Checkpoints
from macrec_core.quantization.training import QuantizerData, train_quantizer
from macrec_core.runtime import generator

log = logging.getLogger("benchmarks.gpu")

EPOCHS = 1000
_ITEMS, _WIDTHS, _CLUSTERS = 6_250, {"text": 4096, "image": 768}, 512
_SMALL_ITEMS, _SMALL_WIDTHS, _SMALL_CLUSTERS = 100, {"text": 24, "image": 16}, 8
_GOAL = 60.0
_NEVER = 1e9  # seconds between checkpoints


class OutOfTimeError(Exception):
    """The budget is spent; whoever gave it says what was left undone."""


class Epochs:
    """Progress that notes when each epoch ended, and ends a training whose time is up.

    Args:
        machine: whose device is waited for.
        budget: of the training.
    """

    def __init__(self, machine: Machine, budget: Budget) -> None:
        self._machine, self._budget = machine, budget
        self.ends: list[float] = []

    def start(self, description: str, total: int) -> None:
        """The first epoch begins."""
        self._machine.synchronise()
        self.ends.append(time.perf_counter())

    def advance(self, units: int = 1, status: str = "") -> None:
        """An epoch has ended.

        Raises:
            OutOfTimeError: no time is left for another.
        """
        if not units:
            return
        # The loop reads its losses at the end of each epoch, so that the device has nothing left.
        self.ends.append(time.perf_counter())
        done = len(self.ends) - 1
        if done % 100 == 0:
            log.info("RQ-VAE: %d epochs, %s, %.1f s", done, status, self.ends[-1] - self.ends[0])
        if self._budget.spent:
            raise OutOfTimeError


def rqvae(machine: Machine, budget: Budget) -> Iterator[GpuRow]:
    """Epochs a second, and seconds of 1,000 epochs, codebook initialisation included."""
    params = replace(SMALL_QUANT if machine.small else Quant(), max_epochs=EPOCHS)
    if machine.small:
        params = replace(params, max_epochs=4)
    data = clustered(machine.small)
    # The first call chooses kernels.
    _train(machine, data, replace(params, max_epochs=2), budget)
    machine.start()
    whole, ends, history = _train(machine, data, params, budget)
    done = len(ends) - 1
    if not done:
        log.warning("rqvae: no epoch ended in time, nothing is measured")
        return
    an_epoch = (ends[-1] - ends[0]) / done
    cut = None
    if done < params.max_epochs:
        cut = f"{done} of {params.max_epochs} epochs, scaled up"
        whole += (params.max_epochs - done) * an_epoch
    seconds = sorted(after - before for before, after in pairwise(ends))
    yield gpu_row(
        machine, "rqvae", "epochs/s", 1 / an_epoch, flops=flops_of_epoch(data, params),
        seconds=whole, goal="1,000 epochs <= 60 s", reached=whole <= _GOAL,
        details={
            "epochs": done, "cut": cut, "median_seconds_an_epoch": seconds[len(seconds) // 2],
            "seconds_before_the_first": whole - (ends[-1] - ends[0]) if cut is None else None,
            "precision": str(machine.runtime.autocast or torch.float32),
            "last": history[-1] if history else None,
        },
    )  # fmt: skip


def clustered(small: bool) -> QuantizerData:
    """Random embeddings in clusters, and the clusters as pseudo-labels."""
    count = _SMALL_ITEMS if small else _ITEMS
    clusters = _SMALL_CLUSTERS if small else _CLUSTERS
    embeddings, labels = {}, {}
    for name, width in (_SMALL_WIDTHS if small else _WIDTHS).items():
        draws = generator(0, "bench", name)
        labels[name] = torch.randint(clusters, (count,), generator=draws)
        centres = torch.randn(clusters, width, generator=draws)
        noise = torch.randn(count, width, generator=draws)
        embeddings[name] = centres[labels[name]] + 0.5 * noise
    return QuantizerData(embeddings, labels)


def flops_of_epoch(data: QuantizerData, params: Quant) -> float:
    """Operations of the encoders and decoders: two a multiplication, three passes."""
    sizes = [params.common_width, *params.hidden_sizes, params.latent_dim]
    weights = sum(a * b for a, b in pairwise(sizes)) * len(data.embeddings)
    weights += sum(x.shape[1] * params.common_width for x in data.embeddings.values())
    return 3 * 2 * 2 * weights * float(data.num_items)


def _train(
    machine: Machine, data: QuantizerData, params: Quant, budget: Budget
) -> tuple[float, list[float], list[dict[str, float]]]:
    """Seconds of all, ends of the epochs, and the history if all epochs ended."""
    progress = Epochs(machine, budget)
    history: list[dict[str, float]] = []

    def run() -> None:
        with TemporaryDirectory() as folder:
            checkpoints = Checkpoints(Path(folder), _NEVER)
            try:
                trained = train_quantizer(
                    data, params.core, 0, machine.runtime, checkpoints, progress
                )
                history.extend(trained.history)
            except OutOfTimeError:
                log.warning("rqvae: time is up after %d epochs", len(progress.ends) - 1)

    return machine.seconds(run), progress.ends, history
