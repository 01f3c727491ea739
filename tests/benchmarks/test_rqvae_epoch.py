"""The quantizer's benchmark at toy size: its plain loop does the same work."""

from __future__ import annotations

import pytest
import torch

from benchmarks import rqvae_epoch
from macrec_core.params.quantizer import QuantParams
from macrec_core.quantization.objective import objective

WIDTHS = {"text": 9, "image": 5}
SECTION = {
    "codebook_size": 6, "num_levels": 3, "latent_dim": 4, "common_width": 12,
    "hidden_sizes": [16, 8], "standardize": "unit_variance", "lambda_con": [0.0, 0.2, 0.3],
    "lambda_align": 0.1, "temperature": 0.5, "commitment_weight": 0.25,
    "similarity": "inner_product", "reduction": "sum", "positives": "pseudo_label",
    "residual_gradient": "flows", "lambda_collab": 0.0, "lambda_diversity": 0.0,
    "diversity_clusters": 3, "batch_size": 16, "max_epochs": 3, "learning_rate": 0.003,
    "weight_decay": 0.01, "kmeans_iterations": 3, "evaluate_every": 3,
}  # fmt: skip


@pytest.fixture
def params():
    return QuantParams.model_validate(SECTION)


def test_the_plain_objective_is_ours(params):
    torch.manual_seed(0)
    data = rqvae_epoch.made_up(8, WIDTHS)
    plain = rqvae_epoch.Plain(data, params)
    # In pairs, so that whatever is drawn the positive is the partner.
    labels = {"text": torch.arange(8) // 2, "image": torch.arange(8) % 4}
    batch = {m: plain.model[m].standardise(x) for m, x in data.embeddings.items()}
    ours = objective(plain.model, batch, labels, params, torch.Generator()).total
    theirs = plain.objective(batch, labels)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    weights = list(plain.model.parameters())
    gradients = (torch.autograd.grad(loss, weights) for loss in (theirs, ours))
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_the_plain_loop_learns(params):
    torch.manual_seed(0)
    plain = rqvae_epoch.Plain(rqvae_epoch.made_up(60, WIDTHS), params)
    losses = [plain.epoch() for _ in range(12)]
    assert losses[-1] < losses[0]


def test_partners_are_others_of_the_same_label_or_oneself():
    labels = torch.tensor([3, 1, 3, 3, 2, 1])
    for _ in range(20):
        found = rqvae_epoch.partners(labels)
        assert torch.equal(labels[found], labels)
        assert (found != torch.arange(6)).tolist() == [True, True, True, True, False, True]


def test_multiplications_by_hand(params):
    small = params.model_copy(update={"hidden_sizes": [], "latent_dim": 2, "common_width": 3})
    model = rqvae_epoch.CrossModalRQVAE({"text": 5}, small)
    # Layers of 5 x 3, 3 x 2, 2 x 3 and 3 x 5 weights: thrice each, but for the input twice.
    assert rqvae_epoch.flops_an_item(model) == 2 * (3 * (15 + 6 + 6 + 15) - 15)


def test_the_row_at_toy_size(params, monkeypatch, capsys):
    monkeypatch.setattr(rqvae_epoch, "matrix_rate", lambda dtype: 50.0)
    found = rqvae_epoch.measure(rqvae_epoch.made_up(40, WIDTHS), params)
    assert (found.work, found.unit) == ("rqvae_epoch", "items/s")
    assert found.ratio == pytest.approx(found.ours / found.plain)
    assert 0 < found.share_of_ceiling < 1
    assert "GFLOP/s" in capsys.readouterr().err


def test_collisions_are_told_for_every_seed_and_precision(params, capsys):
    rqvae_epoch.collisions(rqvae_epoch.made_up(60, WIDTHS), params, range(2))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "seed 0, torch.float32", "seed 0, torch.bfloat16", "seed 1, torch.float32",
        "seed 1, torch.bfloat16", "text, torch.float32", "text, torch.bfloat16",
        "image, torch.float32", "image, torch.bfloat16",
    ]  # fmt: skip


def test_made_up_items_of_one_label_are_alike_in_both_modalities():
    data = rqvae_epoch.made_up(300, WIDTHS)
    largest = torch.bincount(data.pseudo_labels["text"]).argmax()
    members = data.pseudo_labels["text"] == largest
    for embeddings in data.embeddings.values():
        assert embeddings[members].var(dim=0).sum() < 0.5 * embeddings.var(dim=0).sum()
