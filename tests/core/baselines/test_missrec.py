from __future__ import annotations

import pytest
import torch
from torch import nn

from macrec_core.baselines.missrec import InterestDecoderBlock, _standardized
from macrec_core.baselines.training import train_sequence_model
from macrec_core.baselines.transformer import Shape, initialise
from macrec_core.checkpoints import Checkpoints
from macrec_core.progress import Silent
from macrec_core.runtime import Runtime

from .conftest import NUM_ITEMS, batch_of

CPU = Runtime(torch.device("cpu"), None)


@torch.no_grad()
@pytest.mark.parametrize("item_ids", [True, False])
def test_candidates_are_fused_by_their_likeness_to_the_user_by_hand(make_model, item_ids):
    model = make_model("missrec", scale=3.0, spec={"item_ids": item_ids})
    model.fusion.fill_(2.0)
    user = torch.nn.functional.normalize(torch.randn(1, 16), dim=1)
    text, image = torch.randn(2, NUM_ITEMS, 16)
    found = model._fused(user, [text, image])[0]
    for item in (0, 7):
        cosines = torch.stack([torch.cosine_similarity(user[0], v[item], 0) for v in (text, image)])
        weights = (2.0 * cosines).exp()
        score = float((weights / weights.sum() * cosines).sum())
        if item_ids:
            own = torch.cosine_similarity(user[0], model.items.weight[item], 0)
            score = (float(own) + 2 * score) / 3
        assert float(found[item]) == pytest.approx(score / 0.07, rel=1e-4, abs=1e-4)


@torch.no_grad()
def test_interests_are_clusters_of_all_modalities_vectors_together(make_model):
    model = make_model("missrec", spec={"interest_ratio": 1.0})
    # As many interests as vectors: each vector is its own.
    assert model.num_interests == 2 * NUM_ITEMS
    torch.testing.assert_close(
        model.interests[model.interest_of[:, :-1]], torch.stack(model.adapted())
    )
    assert (model.interest_of[:, -1] == 2 * NUM_ITEMS).all()  # the padding
    assert model.facts() == {"interests": 60}


@torch.no_grad()
def test_an_interest_counts_once_in_a_history(make_model):
    model = make_model("missrec")
    model.interest_of[:] = 15  # none
    model.interest_of[:, :4] = torch.tensor([[3, 1, 3, 0], [1, 5, 1, 2]])
    found, counted = model._interests(batch_of([[0, 1, 2], [3]], [0, 0]).items)
    assert counted.shape == (2, 6)
    kept = [rows[mask] for rows, mask in zip(found, counted, strict=True)]
    torch.testing.assert_close(kept[0], model.interests[[1, 3, 5]])
    torch.testing.assert_close(kept[1], model.interests[[0, 2]])


