"""Batches by token budget, and computing them in threads."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from macrec_core.encoders.batches import by_tokens, computed, precision
from macrec_core.runtime import Runtime

CPU = torch.device("cpu")


@pytest.fixture
def threads():
    """Sets torch's thread count, and sets it back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_batches_hold_every_text_once_within_the_budget(lengths, budget):
    batches = by_tokens(lengths, budget)
    flat = [i for batch in batches for i in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) * lengths[batch[0]] <= budget or len(batch) == 1
    for batch, _ in pairwise(batches):  # none ends before its budget does
        assert (len(batch) + 1) * lengths[batch[0]] > budget


def test_texts_of_one_length_keep_their_order():
    assert by_tokens([3, 5, 3, 5], 6) == [[1], [3], [0, 2]]


def test_outputs_come_in_order_in_float32_and_threads_are_restored(threads):
    seen = set()

    def model(x):
        seen.add((threading.current_thread().name[:6], torch.get_num_threads()))
        assert torch.is_inference_mode_enabled()
        return (x * 2).double()

    threads(2)
    outputs = computed(
        model, lambda i: (torch.full((3,), i),), range(20), Runtime(CPU, None), torch.float32
    )
    found = list(outputs)
    assert torch.get_num_threads() == 2
    assert [x.tolist() for x in found] == [[2.0 * i] * 3 for i in range(20)]
    assert all(x.dtype == torch.float32 for x in found)
    assert seen == {("worker", 1)}


def test_the_number_of_threads_changes_no_bit(threads):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(200, 300, generator=generator)
    inputs = torch.randn(50, 300, generator=generator).split(8)
    runs = []
    for count in (1, 2, 3):
        threads(count)
        outputs = computed(
            lambda x: x @ weights.T, lambda x: (x,), inputs, Runtime(CPU, torch.bfloat16),
            torch.float32,
        )  # fmt: skip
        runs.append(torch.cat(list(outputs)))
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])
    assert not torch.equal(runs[0], torch.cat(inputs) @ weights.T)  # that is float32


def test_an_error_in_a_thread_reaches_the_caller_and_threads_are_restored(threads):
    def model(x):
        if x.item() == 3:
            raise ValueError("broken")
        return x

    threads(2)
    outputs = computed(
        model, lambda i: (torch.tensor(i),), range(9), Runtime(CPU, None), torch.float32
    )
    with pytest.raises(ValueError, match="broken"):
        list(outputs)
    assert torch.get_num_threads() == 2


def test_autocast_is_for_float32_weights():
    half = Runtime(CPU, torch.bfloat16)
    assert precision(half, torch.float32) == torch.bfloat16
    assert precision(half, torch.float16) == torch.float16
    assert precision(Runtime(CPU, None), torch.float32) == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_what_the_cpu_gives(threads):
    weights = torch.randn(200, 300, generator=torch.Generator().manual_seed(0))
    inputs = torch.randn(50, 300, generator=torch.Generator().manual_seed(1)).split(8)
    found = []
    for device in (CPU, torch.device("cuda")):
        here = weights.to(device)

        def model(x, mask, here=here):
            assert mask is None
            return x @ here.T

        outputs = computed(model, lambda x: (x, None), inputs, Runtime(device, None), torch.float32)
        found.append(torch.cat(list(outputs)).cpu())
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)
