"""Every kernel against its plain form, gradients included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional

from macrec_core.recommender.kernels import (
    Dropout,
    add_residual,
    feed_forward,
    rms_norm,
    to_rows,
    to_slots,
)
from macrec_core.recommender.packing import lay_out

CPU = torch.device("cpu")
HALF, SINGLE, DOUBLE = torch.bfloat16, torch.float32, torch.float64


def tensors(*shapes, dtype=DOUBLE, seed=0):
    """Random leaves."""
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draws, dtype=dtype).requires_grad_() for shape in shapes]


def same(kernel, plain, inputs, **tolerance):
    """Values and gradients agree, whatever the gradient that comes back."""
    found, expected = kernel(*inputs), plain(*inputs)
    torch.testing.assert_close(found, expected, **tolerance)
    (back,) = tensors(found.shape, dtype=found.dtype, seed=9)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, back.detach()),
        torch.autograd.grad(expected, inputs, back.detach()),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, **tolerance)
        assert theirs.abs().max() > 0


def dropout(rate=0.4, seed=3):
    """The same masks at every call of this function."""
    return Dropout(rate, seed, CPU)


# ------------------------------------------------------------------------------ rows


def plain_rms_norm(state, weight):
    return state / (state.square().mean(dim=1, keepdim=True) + 1e-6).sqrt() * weight


def test_rms_norm():
    inputs = tensors((5, 7), (7,))
    same(lambda state, weight: rms_norm(state, weight, DOUBLE), plain_rms_norm, inputs)
    assert gradcheck(lambda state, weight: rms_norm(state, weight, DOUBLE), inputs)


def test_rms_norm_of_tiny_rows_is_held_down_by_its_epsilon():
    state, weight = torch.full((2, 4), 1e-3), torch.ones(4)
    # Mean square 1e-6, as large as the epsilon.
    torch.testing.assert_close(rms_norm(state, weight, SINGLE), torch.full((2, 4), 0.5**0.5))
    assert torch.equal(rms_norm(0 * state, weight, SINGLE), torch.zeros(2, 4))


def test_rms_norm_gives_bfloat16_and_takes_its_gradient_to_float32():
    inputs = tensors((5, 7), (7,), dtype=SINGLE)

    def plain(state, weight):
        return plain_rms_norm(state, weight).to(HALF)

    same(lambda state, weight: rms_norm(state, weight, HALF), plain, inputs, rtol=1e-5, atol=1e-5)
    found = rms_norm(*inputs, HALF)
    assert found.dtype == HALF
    gradients = torch.autograd.grad(found.sum(), inputs)
    assert [gradient.dtype for gradient in gradients] == [SINGLE, SINGLE]


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_feed_forward(rate):
    inputs = tensors((5, 4), (6, 4), (4, 6))

    def kernel(rows, first, second):
        return feed_forward(rows, first, second, dropout(rate) if rate else None)

    def plain(rows, first, second):
        mask = dropout(rate).mask(torch.Size([5, 6]), DOUBLE) / (1 - rate)
        return functional.linear(functional.linear(rows, first).relu() * mask, second)

    # 0.4 is no multiple of a 65,536th.
    same(kernel, plain, inputs, rtol=1e-4, atol=1e-6)
    assert gradcheck(kernel, inputs)


def test_feed_forward_closes_values_by_relu_and_by_dropout():
    (rows,) = tensors((64, 4))
    first, second = torch.eye(4, dtype=DOUBLE), torch.eye(4, dtype=DOUBLE)
    output = feed_forward(rows, first, second, dropout(0.5))
    kept = dropout(0.5).mask(torch.Size([64, 4]), DOUBLE)
    torch.testing.assert_close(output, 2 * rows.relu() * kept)
    (gradient,) = torch.autograd.grad(output.sum(), rows)
    torch.testing.assert_close(gradient, 2.0 * (rows > 0) * kept)


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_add_residual(rate):
    inputs = tensors((5, 4), (5, 4))

    def kernel(state, branch):
        return add_residual(state, branch, dropout(rate) if rate else None)

    def plain(state, branch):
        return state + branch * (dropout(rate).mask(branch.shape, DOUBLE) / (1 - rate))

    same(kernel, plain, inputs, rtol=1e-4, atol=1e-6)
    assert gradcheck(kernel, inputs)


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_the_residual_stays_in_float32_when_the_branch_is_in_bfloat16(rate):
    (state,), (branch,) = tensors((50, 4), dtype=SINGLE), tensors((50, 4), dtype=HALF, seed=1)
    added = add_residual(state, branch, dropout(rate) if rate else None)
    assert added.dtype == SINGLE
    mask = dropout(rate).mask(branch.shape, SINGLE)
    # Not rounded to bfloat16 on the way: that would cost three digits.
    expected = state + branch.float() * mask * dropout(rate).scale
    torch.testing.assert_close(added, expected, rtol=1e-6, atol=1e-6)
    for_state, for_branch = torch.autograd.grad(added.sum(), (state, branch))
    assert torch.equal(for_state, torch.ones(50, 4))
    assert for_branch.dtype == HALF
    torch.testing.assert_close(for_branch, (mask * dropout(rate).scale).to(HALF))


# ------------------------------------------------------------------------------ slots


@pytest.mark.parametrize("lengths", [(5, 3, 3, 1), (300, 2), (1,)])
def test_rows_and_slots(lengths):
    layout = lay_out(torch.tensor(lengths), CPU)
    assert layout.index is not None
    rows, slots = tensors((len(layout.inverse), 2), (len(layout.index), 2))
    # What the network lets flow back: nothing to empty slots, nothing to rows of no sequence.
    filled = (layout.index != len(rows) - 1)[:, None]
    owned = (torch.arange(len(rows)) < layout.num_tokens)[:, None]
    same(
        lambda rows: to_slots(rows, layout) * filled,
        lambda rows: rows[layout.index] * filled,
        [rows],
    )
    same(
        lambda slots: to_rows(slots, layout) * owned,
        lambda slots: slots[layout.inverse] * owned,
        [slots],
    )
    assert int(filled.sum()) == int(owned.sum()) == sum(lengths)


def test_no_gradient_reaches_rows_of_no_sequence():
    layout = lay_out(torch.tensor([5, 3]), CPU)
    (rows,) = tensors((len(layout.inverse), 2))
    (gradient,) = torch.autograd.grad(to_slots(rows, layout).sum(), rows)
    assert torch.equal(gradient[:8], torch.ones(8, 2, dtype=DOUBLE))
    assert not gradient[8:].any()


# ------------------------------------------------------------------------------ dropout

SHAPE, MANY = torch.Size([1000, 203]), 203_000


@pytest.mark.parametrize("dtype", [SINGLE, HALF])
@pytest.mark.parametrize("rate", [0.1, 1 / 3, 0.5, 0.9])
def test_dropout_closes_its_share_and_keeps_the_mean(rate, dtype):
    stream = Dropout(rate, 11, CPU)
    mask = stream.mask(SHAPE, dtype)
    assert mask.dtype == dtype
    assert mask.shape == SHAPE
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    deviation = (rate * (1 - rate) / MANY) ** 0.5
    assert float((mask == 0).double().mean()) == pytest.approx(rate, abs=5 * deviation)
    applied = stream.apply(torch.ones(SHAPE, dtype=dtype))
    # In bfloat16 the scale itself is rounded to 2 ** -9, as in torch's own dropout.
    rounded = 0.0 if dtype == SINGLE else 2**-8
    bound = 5 * deviation / (1 - rate) + rounded
    assert float(applied.double().mean()) == pytest.approx(1.0, abs=bound)


def test_dropout_leaves_no_pattern():
    mask = Dropout(0.5, 2, CPU).mask(SHAPE, DOUBLE).flatten() * 2 - 1
    # Four values share a random word: neighbours and places in it must not know of each other.
    for distance in (1, 2, 3, 4, 203):
        products = mask[distance:] * mask[:-distance]
        assert abs(float(products.mean())) < 5 * MANY**-0.5, distance
    for place in range(4):
        assert abs(float(mask[place::4].mean())) < 5 * (MANY / 4) ** -0.5, place


@pytest.mark.parametrize("rate", [0.1, 0.25, 1 / 3, 0.99999])
def test_the_rate_is_rounded_to_a_65536th_and_scaled_accordingly(rate):
    closed = round(rate * 65536)
    scale = Dropout(rate, 0, CPU).scale
    assert scale * (1 - closed / 65536) == pytest.approx(1.0, rel=1e-12)
    # Every 16-bit pattern once: exactly so many of them are closed.
    stream = Dropout(rate, 0, CPU)
    words = np.arange(65536, dtype=np.uint16).view(np.uint64)
    stream._bits = type("Counting", (), {"random_raw": lambda self, count: words[:count]})()
    assert int((stream.mask(torch.Size([65536]), SINGLE) == 0).sum()) == closed


def test_a_rate_of_zero_closes_nothing():
    stream = Dropout(0.0, 1, CPU)
    assert stream.scale == 1.0
    assert stream.mask(SHAPE, SINGLE).all()


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5])
def test_masks_of_any_size(size):
    mask = Dropout(0.5, 1, CPU).mask(torch.Size([size, 1]), SINGLE)
    assert mask.shape == (size, 1)


def test_masks_are_a_function_of_seed_and_call():
    def masks(seed):
        stream = Dropout(0.5, seed, CPU)
        return [stream.mask(torch.Size([40]), SINGLE).tolist() for _ in range(3)]

    np.random.seed(0)  # noqa: NPY002 - neither NumPy's nor torch's global stream matters
    torch.manual_seed(0)
    first = masks(7)
    assert first == masks(7)
    assert len({*map(tuple, first)}) == 3
    assert not {*map(tuple, first)} & {*map(tuple, masks(8))}


def test_dropout_in_the_network_scales_what_stays():
    stream, values = Dropout(0.25, 1, CPU), torch.full((200,), 3.0)
    found = stream.apply(values)
    expected = Dropout(0.25, 1, CPU).mask(values.shape, SINGLE) * 4
    torch.testing.assert_close(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_dropout_on_a_gpu_closes_its_share_by_its_seed():
    gpu = torch.device("cuda")
    first, again = (Dropout(0.1, 4, gpu).mask(SHAPE, SINGLE) for _ in range(2))
    assert torch.equal(first, again)
    assert float((first == 0).double().mean()) == pytest.approx(0.1, abs=0.005)
