"""The model: standardisation, shape of encoder and decoder, saving and loading."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from macrec_core.errors import MacrecError
from macrec_core.quantization.rqvae import CrossModalRQVAE, ModalityRQVAE, load_rqvae, save_rqvae


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def embeddings():
    spread = torch.tensor([0.1, 1.0, 10.0, 3.0, 0.0])
    return 4.0 + spread * torch.randn(50, 5, generator=stream(3))


def test_none_leaves_embeddings_as_they_are(section, embeddings):
    model = ModalityRQVAE(5, section())
    model.fit_scale(embeddings, "none")
    assert torch.equal(model.standardise(embeddings), embeddings)


def test_unit_norm_gives_mean_zero_and_mean_squared_norm_one(section, embeddings):
    model = ModalityRQVAE(5, section())
    model.fit_scale(embeddings, "unit_norm")
    result = model.standardise(embeddings)
    torch.testing.assert_close(result.mean(dim=0), torch.zeros(5), atol=1e-6, rtol=0)
    assert float(result.square().sum(dim=1).mean()) == pytest.approx(1.0, rel=1e-5)


def test_unit_variance_gives_mean_zero_and_mean_variance_one(section, embeddings):
    model = ModalityRQVAE(5, section())
    model.fit_scale(embeddings, "unit_variance")
    result = model.standardise(embeddings)
    torch.testing.assert_close(result.mean(dim=0), torch.zeros(5), atol=1e-5, rtol=0)
    assert float(result.var(dim=0, unbiased=False).mean()) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("rule", ["unit_norm", "unit_variance"])
def test_one_scale_for_all_features_keeps_their_proportions(section, embeddings, rule):
    model = ModalityRQVAE(5, section())
    model.fit_scale(embeddings, rule)
    before, after = embeddings.std(dim=0), model.standardise(embeddings).std(dim=0)
    torch.testing.assert_close(after / after[2], before / before[2])


@pytest.mark.parametrize("rule", ["none", "unit_norm", "unit_variance"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567])
def test_items_that_are_all_equal_stay_finite_and_small(section, rule, value):
    constant = torch.full((70, 5), value)
    model = ModalityRQVAE(5, section())
    model.fit_scale(constant, rule)
    result = model.standardise(constant)
    assert torch.isfinite(result).all()
    # Rounding noise must not be blown up to unit size.
    assert float((result - (value if rule == "none" else 0.0)).abs().max()) < 1e-3


def test_encoder_is_a_linear_map_then_an_mlp_and_the_decoder_mirrors_it(section):
    model = ModalityRQVAE(9, section(common_width=12, hidden_sizes=[16, 8], latent_dim=4))

    def layers(module):
        linear = [(m.in_features, m.out_features) for m in module if isinstance(m, nn.Linear)]
        return linear, [i for i, m in enumerate(module) if isinstance(m, nn.ReLU)]

    assert layers(model.encoder) == ([(9, 12), (12, 16), (16, 8), (8, 4)], [2, 4])
    assert layers(model.decoder) == ([(4, 8), (8, 16), (16, 12), (12, 9)], [1, 3])


def test_forward_decodes_the_sum_of_the_code_vectors(section):
    model = ModalityRQVAE(9, section())
    batch = torch.randn(7, 9, generator=stream(1))
    quantized, output = model(batch)
    torch.testing.assert_close(output, model.decoder(quantized.vectors.sum(dim=0)))
    torch.testing.assert_close(quantized.latent, model.encode(batch))
    assert quantized.codes.shape == (7, 3)
    assert quantized.residuals.shape == quantized.vectors.shape == (3, 7, 4)


def test_reconstruction_gradient_reaches_the_encoder_but_not_the_codes(section):
    model = ModalityRQVAE(9, section())
    batch = torch.randn(7, 9, generator=stream(1))
    (batch - model(batch)[1]).square().sum().backward()
    for half in (model.encoder, model.decoder):
        # Some units may be off on a small batch; no layer is.
        assert all(float(p.grad.abs().sum()) > 0 for p in half.parameters())
    assert model.quantizer.codebooks.grad is None


def test_what_is_saved_is_loaded(section, tmp_path):
    params = section(similarity="cosine")
    model = CrossModalRQVAE({"text": 9, "image": 5}, params)
    for name, width in (("text", 9), ("image", 5)):
        model[name].fit_scale(torch.randn(20, width, generator=stream(4)), "unit_norm")
    save_rqvae(tmp_path, model, params)
    loaded, loaded_params = load_rqvae(tmp_path)
    assert loaded_params == params
    assert not loaded.training
    expected, found = model.state_dict(), loaded.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert json.loads((tmp_path / "config.json").read_text())["widths"] == {"image": 5, "text": 9}


def test_saving_twice_gives_the_same_bytes(section, tmp_path):
    model = CrossModalRQVAE({"text": 9, "image": 5}, section())
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        save_rqvae(folder, model, section())
    for name in ("model.safetensors", "config.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _other_widths(path):
    path.write_text(path.read_text().replace('"text": 9', '"text": 8'))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", lambda path: path.unlink()),
        ("model.safetensors", _truncate),
        ("config.json", lambda path: path.unlink()),
        ("config.json", lambda path: path.write_text("{")),
        ("config.json", lambda path: path.write_text("{}")),
        ("config.json", _other_widths),
    ],
)
def test_a_damaged_folder_is_named(section, tmp_path, name, damage):
    save_rqvae(tmp_path, CrossModalRQVAE({"text": 9}, section()), section())
    damage(tmp_path / name)
    with pytest.raises(MacrecError, match="is no quantizer") as caught:
        load_rqvae(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "run train_rqvae again" in str(caught.value)
