"""LETTER's two terms in the objective and in training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from macrec_core.checkpoints import Checkpoints
from macrec_core.errors import MacrecError
from macrec_core.progress import Silent
from macrec_core.quantization import losses
from macrec_core.quantization.code_clusters import CodeClusters
from macrec_core.quantization.objective import Guidance, objective
from macrec_core.quantization.rqvae import CrossModalRQVAE
from macrec_core.quantization.training import QuantizerData, train_quantizer
from macrec_core.runtime import Runtime

FLOAT32 = Runtime(torch.device("cpu"), None)
# Pairs: whatever is drawn, the partner of code 2k is 2k + 1.
PAIRED = CodeClusters.of_labels(torch.arange(6) // 2)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def letter(section):
    """LETTER's quantizer: no contrast between modalities."""

    def make(**changes):
        plain = {"lambda_con": 0.0, "lambda_align": 0.0, "temperature": 1.0}
        return section(**plain, **{"lambda_collab": 0.3, "lambda_diversity": 0.2} | changes)

    return make


@pytest.fixture
def guided(data):
    """The 80 items with collaborative embeddings in five groups, which their texts do not show."""
    groups = torch.arange(80) % 5
    centres = torch.randn(5, 4, generator=stream(1))
    guide = centres[groups] + 0.1 * torch.randn(80, 4, generator=stream(2))
    return QuantizerData(
        {"text": data.embeddings["text"]}, {"text": data.pseudo_labels["text"]}, guide
    )


def train(data, params, folder, progress=None, seed=0, every_s=1e9):
    checkpoints = Checkpoints(folder, every_s)
    return train_quantizer(data, params, seed, FLOAT32, checkpoints, progress or Silent())


def batch_of(params, modalities=("text",)):
    torch.manual_seed(2)
    model = CrossModalRQVAE(dict.fromkeys(modalities, 9), params)
    batch = {m: torch.randn(6, 9, generator=stream(i)) for i, m in enumerate(modalities)}
    labels = {m: torch.arange(6) for m in modalities}
    guidance = Guidance(
        torch.randn(6, 4, generator=stream(9)), dict.fromkeys(modalities, [PAIRED] * 3)
    )
    return model, batch, labels, guidance


@pytest.mark.parametrize("modalities", [("text",), ("text", "image")])
def test_terms_enter_the_objective_with_their_weights(letter, modalities):
    params = letter()
    model, batch, labels, guidance = batch_of(params, modalities)
    found = objective(model, batch, labels, params, stream(), guidance=guidance)
    expected = {"collaborative": 0.0}
    for name in modalities:
        quantized, _ = model[name](batch[name])
        ones = (quantized.vectors.sum(0), guidance.collaborative, 1.0, "inner_product")
        expected["collaborative"] += 0.3 * float(losses.collaborative_loss(*ones).detach())
        partner = quantized.codes ^ 1
        expected[f"diversity_{name}"] = 0.2 * sum(
            float(losses.diversity_loss(
                codebook, quantized.codes[:, level], partner[:, level], 1.0, "inner_product"
            ).detach())
            for level, codebook in enumerate(model[name].quantizer.codebooks)
        )  # fmt: skip
    values = {name: float(part.detach()) for name, part in found.parts.items()}
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert float(found.total.detach()) == pytest.approx(sum(values.values()), rel=1e-5)
    assert found.positives is None


def test_the_guide_trains_encoder_and_codes_and_diversity_the_codes_alone(letter):
    params = letter()
    model, batch, labels, guidance = batch_of(params)
    parts = objective(model, batch, labels, params, stream(), guidance=guidance).parts
    text = model["text"]
    weights = {"encoder": text.encoder[0].weight, "codes": text.quantizer.codebooks}
    for term, trained in (("collaborative", {"encoder", "codes"}), ("diversity_text", {"codes"})):
        found = torch.autograd.grad(
            parts[term], list(weights.values()), retain_graph=True, allow_unused=True
        )
        moved = {n for n, g in zip(weights, found, strict=True) if g is not None and g.any()}
        assert moved == trained
        assert all(torch.isfinite(g).all() for g in found if g is not None)


def test_without_weights_nothing_is_computed_nor_drawn(section):
    params = section(lambda_con=0.0, lambda_align=0.0)
    model, batch, labels, guidance = batch_of(params)
    draws = stream()
    parts = objective(model, batch, labels, params, draws, guidance=guidance).parts
    assert set(parts) == {"recon_text", "codebook_text", "commitment_text"}
    assert torch.equal(draws.get_state(), stream().get_state())


def test_the_guide_shapes_the_codes(letter, guided, tmp_path):
    """Items of one group by purchases come to share first codes, which texts hardly show."""
    groups = torch.arange(80) % 5
    hint = 0.3 * torch.nn.functional.one_hot(groups).float()
    hinted = replace(
        guided, embeddings={"text": torch.cat([guided.embeddings["text"], hint], dim=1)}
    )

    def shared(lambda_collab):
        """Share of pairs of one group that share a first code."""
        params = letter(lambda_collab=lambda_collab, lambda_diversity=0.0, max_epochs=40)
        text = train(hinted, params, tmp_path / str(lambda_collab)).model["text"]
        codes = text.quantizer(text.encode(text.standardise(hinted.embeddings["text"]))).codes
        same_code = codes[:, None, 0] == codes[None, :, 0]
        return float(same_code[groups[:, None] == groups[None, :]].float().mean())

    assert shared(10.0) > 1.5 * shared(0.0)


def test_one_seed_gives_the_same_history_twice(letter, guided, tmp_path):
    first, again, other = (
        train(guided, letter(), tmp_path / str(i), seed=seed).history
        for i, seed in enumerate((0, 0, 1))
    )
    assert first == again != other
    assert {"collaborative", "diversity_text"} <= first[-1].keys()


class Stop(Exception):
    pass


class StopAfter(Silent):
    def __init__(self, epochs):
        self.left = epochs

    def advance(self, units=1, status=""):
        self.left -= bool(status)
        if self.left == 0:
            raise Stop


def test_going_on_from_a_checkpoint_gives_the_same_bytes(letter, guided, tmp_path):
    whole = train(guided, letter(), tmp_path / "whole")
    with pytest.raises(Stop):
        train(guided, letter(), tmp_path / "cut", StopAfter(2), every_s=0.0)
    resumed = train(guided, letter(), tmp_path / "cut")
    assert resumed.history == whole.history
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(weights, resumed.model.state_dict()[name])


@pytest.mark.parametrize(("guide", "found"), [(None, "absent"), (torch.ones(80, 7), "7 wide")])
def test_a_guide_that_does_not_fit_is_an_error(letter, guided, tmp_path, guide, found):
    with pytest.raises(MacrecError, match=rf"lambda_collab=0.3: .* are {found}, expected .*=4"):
        train(replace(guided, collaborative=guide), letter(), tmp_path)
