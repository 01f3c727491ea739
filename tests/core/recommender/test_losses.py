from __future__ import annotations

import math

import pytest
import torch

from macrec_core.recommender.losses import implicit_alignment_loss, next_token_loss
from macrec_core.recommender.t5 import Encoded


class LookUp:
    """A fake T5 whose encoder outputs are rows of a table."""

    def __init__(self, table):
        self.table = table

    def encode(self, source, mode):
        return Encoded(self.table[source.tokens], source.layout)


def catalogue(count=12, seed=3):
    """IDs of two modalities with tokens of their own, and the end token 1."""
    draws = torch.Generator().manual_seed(seed)
    ends = torch.ones(count, 1).long()
    return {
        "text": torch.cat([2 + torch.randint(0, 9, (count, 3), generator=draws), ends], 1),
        "image": torch.cat([11 + torch.randint(0, 9, (count, 3), generator=draws), ends], 1),
    }


@pytest.mark.parametrize("similarity", ["cosine", "inner_product"])
def test_implicit_alignment_by_hand(similarity):
    # Tokens 2-4 are the text IDs of three items, 5-7 their image IDs: pairs share a direction,
    # and the image outputs are twice as long. The end token's output is zero.
    units = torch.eye(3)
    model = LookUp(torch.cat([torch.zeros(2, 3), units, 2 * units]))
    ids = {
        "text": torch.tensor([[2, 1], [3, 1], [4, 1]]),
        "image": torch.tensor([[5, 1], [6, 1], [7, 1]]),
    }
    temperature = 0.5
    # Mean over two positions halves: inner product of a pair is 0.5 * 1, its cosine 1.
    same = (1.0 if similarity == "cosine" else 0.5) / temperature
    one_direction = -math.log(math.exp(same) / (math.exp(same) + 2))
    value = implicit_alignment_loss(model, ids, torch.tensor([0, 1, 2]), temperature, similarity)
    assert float(value) == pytest.approx(2 * one_direction, rel=1e-6)


def test_implicit_alignment_does_not_depend_on_the_order_of_items(make_t5):
    model, ids = make_t5(20, scale=1.0), catalogue()
    items = torch.arange(12)
    value = implicit_alignment_loss(model, ids, items, 0.1, "cosine")
    for seed in range(3):
        shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
        other = implicit_alignment_loss(model, ids, shuffled, 0.1, "cosine")
        torch.testing.assert_close(other, value, rtol=1e-5, atol=1e-6)


def test_implicit_alignment_of_wrong_pairs_has_another_value(make_t5):
    model, ids = make_t5(20, scale=1.0), catalogue()
    items = torch.tensor([7, 2, 9, 4, 0])
    value = float(implicit_alignment_loss(model, ids, items, 0.1, "cosine").detach())
    wrong = {**ids, "image": ids["image"].roll(1, dims=0)}
    other = float(implicit_alignment_loss(model, wrong, items, 0.1, "cosine").detach())
    assert abs(other - value) > 0.01 * value


def test_only_the_drawn_items_are_candidates():
    units = torch.eye(8)
    model = LookUp(units)
    ids = {m: torch.arange(8)[:, None] for m in ("text", "image")}
    value = implicit_alignment_loss(model, ids, torch.tensor([6, 2]), 1.0, "cosine")
    assert float(value) == pytest.approx(2 * math.log(1 + math.exp(-1)), rel=1e-6)


def test_implicit_alignment_trains_the_encoder_and_not_the_decoder(make_t5):
    model = make_t5(20, scale=1.0)
    implicit_alignment_loss(model, catalogue(), torch.arange(12), 0.1, "cosine").backward()
    for name, weights in model.encoder.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.abs().sum() > 0, name
    assert all(p.grad is None for p in model.decoder.parameters())


def test_next_token_loss_is_the_mean_over_tokens_by_hand(make_t5, hugging_face, pack):
    model = make_t5(20)
    reference = hugging_face(model)
    source = torch.tensor([[3, 9, 1], [4, 1, 0]])
    target = torch.tensor([[7, 8, 1], [5, 12, 1]])
    loss = next_token_loss(model, pack(source, source > 0), target, 0.0)
    total = 0.0
    for row in range(2):
        tokens = source[row][source[row] > 0][None]
        start = torch.tensor([[0]])
        for place in range(3):
            inputs = torch.cat([start, target[row : row + 1, :place]], dim=1)
            logits = reference(input_ids=tokens, decoder_input_ids=inputs).logits[0, -1]
            total -= float(logits.log_softmax(dim=-1)[target[row, place]].detach())
    assert float(loss.detach()) == pytest.approx(total / 6, rel=1e-5)
    smoothed = next_token_loss(model, pack(source, source > 0), target, 0.2)
    assert float(smoothed.detach()) != pytest.approx(total / 6, rel=1e-3)


def test_next_token_loss_is_the_one_that_hugging_face_computes_from_labels(
    make_t5, hugging_face, pack
):
    model = make_t5(20)
    source = torch.tensor([[3, 9, 1], [4, 1, 0]])
    target = torch.tensor([[7, 8, 1], [5, 12, 1]])
    mask = source > 0
    expected = hugging_face(model)(input_ids=source, attention_mask=mask, labels=target).loss
    found = next_token_loss(model, pack(source, mask), target, 0.0)
    torch.testing.assert_close(found, expected)
