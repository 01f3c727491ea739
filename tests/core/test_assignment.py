"""From a quantizer to unique semantic IDs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from macrec_core.assignment import assign_ids, numbered
from macrec_core.errors import MacrecError
from macrec_core.params.quantizer import QuantParams
from macrec_core.quantization.measuring import encode_items
from macrec_core.quantization.rqvae import CrossModalRQVAE


def model(size=4, levels=3):
    """An untrained quantizer of one modality that passes two features on as they are."""
    params = QuantParams.model_validate(
        {
            "codebook_size": size, "num_levels": levels, "latent_dim": 2, "common_width": 2,
            "hidden_sizes": [], "standardize": "none", "lambda_con": [0.0] * levels,
            "lambda_align": 0.0, "temperature": 0.1, "commitment_weight": 0.25,
            "similarity": "inner_product", "reduction": "sum", "positives": "pseudo_label",
            "residual_gradient": "flows", "lambda_collab": 0.0, "lambda_diversity": 0.0,
            "diversity_clusters": 2, "batch_size": 8, "max_epochs": 1,
            "learning_rate": 0.001, "weight_decay": 0.0, "kmeans_iterations": 1,
            "evaluate_every": 1,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    made = CrossModalRQVAE({"text": 2}, params)
    with torch.no_grad():
        for layer in made["text"].encoder:
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
    return made.eval()


def embeddings(count, seed=1):
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))


def test_ids_are_unique_and_their_nearest_codes_are_kept_beside_them():
    made, vectors = model(), embeddings(50)
    found = assign_ids(made, "text", vectors, "reassign")
    assert np.array_equal(found.nearest, encode_items(made, "text", vectors)[1].numpy())
    assert found.codes.dtype == found.nearest.dtype == np.int32
    distinct = len({tuple(row) for row in found.nearest.tolist()})
    assert distinct < 50  # or there would be nothing to reassign
    assert len({tuple(row) for row in found.codes.tolist()}) == 50
    assert found.num_moved == 50 - distinct == (found.codes != found.nearest).any(axis=1).sum()
    metrics = found.metrics(4)
    assert metrics["collision_rate"] == pytest.approx((50 - distinct) / 50)
    assert metrics["collision_rate_after"] == 0.0
    assert metrics["moved_above_last_level"] == found.num_moved_above


def test_by_hand_the_closest_item_keeps_its_id():
    made = model(size=2, levels=1)
    with torch.no_grad():
        made["text"].quantizer.codebooks.copy_(torch.tensor([[[0.0, 0.0], [10.0, 0.0]]]))
    found = assign_ids(made, "text", torch.tensor([[0.5, 0.0], [0.1, 0.0]]), "reassign")
    assert found.nearest.tolist() == [[0], [0]]
    assert found.codes.tolist() == [[1], [0]]


def test_the_same_input_gives_the_same_ids():
    first, second = (assign_ids(model(), "text", embeddings(40), "reassign") for _ in range(2))
    assert np.array_equal(first.codes, second.codes)


def test_as_many_items_as_ids_use_them_all():
    found = assign_ids(model(size=3, levels=2), "text", embeddings(9), "reassign")
    assert sorted(map(tuple, found.codes.tolist())) == [(a, b) for a in range(3) for b in range(3)]


def test_too_many_items_are_refused():
    with pytest.raises(MacrecError, match="10 items have no unique IDs of 2 levels of 3 codes"):
        assign_ids(model(size=3, levels=2), "text", embeddings(10), "reassign")


# ----------------------------------------------------------------------------------- one level more


def test_a_level_more_numbers_the_items_of_equal_codes_in_id_order():
    nearest = np.array([[2, 1], [0, 0], [2, 1], [1, 2], [2, 1], [0, 0]], np.int32)
    found = numbered(nearest, 3)
    assert found.codes.dtype == np.int32
    assert found.codes.tolist() == [
        [2, 1, 0], [0, 0, 0], [2, 1, 1], [1, 2, 0], [2, 1, 2], [0, 0, 1],
    ]  # fmt: skip
    assert found.nearest is nearest
    assert (found.num_moved, found.num_moved_above) == (3, 0)
    metrics = found.metrics(3)
    assert metrics["collision_rate"] == pytest.approx(3 / 6)
    assert metrics["collision_rate_after"] == 0.0
    # Of the learned levels alone: the numbers are no codebook.
    assert metrics["codebook_use"] == [1.0, 1.0]


def test_an_extra_level_keeps_the_nearest_codes():
    made, vectors = model(size=9, levels=2), embeddings(50)
    found = assign_ids(made, "text", vectors, "extra_level")
    assert found.codes.shape == (50, 3)
    assert np.array_equal(found.codes[:, :2], encode_items(made, "text", vectors)[1].numpy())
    assert len(np.unique(found.codes, axis=0)) == 50
    assert found.codes[:, 2].max() > 0  # or there would be nothing to number


def test_more_equal_items_than_a_level_numbers_are_refused():
    nearest = np.array([[1, 1]] * 3 + [[0, 1]] * 4, np.int32)
    with pytest.raises(MacrecError, match=r"4 items have the codes \[0, 1\], .* only 3 to number"):
        numbered(nearest, 3)
    assert numbered(nearest, 4).num_distinct == 7
