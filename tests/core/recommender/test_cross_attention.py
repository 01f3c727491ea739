"""Both orders of the products give the same attention, and the cheaper one is taken."""

from __future__ import annotations

import pytest
import torch

from macrec_core.recommender import t5
from macrec_core.recommender.cross_attention import (
    EncoderRows,
    encoder_rows,
    keys_values,
    rows_are_cheaper,
)
from macrec_core.recommender.kernels import Dropout, to_slots
from macrec_core.recommender.packing import lay_out

CPU = torch.device("cpu")
HEADS, WIDTH, D = 3, 4, 10


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers every time."""
    torch.manual_seed(0)


class Weights:
    """Of one layer."""

    def __init__(self, seed, dtype=torch.float64):
        draws = torch.Generator().manual_seed(seed)
        inner = HEADS * WIDTH
        self.cross_q, self.cross_kv, self.cross_out = (
            (torch.randn(shape, generator=draws, dtype=dtype) / 3).requires_grad_()
            for shape in ((inner, D), (2 * inner, D), (D, inner))
        )

    def all(self):
        return [self.cross_q, self.cross_kv, self.cross_out]


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("lengths", [(7, 7, 4, 1), (4,) * 64])
@pytest.mark.parametrize(("dtype", "share"), [(torch.float64, 1e-4), (torch.bfloat16, 0.04)])
def test_both_orders_agree_forwards_and_backwards(lengths, places, dtype, share):
    layout = lay_out(torch.tensor(lengths), CPU)
    rows = sum(lengths) if layout.inverse is None else len(layout.inverse)
    draws = torch.Generator().manual_seed(1)
    encoded = torch.randn(rows, D, generator=draws, dtype=dtype).requires_grad_()
    queries = torch.randn(len(lengths) * places, D, generator=draws, dtype=dtype)
    queries.requires_grad_()
    back = torch.randn(queries.shape, generator=draws, dtype=dtype)
    layers = [Weights(2, dtype), Weights(3, dtype)]
    results = []
    for form in (keys_values, encoder_rows):
        found = [
            layer.attend(queries, places, None) for layer in form(layers, encoded, layout, HEADS)
        ]
        trained = [encoded, queries, *layers[0].all(), *layers[1].all()]
        results.append((found, torch.autograd.grad(found[0] + 2 * found[1], trained, back)))
    # The softmax is float32.
    for ours, theirs in zip(*results, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert other.abs().max() > 0
            assert one.dtype == dtype
            bound = share * float(other.detach().abs().max())
            torch.testing.assert_close(one, other, rtol=0, atol=bound)


def test_attention_is_that_of_every_sequence_by_itself():
    lengths, places = (5, 2, 1), 2
    layout = lay_out(torch.tensor(lengths), CPU)
    encoded = torch.randn(len(layout.inverse), D, dtype=torch.float64)
    queries = torch.randn(len(lengths) * places, D, dtype=torch.float64)
    weights = Weights(5)
    (found,) = encoder_rows([weights], encoded, layout, HEADS)
    mixed = found.attend(queries, places, None)
    query, key, value = (
        weight.detach().view(HEADS, WIDTH, D)
        for weight in (weights.cross_q, *weights.cross_kv.chunk(2))
    )
    first = 0
    for place, length in enumerate(lengths):
        own = encoded[first : first + length]
        first += length
        for row in range(place * places, (place + 1) * places):
            heads = []
            for head in range(HEADS):
                scores = (own @ key[head].T) @ (query[head] @ queries[row])
                heads.append(scores.softmax(0) @ (own @ value[head].T))
            expected = weights.cross_out.detach() @ torch.cat(heads)
            torch.testing.assert_close(mixed[row].detach(), expected, rtol=1e-4, atol=1e-5)


def test_dropout_closes_weights_of_the_rows():
    layout = lay_out(torch.tensor([6] * 50), CPU)
    encoded = torch.ones(len(layout.inverse), D, dtype=torch.float64)
    (found,) = encoder_rows([Weights(5)], encoded, layout, HEADS)
    queries = torch.randn(100, D, dtype=torch.float64)
    whole = found.attend(queries, 2, None).detach()
    some = found.attend(queries, 2, Dropout(0.5, 1, CPU)).detach()
    assert not torch.allclose(some, whole)
    # All rows are the same: what comes out is the share of the weights kept, one in the mean.
    torch.testing.assert_close(some.mean(dim=0), whole.mean(dim=0), rtol=0.2, atol=0.05)


@pytest.mark.parametrize(
    ("length", "places", "d_model", "d_kv", "rows"),
    [
        (22, 5, 128, 64, True),  # the paper's training
        (22, 81, 128, 64, False),  # its decoding, were each beam's token a place
        (22, 5, 512, 64, False),  # T5-small
        (9, 5, 64, 16, False),  # the sample
        (22, 5, 64, 64, True),
        (1, 5, 64, 64, False),  # multiplying the weights costs more than twelve keys
    ],
)
def test_the_cheaper_order(length, places, d_model, d_kv, rows):
    layout = lay_out(torch.tensor([length] * 12), CPU)
    assert rows_are_cheaper(layout, places, d_model, d_kv) is rows


def test_the_network_takes_the_cheaper_order(make_t5, pack, monkeypatch):
    asked = []

    def watched(self, *arguments):
        asked.append(self.num_heads)
        return attend(self, *arguments)

    attend = EncoderRows.attend
    monkeypatch.setattr(EncoderRows, "attend", watched)
    tokens = torch.randint(2, 50, (3, 20))
    packed = pack(tokens, torch.ones_like(tokens).bool())
    for d_kv in (4, 32):
        model = make_t5(50, num_layers=1, num_heads=2, d_model=32, d_kv=d_kv)
        logits = model.decode(model.encode(packed), tokens[:, :4])
        assert len(asked) == (d_kv == 32)
        monkeypatch.setattr(t5, "rows_are_cheaper", lambda *_, d_kv=d_kv: d_kv == 4)
        again = model.decode(model.encode(packed), tokens[:, :4])
        monkeypatch.setattr(t5, "rows_are_cheaper", rows_are_cheaper)
        asked.clear()
        bound = 1e-4 * float(again.detach().abs().max())
        torch.testing.assert_close(logits, again, rtol=0, atol=bound)


def test_slots_of_the_encoder_rows_are_views_of_one_tensor():
    layout = lay_out(torch.tensor([3, 3]), CPU)
    encoded = torch.randn(len(layout.inverse), D)
    first, second = encoder_rows([Weights(1), Weights(2)], encoded, layout, HEADS)
    assert first.chunks is second.chunks
    ((rows, mask),) = first.chunks
    assert mask is None
    assert torch.equal(rows.flatten(end_dim=2), to_slots(encoded, layout)[:6])
