from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from macrec_core.baselines.saved import load_model, load_spec, save_model
from macrec_core.baselines.transformer import Block, Shape, causal, initialise
from macrec_core.errors import MacrecError

from .conftest import NAMES, NUM_ITEMS, batch_of

pytestmark = pytest.mark.usefixtures("no_gradient")
every_model = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def no_gradient():
    with torch.no_grad():
        yield


HISTORIES = [[3], [1, 4, 1, 5], [2, 6, 5, 3, 5, 8], [9, 7]]
TARGETS = [0, 11, 29, 7]


@every_model
def test_what_stands_beside_a_history_changes_nothing(make_model, name):
    model = make_model(name, scale=5.0)
    together = model.scores(batch_of(HISTORIES, TARGETS))
    assert together.shape == (4, NUM_ITEMS)
    for row, history in enumerate(HISTORIES):
        alone = model.scores(batch_of([history], [TARGETS[row]]))
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-5)
    assert together.std() > 0.05


@every_model
def test_a_history_is_scored_without_a_look_at_its_target(make_model, name):
    model = make_model(name, scale=5.0)
    expected = model.scores(batch_of(HISTORIES, TARGETS))
    found = model.scores(batch_of(HISTORIES, [5, 5, 5, 5]))
    assert torch.equal(found, expected)


@every_model
def test_order_counts_and_so_does_every_item(make_model, name):
    model = make_model(name, scale=5.0)
    base = model.scores(batch_of([[1, 2, 3, 4]], [0]))
    for other in ([4, 3, 2, 1], [9, 2, 3, 4], [1, 2, 3, 9]):
        assert not torch.allclose(model.scores(batch_of([other], [0])), base, atol=1e-4)


@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "narm", "stamp"])
def test_the_loss_is_the_cross_entropy_of_all_items_by_hand(make_model, name):
    model = make_model(name, scale=5.0)
    batch = batch_of(HISTORIES, TARGETS)
    scores = (model.represent(batch) @ model.items.weight[:NUM_ITEMS].T).double()
    expected = sum(
        float(torch.logsumexp(row, 0) - row[target])
        for row, target in zip(scores, TARGETS, strict=True)
    )
    assert float(model.loss(batch, torch.Generator())) == pytest.approx(expected, rel=1e-5)


def test_a_block_is_torchs_post_norm_encoder_layer():
    block = Block(Shape(10, 16, 1, 24, 0.0, 6), 4)
    initialise(block, torch.Generator().manual_seed(0))
    for weights in block.parameters():
        weights.data += 0.3 * torch.randn_like(weights)
    other = nn.TransformerEncoderLayer(
        16, 4, 24, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True
    )
    other.self_attn.in_proj_weight.copy_(block.qkv.weight)
    other.self_attn.in_proj_bias.copy_(block.qkv.bias)
    other.self_attn.out_proj.load_state_dict(block.out.state_dict())
    other.linear1.load_state_dict(block.inner.state_dict())
    other.linear2.load_state_dict(block.outer.state_dict())
    other.norm1.load_state_dict(block.attention_norm.state_dict())
    other.norm2.load_state_dict(block.norm.state_dict())
    states = torch.randn(3, 5, 16)
    closed = causal(5, states.device)
    expected = other(states, src_mask=closed[0, 0])
    torch.testing.assert_close(block(states, closed), expected, rtol=1e-4, atol=1e-5)


def test_a_place_of_sasrec_sees_nothing_that_comes_later(make_model):
    model = make_model("sasrec", scale=5.0)
    first, second = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 9, 8]])
    closed = causal(4, first.device)
    a, b = (model.transformer(model.items(items), closed) for items in (first, second))
    torch.testing.assert_close(a[:, :2], b[:, :2])
    assert not torch.allclose(a[:, 2:], b[:, 2:], atol=1e-3)


def test_initial_weights_are_normal_biases_zero_and_norms_one(make_model):
    model = make_model("sasrec", num_items=500)
    named = dict(model.named_parameters())
    assert named["items.weight"].std() == pytest.approx(0.02, rel=0.05)
    for name, weights in named.items():
        if name.endswith("norm.weight"):
            assert (weights == 1).all(), name
        elif name.endswith("bias"):
            assert (weights == 0).all(), name
    recurrent = dict(make_model("gru4rec").named_parameters())
    assert (recurrent["network.bias_hh_l0"] == 0).all()
    # Glorot's: uniform up to sqrt(6 / (rows + columns)).
    limit = (6 / (3 * 32 + 32)) ** 0.5
    assert 0.9 * limit < recurrent["network.weight_hh_l0"].abs().max() <= limit


