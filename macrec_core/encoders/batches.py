"""Which texts share a batch, and how batches pass through a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor

from macrec_core.lookahead import in_threads
from macrec_core.runtime import Runtime

T = TypeVar("T")
Inputs = tuple[Tensor | None, ...]


def by_tokens(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Texts of like length together, the longest first.

    Args:
        lengths: tokens of each text.
        budget: tokens a batch at most, padding included; a longer text is a batch of its own.

    Returns:
        Indices of each batch's texts.
    """
    batches: list[list[int]] = []
    room = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if room == 0:  # the first is the longest, to whose length the others are filled up
            batches.append([])
            room = max(1, budget // lengths[i])
        batches[-1].append(i)
        room -= 1
    return batches


def computed(
    model: Callable[..., Tensor],
    prepare: Callable[[T], Inputs],
    batches: Iterable[T],
    runtime: Runtime,
    dtype: torch.dtype,
) -> Iterator[Tensor]:
    """The model's outputs for batches, in their order, in float32 on the model's device.

    On a CPU each thread takes a batch of its own from picture or text to vector: threads then
    never wait for each other, a batch stays in a core's cache, and what it gives does not depend
    on the number of threads. On a GPU, threads prepare batches while it computes.

    Args:
        model: called with what `prepare` returns.
        prepare: a batch's tensors, on the CPU.
        batches: what `prepare` takes.
        runtime: where to compute, and in which precision (see `precision`).
        dtype: type of the weights.
    """
    device = runtime.device

    def forward(inputs: Inputs) -> Tensor:
        with torch.inference_mode(), _autocast(runtime, dtype):
            moved = [None if x is None else x.to(device, non_blocking=True) for x in inputs]
            return model(*moved).float()

    if device.type != "cpu":
        yield from map(forward, in_threads(_pinned(prepare), batches, os.cpu_count() or 1))
        return
    threads = torch.get_num_threads()

    def one() -> None:
        torch.set_num_threads(1)

    try:
        yield from in_threads(lambda batch: forward(prepare(batch)), batches, threads, one)
    finally:
        torch.set_num_threads(threads)  # the threads' setting is also the default of new ones


def precision(runtime: Runtime, dtype: torch.dtype) -> torch.dtype:
    """The type of matrix products with weights of a type.

    Autocast applies to float32 weights only: half precision in the weights' own type is what
    whoever chose the type asked for.
    """
    return runtime.autocast if runtime.autocast and dtype == torch.float32 else dtype


def _autocast(runtime: Runtime, dtype: torch.dtype) -> AbstractContextManager[object]:
    wanted = precision(runtime, dtype)
    return nullcontext() if wanted == dtype else torch.autocast(runtime.device.type, wanted)


def _pinned(prepare: Callable[[T], Inputs]) -> Callable[[T], Inputs]:
    """Inputs in memory from which a GPU copies without making the caller wait."""
    return lambda batch: tuple(x if x is None else x.pin_memory() for x in prepare(batch))
