"""Rows and the measured limits of the machine."""

from __future__ import annotations

import pytest
import torch

from benchmarks.measure import interleaved, matrix_rate, memory_bandwidth, row


def test_a_row_works_out_ratio_and_share():
    found = row("toy", "items/s", ours=30.0, plain=10.0, ceiling=120.0)
    assert (found.ratio, found.share_of_ceiling, found.peak_memory_mb) == (3.0, 0.25, None)


def test_a_row_without_plain_and_ceiling_has_neither_ratio_nor_share():
    found = row("toy", "items/s", 30.0, peak_memory_mb=7.0)
    assert (found.plain, found.ratio, found.ceiling, found.share_of_ceiling) == (None,) * 4
    assert found.peak_memory_mb == 7.0


def test_the_two_run_in_turn_and_the_least_time_of_each_counts(monkeypatch):
    clock, order = [0.0], []

    def lasting(name, durations):
        def run():
            order.append(name)
            clock[0] += durations.pop(0)

        return run

    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: clock[0])
    best = interleaved(lasting("ours", [3.0, 1.0, 2.0]), lasting("plain", [9.0, 8.0, 7.0]), 3)
    assert order == ["ours", "plain"] * 3
    assert best == (1.0, 7.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_matrix_rate_is_a_rate_in_gflops(monkeypatch, dtype):
    # 512^3 is 0.27 GFLOP: a processor of today does between 1 and 100,000 of them a second.
    monkeypatch.setattr("benchmarks.measure._SIDE", 512)
    assert 0.27 < matrix_rate(dtype) < 27_000


def test_the_bandwidth_counts_bytes_read_and_written(monkeypatch):
    monkeypatch.setattr("benchmarks.measure._COPIED", 10**9)
    monkeypatch.setattr("torch.ones", lambda *_, **__: torch.empty(1))
    monkeypatch.setattr("benchmarks.measure.seconds", lambda _: 0.5)
    assert memory_bandwidth() == 4.0
