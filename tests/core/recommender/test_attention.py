"""Attention and the forms it takes its inputs in, against plain forms, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional

from macrec_core.recommender.attention import attention, merge_heads, split_heads
from macrec_core.recommender.kernels import Dropout

CPU = torch.device("cpu")
HALF, SINGLE, DOUBLE = torch.bfloat16, torch.float32, torch.float64


def tensors(*shapes, dtype=DOUBLE, seed=0):
    """Random leaves."""
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draws, dtype=dtype).requires_grad_() for shape in shapes]


def dropout(rate=0.4, seed=3):
    """The same masks at every call of this function."""
    return Dropout(rate, seed, CPU)


@pytest.mark.parametrize(
    ("size", "parts", "heads"),
    # Some parts are views of the rows rather than copies.
    [((2, 3), 3, 2), ((2, 3), 1, 1), ((6, 1), 1, 2), ((1, 6), 2, 1), ((2, 3), 4, 3)],
)
def test_split_heads(size, parts, heads):
    batch, length = size
    width = 2
    (rows,) = tensors((batch * length, parts * heads * width))
    found = split_heads(rows, size, parts, heads)
    assert len(found) == parts
    for place, part in enumerate(found):
        assert part.is_contiguous()
        for head in range(heads):
            first = (place * heads + head) * width
            expected = rows[:, first : first + width].view(batch, length, width)
            assert torch.equal(part[:, head], expected)
    assert gradcheck(lambda rows: split_heads(rows, size, parts, heads), [rows])


def test_a_part_that_nothing_depends_on_gets_no_gradient():
    (rows,) = tensors((6, 8))
    (gradient,) = torch.autograd.grad(split_heads(rows, (2, 3), 2, 2)[1].sum(), rows)
    assert gradient.tolist() == [[0.0] * 4 + [1.0] * 4] * 6


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_attention(biased, masked, rate):
    users, heads, places, slots, width = 3, 2, 4, 5, 6
    inputs = tensors(
        (users, heads, places, width),
        (users, heads, slots, width),
        (users, heads, slots, width),
        (heads, places, slots),
        dtype=SINGLE,
    )
    mask = torch.arange(slots) < torch.tensor([5, 1, 3])[:, None] if masked else None

    def kernel(queries, keys, values, bias):
        drop = dropout(rate) if rate else None
        return attention(queries, keys, values, bias if biased else None, mask, drop)

    def plain(queries, keys, values, bias):
        scores = torch.einsum("uhtw,uhsw->uhts", queries, keys) + (bias if biased else 0.0)
        weights = scores.exp()
        if mask is not None:
            weights = weights * mask[:, None, None, :]
        weights = weights / weights.sum(dim=-1, keepdim=True)
        weights = weights * dropout(rate).mask(weights.shape, SINGLE) / (1 - rate)
        return merge_heads(torch.einsum("uhts,uhsw->uhtw", weights, values))

    found, expected = kernel(*inputs), plain(*inputs)
    assert found.shape == (users * places, heads * width)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    trained = inputs if biased else inputs[:3]
    (back,) = tensors(found.shape, dtype=SINGLE, seed=9)
    for ours, theirs in zip(
        torch.autograd.grad(found, trained, back.detach()),
        torch.autograd.grad(expected, trained, back.detach()),
        strict=True,
    ):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    if not rate:
        queries, keys, values, bias = inputs
        bias = bias if biased else torch.zeros_like(bias)
        closed = bias if mask is None else bias.masked_fill(~mask[:, None, None], -torch.inf)
        stock = functional.scaled_dot_product_attention(
            queries, keys, values, closed.broadcast_to(users, -1, -1, -1), scale=1.0
        )
        torch.testing.assert_close(found, merge_heads(stock), rtol=1e-4, atol=1e-5)


def test_inputs_stay_as_they_were():
    inputs = tensors(*[(2, 2, 3, 4)] * 3, (2, 3, 3), dtype=SINGLE)
    before = [tensor.detach().clone() for tensor in inputs]
    mask = torch.tensor([[True, True, False], [True, True, True]])
    attention(*inputs, mask, dropout()).sum().backward()
    assert all(torch.equal(*pair) for pair in zip(inputs, before, strict=True))


def test_attention_does_not_see_what_stands_in_an_empty_slot():
    queries, keys, values = tensors(*[(1, 1, 3, 2)] * 3, dtype=SINGLE)
    mask = torch.tensor([[True, True, False]])
    expected = attention(queries, keys[:, :, :2], values[:, :, :2], None, None, None)
    loud = [tensor.detach().clone() for tensor in (keys, values)]
    for tensor in loud:
        tensor[:, :, 2] = 1e4
    assert torch.equal(attention(queries, *loud, None, mask, None), expected)


def test_attention_in_bfloat16_adds_its_bias_in_float32():
    # Scores of 40 or so: bfloat16 tells them apart by quarters, the bias by less.
    queries, keys, values = tensors(*[(2, 1, 3, 4)] * 3, dtype=HALF)
    queries, keys = ((4 * tensor).round() for tensor in (queries.detach(), keys.detach()))
    bias = torch.linspace(40, 40.3, 9).view(1, 3, 3)
    found = attention(queries, keys, values, bias, None, None)
    assert found.dtype == HALF
    expected = attention(queries.float(), keys.float(), values.float(), bias, None, None)
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.01)


def test_gradients_in_bfloat16_are_near_those_in_float32():
    inputs = tensors(*[(3, 2, 6, 8)] * 3, (2, 6, 6), dtype=SINGLE)
    mask = torch.arange(6) < torch.tensor([6, 2, 4])[:, None]
    (back,) = tensors((18, 16), dtype=SINGLE, seed=9)
    gradients = []
    for dtype in (HALF, SINGLE):
        # The same numbers, those that bfloat16 has.
        queries, keys, values = (tensor.detach().to(HALF).to(dtype) for tensor in inputs[:3])
        leaves = [t.requires_grad_() for t in (queries, keys, values, inputs[3].detach().clone())]
        found = attention(*leaves, mask, dropout())
        gradients.append(torch.autograd.grad(found, leaves, back.detach().to(dtype)))
    for ours, theirs in zip(*gradients, strict=True):
        bound = 0.03 * float(theirs.abs().max())
        torch.testing.assert_close(ours.float(), theirs, rtol=0, atol=bound)
