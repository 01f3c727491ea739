from __future__ import annotations

import copy

import pytest
import torch

from macrec_core.recommender.decoding import beam_search, prepare
from macrec_core.recommender.frozen import PackedWeight, freeze
from macrec_core.recommender.losses import next_token_loss
from macrec_core.recommender.trie import build_trie

WORDS = 40
on_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


@pytest.fixture
def source(pack):
    torch.set_num_threads(1)
    draws = torch.Generator().manual_seed(2)
    mask = torch.arange(25) < torch.tensor([25, 1, 14, 3, 9])[:, None]
    return pack(torch.randint(2, WORDS, mask.shape, generator=draws) * mask, mask)


TARGET = torch.tensor([[7, 8, 1], [5, 12, 1], [3, 3, 1], [2, 39, 1], [9, 9, 1]])


@torch.no_grad()
def logits(model, source):
    return model.decode(model.encode(source), TARGET)


@on_onednn
def test_a_frozen_model_computes_the_same(make_t5, source):
    model = make_t5(WORDS, scale=1.5, num_layers=3)
    frozen = freeze(model)
    expected = logits(model, source)
    torch.testing.assert_close(logits(frozen, source), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.5
    # All of what is multiplied is packed, but the cross-attention's keys and values: one product.
    packed = sum(isinstance(module, PackedWeight) for module in frozen.modules())
    assert packed == 3 * 4 + 3 * 6 + 1


@on_onednn
def test_the_frozen_weights_are_the_ones_that_count(make_t5, source):
    model = make_t5(WORDS, scale=1.5)
    frozen = freeze(model)
    expected = logits(frozen, source)
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
    assert torch.equal(logits(frozen, source), expected)
    assert not torch.allclose(logits(model, source), expected)


@on_onednn
def test_the_given_model_is_as_it_was_and_can_be_trained_on(make_t5, source):
    model = make_t5(WORDS, scale=1.0)
    before = copy.deepcopy(model.state_dict())
    names = [name for name, _ in model.named_parameters()]
    frozen = freeze(model)
    logits(frozen, source)
    assert frozen is not model
    assert [name for name, _ in model.named_parameters()] == names
    assert model.output is None
    assert all(torch.equal(model.state_dict()[name], values) for name, values in before.items())
    next_token_loss(model, source, TARGET, 0.0).backward()
    assert all(weights.grad.abs().sum() > 0 for weights in model.parameters())
    assert not any(weights.requires_grad for weights in frozen.parameters())


@on_onednn
@pytest.mark.parametrize("num_beams", [1, 20])
def test_beam_search_finds_the_same(make_t5, make_codes, source, num_beams):
    model = make_t5(WORDS, scale=2.0)
    trie, offsets = build_trie(make_codes(60, 3, 8)), 2 + 8 * torch.arange(3)
    expected, found = (
        beam_search(each, prepare(each, source), trie, offsets, num_beams)
        for each in (model, freeze(model))
    )
    assert torch.equal(found.ids, expected.ids)
    torch.testing.assert_close(found.log_probs, expected.log_probs, rtol=1e-5, atol=1e-5)


@on_onednn
@pytest.mark.parametrize("then", ["none", "relu"])
@pytest.mark.parametrize("count", [1, 2, 37])
def test_a_packed_weight_multiplies_as_the_weight_does(then, count):
    draws = torch.Generator().manual_seed(count)
    rows, weight = (torch.randn(n, 12, generator=draws) for n in (count, 5))
    expected = rows @ weight.T
    expected = expected.relu() if then == "relu" else expected
    # Transposed in memory as well: what is packed is the weight, however it lies.
    for stored in (weight, weight.T.contiguous().T):
        torch.testing.assert_close(PackedWeight(stored)(rows, then), expected)


def test_without_onednn_it_is_the_model_itself(make_t5, monkeypatch):
    model = make_t5(WORDS)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert freeze(model) is model
    assert all(weights.requires_grad for weights in model.parameters())


def test_on_another_device_it_is_the_model_itself(make_t5):
    model = make_t5(WORDS).to("meta")
    assert freeze(model) is model
