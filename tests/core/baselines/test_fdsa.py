from __future__ import annotations

import math

import pytest
import torch

from macrec_core.baselines.training import train_sequence_model
from macrec_core.baselines.transformer import causal
from macrec_core.checkpoints import Checkpoints
from macrec_core.progress import Silent
from macrec_core.runtime import Runtime

from .conftest import NUM_ITEMS, batch_of

CPU = Runtime(torch.device("cpu"), None)


@torch.no_grad()
def test_features_are_an_items_attributes_weighted_by_hand(make_model):
    model = make_model("fdsa")
    for weights in (model.attributes.weight, model.attribute_score.weight):
        weights.normal_(generator=torch.Generator().manual_seed(1))
    embedded, score = model.attributes.weight, model.attribute_score.weight[0]
    # Item 4 has the attributes 4 and 7 + 1, item 5 attribute 5 alone, item 0 and the padding none.
    found = model.feature_vectors(torch.tensor([[4, 5], [0, NUM_ITEMS]]))
    powers = [math.exp(float(embedded[a] @ score)) for a in (4, 8)]
    expected = sum(p / sum(powers) * embedded[a] for p, a in zip(powers, (4, 8), strict=True))
    torch.testing.assert_close(found[0, 0], expected)
    assert not torch.allclose(found[0, 0], (embedded[4] + embedded[8]) / 2, atol=0.05)
    torch.testing.assert_close(found[0, 1], embedded[5])
    assert (found[1] == 0).all()


def test_an_item_without_attributes_gives_finite_gradients(make_model):
    model = make_model("fdsa", scale=3.0)
    model.loss(batch_of([[0], [0, 4]], [1, 2]), torch.Generator()).backward()
    for name, weights in model.named_parameters():
        assert weights.grad is None or weights.grad.isfinite().all(), name


@torch.no_grad()
def test_both_stacks_last_states_side_by_side_are_mapped_to_the_users_vector(make_model):
    model = make_model("fdsa", scale=4.0)
    items = torch.tensor([[3, 8, 5]])
    closed = causal(3, items.device)
    first = model.item_stack(model.items(items), closed)[0, 1]
    second = model.feature_stack(model.feature_vectors(items), closed)[0, 1]
    half = model.merge.weight.shape[1] // 2
    weights, bias = model.merge.weight, model.merge.bias
    expected = weights[:, :half] @ first + weights[:, half:] @ second + bias
    # The second place, as if the history ended there: the third is not seen.
    found = model.represent(batch_of([[3, 8]], [0]))[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "solves"), [("fdsa", True), ("sasrec", False)])
def test_new_items_are_understood_by_their_attributes(
    make_model, content, tiny, tmp_path, name, solves
):
    params = tiny.model_copy(update={"learning_rate": 0.01, "max_epochs": 12, "patience": 12})
    model = make_model(name, features=content.features)
    trained = train_sequence_model(
        model, content.train, content.validation, params, 0, CPU, Checkpoints(tmp_path, 1e9),
        Silent(),
    )  # fmt: skip
    share = content.share_right(trained.model)
    assert share >= 0.9 if solves else share <= 0.5