@torch.no_grad()
def test_repeated_interests_are_as_if_left_out(make_model):
    model = make_model("missrec", scale=3.0)
    batch = batch_of([[0, 1, 2]], [0])
    model.interest_of[:, :3] = torch.tensor([[4, 4, 4], [6, 4, 6]])
    with_repeats = model._decoded(batch, model.adapted())
    model.interest_of[:, :3] = torch.tensor([[4, 15, 15], [6, 15, 15]])
    without = model._decoded(batch, model.adapted())
    for found, expected in zip(with_repeats, without, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert float(with_repeats[0].norm()) == pytest.approx(1)
    model.interest_of[:, :3] = torch.tensor([[5, 15, 15], [6, 15, 15]])
    assert not torch.allclose(model._decoded(batch, model.adapted())[0], without[0], atol=1e-3)


@torch.no_grad()
def test_the_loss_by_hand(make_model):
    model = make_model("missrec", scale=3.0, spec={"orthogonality": 0.5})
    batch = batch_of([[1, 4, 6], [9]], [5, 7])
    logs = model.scores(batch).log_softmax(dim=1)
    pooled = model._decoded(batch, model.adapted())[1]
    expected = -logs[0, 5] - logs[1, 7] + 0.5 * pooled.square().sum() / 16
    assert float(model.loss(batch, torch.Generator())) == pytest.approx(float(expected), rel=1e-5)
    assert float(pooled.square().sum()) > 0.1


@torch.no_grad()
def test_the_pooled_interests_are_the_mean_of_the_encoders_states(make_model):
    model = make_model("missrec", scale=3.0)
    model.interest_of[:, 0] = torch.tensor([2, 3])
    memory = model.interests[[2, 3]][None]
    for block in model.encoder:
        memory = block(memory, torch.zeros(1, 1, 1, 2, dtype=torch.bool))
    pooled = model._decoded(batch_of([[0]], [0]), model.adapted())[1]
    torch.testing.assert_close(pooled[0], memory[0].mean(dim=0), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_decoder_block_is_torchs_post_norm_decoder_layer():
    block = InterestDecoderBlock(Shape(10, 16, 1, 24, 0.0, 6), 4)
    initialise(block, torch.Generator().manual_seed(0))
    for weights in block.parameters():
        weights.data += 0.3 * torch.randn_like(weights)
    other = nn.TransformerDecoderLayer(
        16, 4, 24, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True
    )
    own, cross = block.block, other.multihead_attn
    other.self_attn.in_proj_weight.copy_(own.qkv.weight)
    other.self_attn.in_proj_bias.copy_(own.qkv.bias)
    other.self_attn.out_proj.load_state_dict(own.out.state_dict())
    cross.in_proj_weight.copy_(torch.cat([block.query.weight, block.key_value.weight]))
    cross.in_proj_bias.copy_(torch.cat([block.query.bias, block.key_value.bias]))
    cross.out_proj.load_state_dict(block.out.state_dict())
    other.linear1.load_state_dict(own.inner.state_dict())
    other.linear2.load_state_dict(own.outer.state_dict())
    other.norm1.load_state_dict(own.attention_norm.state_dict())
    other.norm2.load_state_dict(block.cross_norm.state_dict())
    other.norm3.load_state_dict(own.norm.state_dict())
    states, memory = torch.randn(3, 5, 16), torch.randn(3, 4, 16)
    closed = torch.arange(5) >= torch.tensor([[5], [2], [1]])
    none = torch.arange(4) >= torch.tensor([[1], [4], [3]])
    expected = other(states, memory, tgt_key_padding_mask=closed, memory_key_padding_mask=none)
    found = block(states, closed[:, None, None], memory, none[:, None, None])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_vectors_are_centred_and_of_mean_variance_one():
    vectors = 5 + torch.randn(40, 6) * torch.arange(1, 7)
    found = _standardized(vectors, "unit_variance")
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
    assert float(found.var(dim=0, unbiased=False).mean()) == pytest.approx(1, rel=1e-4)
    # One factor for all features.
    ratio = found.var(dim=0) / vectors.var(dim=0)
    torch.testing.assert_close(ratio, ratio[:1].expand(6))
    assert torch.equal(_standardized(vectors, "none"), vectors)
    assert (_standardized(torch.ones(3, 2), "unit_variance") == 0).all()


def test_interests_are_found_again_before_each_epoch_and_kept_with_the_weights(
    make_model, toy, tiny, tmp_path
):
    model = make_model("missrec")
    first = model.interests.clone()
    params = tiny.model_copy(update={"max_epochs": 1})
    trained = train_sequence_model(
        model, toy[0], toy[1], params, 0, CPU, Checkpoints(tmp_path, 1e9), Silent()
    ).model
    assert not torch.equal(trained.interests, first)
    assert {"interests", "interest_of"} <= set(trained.state_dict())
    assert not any(name.startswith("vectors") for name in trained.state_dict())


@pytest.mark.parametrize(
    ("name", "spec", "solves"),
    [("missrec", {}, True), ("missrec", {"item_ids": False}, True), ("sasrec", {}, False)],
)
def test_new_items_are_understood_by_their_vectors(
    make_model, content, tiny, tmp_path, name, spec, solves
):
    params = tiny.model_copy(update={"learning_rate": 0.01, "max_epochs": 8, "patience": 8})
    model = make_model(name, features=content.features, spec=spec)
    trained = train_sequence_model(
        model, content.train, content.validation, params, 0, CPU, Checkpoints(tmp_path, 1e9),
        Silent(),
    )  # fmt: skip
    share = content.share_right(trained.model)
    assert share >= 0.9 if solves else share <= 0.5
