from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from macrec_core.baselines import s3rec
from macrec_core.baselines.histories import whole_sequences
from macrec_core.baselines.segments import Segments

from .conftest import NUM_ITEMS, batch_of


@pytest.fixture
def model(make_model):
    return make_model("s3rec", scale=8.0)


def log_sigmoid(value):
    return -math.log1p(math.exp(-float(value)))


def attribute_entropy(model, query, own):
    """Binary cross-entropy of one vector over all attributes."""
    scores = [float(query @ attribute) for attribute in model.attributes.weight]
    return -sum(
        log_sigmoid(score if attribute in own else -score) for attribute, score in enumerate(scores)
    )


def contrast(query, positive, negative):
    right, wrong = (1 / (1 + math.exp(-float(query @ other))) for other in (positive, negative))
    return -log_sigmoid(right - wrong)


@torch.no_grad()
def test_attributes_of_items_and_masked_items_by_hand(model):
    # Item 4 has the attributes 4 and 7 + 1, item 5 attribute 5 alone, item 0 none: no term.
    items = torch.tensor([4, 5, 0])
    own = {4: {4, 8}, 5: {5}}
    weights = model.item_attribute.weight
    expected = sum(
        attribute_entropy(model, weights @ model.items.weight[i], own[i]) for i in (4, 5)
    )
    assert float(model.aap(items)) == pytest.approx(expected, rel=1e-4)
    states = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    weights = model.context_attribute.weight
    expected = sum(
        attribute_entropy(model, weights @ states[row], own[i]) for row, i in ((0, 4), (1, 5))
    )
    assert float(model.map(states, items)) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_contrasts_with_a_negative_by_hand(model):
    states, positive, negative = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(0))
    found = float(model.mip(states, torch.tensor([4, 7]), torch.tensor([9, 2])))
    items, weights = model.items.weight, model.context_item.weight
    expected = contrast(weights @ states[0], items[4], items[9])
    expected += contrast(weights @ states[1], items[7], items[2])
    assert found == pytest.approx(expected, rel=1e-4)
    weights = model.context_segment.weight
    expected = sum(
        contrast(weights @ c, p, n) for c, p, n in zip(states, positive, negative, strict=True)
    )
    assert float(model.sp(states, positive, negative)) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_what_pretraining_sees_and_asks_by_hand(model, monkeypatch):
    """Two sequences, [1, 4, 6, 5] and [9]; drawn by hand."""
    masks = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0]]).bool()
    negatives = torch.tensor([[0, 20, 0, 21], [22, 0, 0, 0]])
    segments = Segments(
        torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0]]).bool(),
        torch.tensor([[0, 9, 2, 0], [0, 0, 0, 0]]),
        torch.tensor([True, False]),
    )
    monkeypatch.setattr(s3rec, "draw_masks", lambda *_: masks)
    monkeypatch.setattr(s3rec, "draw_negatives", lambda *_: negatives)
    monkeypatch.setattr(s3rec, "draw_segments", lambda *_: segments)
    sequences = whole_sequences(np.array([0, 0, 0, 0, 1]), np.array([1, 4, 6, 5, 9]), NUM_ITEMS, 20)
    found = model.pretrain_losses(sequences, torch.arange(2), torch.Generator())

    def states(*items):  # looking both ways
        closed = torch.zeros(1, 1, 1, len(items), dtype=torch.bool)
        return model.transformer(model.items(torch.tensor([items])), closed)[0]

    mask = NUM_ITEMS + 1
    first, second = states(1, mask, 6, mask), states(mask)
    masked, held = torch.stack([first[1], first[3], second[0]]), torch.tensor([4, 5, 9])
    expected = {
        "aap": model.aap(torch.tensor([1, 4, 6, 5, 9])),
        "mip": model.mip(masked, held, torch.tensor([20, 21, 22])),
        "map": model.map(masked, held),
        # The sequence of one item has no segment.
        "sp": model.sp(
            states(1, mask, mask, 5)[-1:], states(mask, 4, 6, mask)[-1:],
            states(mask, 9, 2, mask)[-1:],
        ),
    }  # fmt: skip
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-4), name
    total = 0.2 * expected["aap"] + expected["mip"] + expected["map"] + 0.5 * expected["sp"]
    assert float(found["loss"]) == pytest.approx(float(total), rel=1e-4)


@torch.no_grad()
def test_next_items_are_sasrecs(model, make_model):
    other = make_model("sasrec", scale=8.0)
    weights = {name: w for name, w in model.state_dict().items() if name in other.state_dict()}
    weights["items.weight"] = weights["items.weight"][:-1]
    other.load_state_dict(weights)
    batch = batch_of([[1, 4, 6], [9]], [5, 7])
    torch.testing.assert_close(model.scores(batch), other.scores(batch))