def test_narm_starts_from_glorots_weights_and_stamp_from_its_papers(make_model):
    named = dict(make_model("narm", num_items=500).named_parameters())
    for name, weights in named.items():
        if "bias" in name:
            assert (weights == 0).all(), name
        else:
            limit = (6 / sum(weights.shape)) ** 0.5
            assert 0.85 * limit < weights.abs().max() <= limit, name
    named = dict(make_model("stamp", num_items=500, hidden_size=64).named_parameters())
    for name, weights in named.items():
        if name.endswith("bias"):
            assert (weights == 0).all(), name
        elif name != "importance.weight":  # a row of 64
            expected = 0.002 if name == "items.weight" else 0.05
            assert weights.std() == pytest.approx(expected, rel=0.05), name


# --------------------------------------------------------------------------------- BERT4Rec


def test_masks_lie_in_the_sequence_and_none_is_without(make_model):
    model = make_model("bert4rec")
    model.last_item_ratio = 0.0
    lengths = torch.tensor([1, 2, 5, 9] * 500)
    masked = model.draw_masks(lengths, 9, torch.Generator().manual_seed(0))
    assert not masked[torch.arange(9) >= lengths[:, None]].any()
    assert masked.any(dim=1).all()
    # A fifth of nine items, and where chance masks nothing (0.8 ** 9), the last one.
    assert masked[lengths == 9].float().mean() == pytest.approx(0.2 + 0.8**9 / 9, abs=0.02)
    # A single item is always masked.
    assert masked[lengths == 1, 0].all()
    assert masked[lengths == 2, 1].float().mean() == pytest.approx(0.2 + 0.8 * 0.8, abs=0.05)


def test_a_share_of_the_examples_masks_the_last_item_alone(make_model):
    model = make_model("bert4rec")  # a quarter
    lengths = torch.tensor([3, 20] * 2000)
    masked = model.draw_masks(lengths, 20, torch.Generator().manual_seed(1))
    last = torch.zeros_like(masked).scatter(1, lengths[:, None] - 1, True)
    alone = (masked == last).all(dim=1)
    # Of twenty items that the others mask, the last one alone is drawn one time in 300.
    assert alone[lengths == 20].float().mean() == pytest.approx(0.25 + 0.75 * 0.0144, abs=0.03)


def test_the_loss_of_masked_items_by_hand(make_model, monkeypatch):
    model = make_model("bert4rec", scale=5.0)
    model.item_bias.normal_()
    # Items 2 and 3 of the first sequence are masked, and the target of the second.
    masks = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0]], dtype=torch.bool)
    monkeypatch.setattr(model, "draw_masks", lambda *_: masks)
    batch = batch_of([[1, 4, 6], [9]], [5, 7])

    def log_prob(sequence, place, item):
        items = torch.tensor([sequence])
        states = model._states(items, torch.tensor([len(sequence)]))
        scores = states[0, place] @ model.items.weight[:NUM_ITEMS].T + model.item_bias
        return float(scores.log_softmax(0)[item])

    mask = NUM_ITEMS + 1
    first = [log_prob([1, mask, mask, 5], 1, 4), log_prob([1, mask, mask, 5], 2, 6)]
    expected = -(sum(first) / 2 + log_prob([9, mask], 1, 7))
    assert float(model.loss(batch, torch.Generator())) == pytest.approx(expected, rel=1e-4)


def test_bert4rec_recommends_what_it_guesses_behind_a_mask(make_model):
    model = make_model("bert4rec", scale=5.0)
    model.item_bias.normal_()
    sequence = torch.tensor([[1, 4, 6, NUM_ITEMS + 1]])
    state = model._states(sequence, torch.tensor([4]))[0, 3]
    expected = state @ model.items.weight[:NUM_ITEMS].T + model.item_bias
    found = model.scores(batch_of([[1, 4, 6], [2]], [0, 0]))[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------- on disk


@every_model
def test_a_saved_model_is_read_back(make_model, make_features, spec_of, tiny, tmp_path, name):
    model = make_model(name, scale=3.0)
    save_model(tmp_path, model, spec_of(name), tiny)
    assert load_spec(tmp_path) == (spec_of(name), tiny)
    found = load_model(tmp_path, make_features())
    assert type(found) is type(model)
    batch = batch_of(HISTORIES, TARGETS)
    assert torch.equal(found.scores(batch), model.scores(batch))
    assert not found.training


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "sizes"])
def test_a_damaged_model_is_an_error_with_the_remedy(
    make_model, make_features, spec_of, tiny, tmp_path, damage
):
    save_model(tmp_path, make_model("sasrec"), spec_of("sasrec"), tiny)
    if damage == "sizes":
        text = (tmp_path / "config.json").read_text()
        (tmp_path / "config.json").write_text(text.replace('"hidden_size": 16', '"hidden_size": 8'))
    else:
        (tmp_path / damage).write_bytes(b"nothing")
    with pytest.raises(MacrecError, match=r"is no sequence model .* run train_baseline again"):
        load_model(tmp_path, make_features())


@every_model
def test_weights_are_a_function_of_the_seed(make_model, name):
    first, same, other = (make_model(name, seed=seed) for seed in (1, 1, 2))
    for (label, a), b, c in zip(
        first.named_parameters(), same.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        assert not torch.equal(a, c) or np.ptp(a.detach().numpy()) == 0, label
