"""Where a GPU spends the time of T5 training and of decoding, and how long it waits for the CPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_input import Inputs
from benchmarks.gpu_measure import Machine
from benchmarks.gpu_settings import Gr
from macrec_core.recommender.batches import epoch_batches
from macrec_core.recommender.decoding import beam_search, prepare
from macrec_core.recommender.training import new_t5
from macrec_core.recommender.updates import State, update
from macrec_core.runtime import generator

log = logging.getLogger("benchmarks.gpu")

_UPDATES, _BEAMS, _ROWS = 5, 20, 30


def write_profile(machine: Machine, inputs: Inputs, gr: Gr, target: Path) -> None:
    """Write tables of the kernels of a few updates and of one search.

    Args:
        machine: where to run.
        inputs: the data; with a small machine a part of it.
        gr: settings.
        target: text file.
    """
    ids = inputs.ids[0]
    users = inputs.test_users(ids)
    data = inputs.training(ids).to(machine.device)
    model = new_t5(data.vocabulary_size, gr.core, generator(0, "bench")).to(machine.device)
    state = State(model, gr.core)
    batches = epoch_batches(len(data.examples), gr.batch_size, 0, 0)

    def updates() -> None:
        for rows in batches[:_UPDATES]:
            update(state, data.examples, rows, 1e-4, gr.core, 0, machine.runtime)

    part = next(iter(users.modalities.values()))
    source, trie = part.source.to(machine.device), part.trie.to(machine.device)
    rows = torch.argsort(source.lengths, stable=True)[: 8 if machine.small else 1024]

    def search() -> None:
        histories = prepare(model, source.packed(rows))
        beam_search(model, histories, trie, part.level_offsets, _BEAMS)

    texts = [_profiled(machine, f"{_UPDATES} updates", updates),
             _profiled(machine, f"one search of {len(rows)} histories", search)]  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(texts))
    log.info("profile: %s", target)


def _profiled(machine: Machine, name: str, function: Callable[[], None]) -> str:
    on_gpu = machine.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    function()
    plain = machine.seconds(function)
    with profile(activities=activities) as record:
        start = time.perf_counter()
        function()
        machine.synchronise()
        took = time.perf_counter() - start
    events = record.key_averages()
    column = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    busy = sum(getattr(event, column) for event in events) / 1e6
    line = (
        f"{name}: {plain:.4f} s, {took:.4f} s under the profiler; kernels take {busy:.4f} s, "
        f"{100 * busy / plain:.0f} % of the former"
    )
    log.info("%s", line)
    return f"{line}\n{events.table(sort_by=column, row_limit=_ROWS)}\n"
