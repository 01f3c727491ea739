"""The objective (Eq. 13) and its gradients; the training loop, its seeds and its checkpoints."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from macrec_core.checkpoints import Checkpoints
from macrec_core.errors import MacrecError
from macrec_core.metrics import collision_rate
from macrec_core.progress import Silent
from macrec_core.quantization import losses, nearest, training
from macrec_core.quantization.measuring import encode_items, measure, total_variance
from macrec_core.quantization.objective import objective
from macrec_core.quantization.residual import Quantized
from macrec_core.quantization.rqvae import CrossModalRQVAE, save_rqvae
from macrec_core.quantization.training import QuantizerData, train_quantizer
from macrec_core.runtime import Runtime

FLOAT32 = Runtime(torch.device("cpu"), None)
BFLOAT16 = Runtime(torch.device("cpu"), torch.bfloat16)
NEVER = 1e9


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


# ----------------------------------------------------------------------------- objective

# Six items in pairs: whatever is drawn, the positive is the one partner.
PAIRS = {
    "text": torch.tensor([0, 0, 1, 1, 2, 2]),
    "image": torch.tensor([0, 1, 2, 0, 1, 2]),
    "sound": torch.tensor([0, 1, 2, 2, 1, 0]),
}
PARTNER = {
    "text": [1, 0, 3, 2, 5, 4],
    "image": [3, 4, 5, 0, 1, 2],
    "sound": [5, 4, 3, 2, 1, 0],
}
WIDTHS = {"text": 9, "image": 5, "sound": 7}


def model_and_batch(params, modalities=("text", "image"), dtype=torch.float32):
    widths = {m: WIDTHS[m] for m in modalities}
    torch.manual_seed(3)
    model = CrossModalRQVAE(widths, params).to(dtype)
    batch = {m: torch.randn(6, w, generator=stream(w)).to(dtype) for m, w in widths.items()}
    for name in modalities:  # latents near the codes, so that codes and residuals are lively
        with torch.no_grad():
            model[name].encoder[-1].weight *= 8
    return model, batch, {m: PAIRS[m] for m in modalities}


def info_nce(anchors, candidates, positives, tau, cosine=False):
    """InfoNCE as Eq. 4 writes it, in float64, item by item."""
    if cosine:
        anchors = anchors / np.linalg.norm(anchors, axis=1, keepdims=True)
        candidates = candidates / np.linalg.norm(candidates, axis=1, keepdims=True)
    total = 0.0
    for i, positive in enumerate(positives):
        scores = candidates @ anchors[i] / tau
        total -= scores[positive] - np.log(np.exp(scores - scores.max()).sum()) - scores.max()
    return total / len(anchors)


def pushed_apart(points, tau, cosine=False):
    """Log-sum-exp over the other items, in float64, item by item."""
    if cosine:
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
    total = 0.0
    for i, point in enumerate(points):
        scores = np.delete(points, i, axis=0) @ point / tau
        total += np.log(np.exp(scores - scores.max()).sum()) + scores.max()
    return total / len(points)


def expected_parts(model, batch, params, modalities):
    """Every term of Eqs. 4-13, written out with numpy."""
    average = np.sum if params.reduction == "sum" else np.mean
    cosine = params.similarity == "cosine"
    parts, residuals, sums = {}, {}, {}
    for m in modalities:
        quantized, output = model[m](batch[m])
        x, y = batch[m].numpy(), output.detach().numpy()
        r = residuals[m] = quantized.residuals.detach().double().numpy()
        e = quantized.vectors.detach().double().numpy()
        sums[m] = e.sum(axis=0)
        parts[f"recon_{m}"] = average((x - y) ** 2, axis=1).mean()
        rq = sum(average((r[k] - e[k]) ** 2, axis=1).mean() for k in range(params.num_levels))
        parts[f"codebook_{m}"] = rq
        parts[f"commitment_{m}"] = params.commitment_weight * rq
    if len(modalities) > 1:
        parts["contrastive"] = sum(
            weight
            * (
                pushed_apart(residuals[anchor][level], params.temperature, cosine)
                if params.positives == "none"
                else info_nce(
                    residuals[anchor][level],
                    residuals[anchor][level],
                    PARTNER[other] if params.positives == "pseudo_label" else range(6),
                    params.temperature,
                    cosine,
                )
            )
            for other, anchor in permutations(modalities, 2)
            for level, weight in enumerate(params.lambda_con)
        )
        parts["alignment"] = params.lambda_align * sum(
            info_nce(sums[a], sums[b], range(6), params.temperature, cosine)
            for a, b in permutations(modalities, 2)
        )
    return parts


@pytest.mark.parametrize("modalities", [("text",), ("text", "image"), ("text", "image", "sound")])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reduction": "mean"},
        {"similarity": "cosine"},
        {"positives": "self"},
        {"positives": "none"},
        {"residual_gradient": "blocked"},
    ],
)
def test_total_is_the_sum_of_the_papers_terms_with_their_weights(section, modalities, changes):
    params = section(
        lambda_con=[0.3, 0.0, 0.7], lambda_align=0.2, temperature=0.5, commitment_weight=0.4,
        **changes,
    )  # fmt: skip
    model, batch, labels = model_and_batch(params, modalities)
    terms = objective(model, batch, labels, params, stream())
    expected = expected_parts(model, batch, params, modalities)
    found = {name: float(part.detach()) for name, part in terms.parts.items()}
    assert found == pytest.approx(expected, rel=1e-4)
    assert float(terms.total.detach()) == pytest.approx(sum(expected.values()), rel=1e-4)
    real = len(modalities) > 1 and params.positives == "pseudo_label"
    assert terms.positives == (1.0 if real else None)


def test_terms_without_weight_are_not_computed(section):
    params = section(lambda_con=[0.0] * 3, lambda_align=0.0)
    model, batch, labels = model_and_batch(params)
    terms = objective(model, batch, labels, params, stream())
    assert {name.split("_")[0] for name in terms.parts} == {"recon", "codebook", "commitment"}
    assert terms.positives is None


def test_positives_counts_both_directions(section):
    model, batch, labels = model_and_batch(section())
    labels["image"] = torch.arange(6)
    assert objective(model, batch, labels, section(), stream()).positives == 0.5


def gradients(value, parameters):
    found = torch.autograd.grad(value, list(parameters), retain_graph=True, allow_unused=True)
    return sum(0.0 if g is None else float(g.abs().sum()) for g in found)


def contrastive_at(section, level, gradient, **changes):
    weights = [0.0, 0.0, 0.0]
    weights[level] = 0.1
    params = section(lambda_con=weights, residual_gradient=gradient, **changes)
    model, batch, labels = model_and_batch(params)
    return model, objective(model, batch, labels, params, stream()).parts["contrastive"]


@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("level", range(3))
def test_contrast_trains_the_encoder_at_every_level(section, level, modality):
    model, term = contrastive_at(section, level, "flows")
    for parameter in model[modality].encoder.parameters():
        # The last bias shifts all latents alike; it too moves inner products.
        assert gradients(term, [parameter]) > 0


@pytest.mark.parametrize("similarity", ["inner_product", "cosine"])
@pytest.mark.parametrize("level", range(3))
def test_pushing_apart_trains_the_encoders_at_every_level(section, level, similarity):
    model, term = contrastive_at(section, level, "flows", positives="none", similarity=similarity)
    for modality in ("text", "image"):
        weights = list(model[modality].encoder.parameters())
        found = torch.autograd.grad(term, weights, retain_graph=True)
        assert all(torch.isfinite(gradient).all() for gradient in found)
        assert all(gradient.abs().sum() > 0 for gradient in found)
        assert gradients(term, [model[modality].quantizer.codebooks]) == 0.0


@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("level", [1, 2])
def test_blocked_contrast_trains_nothing_beyond_the_first_level(section, level, modality):
    """The released code's residual: with the paper's levels its contrast is a no-op."""
    model, term = contrastive_at(section, level, "blocked")
    assert gradients(term, model[modality].encoder.parameters()) == 0.0


def test_blocked_contrast_still_trains_at_the_first_level(section):
    model, term = contrastive_at(section, 0, "blocked")
    assert gradients(term, model["text"].encoder.parameters()) > 0


@pytest.mark.parametrize("level", range(3))
def test_contrast_leaves_codes_and_decoder_alone(section, level):
    model, term = contrastive_at(section, level, "flows")
    for modality in ("text", "image"):
        assert gradients(term, [model[modality].quantizer.codebooks]) == 0.0
        assert gradients(term, model[modality].decoder.parameters()) == 0.0


def commitment_at(section, level, gradient):
    params = section(residual_gradient=gradient)
    model, batch, _ = model_and_batch(params)
    quantized, _ = model["text"](batch["text"])
    one = slice(level, level + 1)
    return model, losses.commitment_loss(quantized.residuals[one], quantized.vectors[one], "sum")


@pytest.mark.parametrize("level", range(3))
def test_commitment_trains_the_encoder_at_every_level(section, level):
    model, term = commitment_at(section, level, "flows")
    assert gradients(term, model["text"].encoder.parameters()) > 0
    assert gradients(term, [model["text"].quantizer.codebooks]) == 0.0


@pytest.mark.parametrize("level", [1, 2])
def test_blocked_commitment_trains_nothing_beyond_the_first_level(section, level):
    model, term = commitment_at(section, level, "blocked")
    assert gradients(term, model["text"].encoder.parameters()) == 0.0


def test_alignment_trains_encoders_and_codes_of_both_modalities(section):
    params = section()
    model, batch, labels = model_and_batch(params)
    term = objective(model, batch, labels, params, stream()).parts["alignment"]
    for modality in ("text", "image"):
        assert gradients(term, model[modality].encoder.parameters()) > 0
        assert gradients(term, [model[modality].quantizer.codebooks]) > 0


def test_reconstruction_trains_encoder_and_decoder_and_the_codebook_loss_only_codes(section):
    params = section()
    model, batch, labels = model_and_batch(params)
    parts = objective(model, batch, labels, params, stream()).parts
    text = model["text"]
    assert gradients(parts["recon_text"], text.encoder.parameters()) > 0
    assert gradients(parts["recon_text"], text.decoder.parameters()) > 0
    assert gradients(parts["recon_text"], [text.quantizer.codebooks]) == 0.0
    assert gradients(parts["codebook_text"], text.encoder.parameters()) == 0.0
    assert gradients(parts["codebook_text"], [text.quantizer.codebooks]) > 0
    assert gradients(parts["recon_text"], model["image"].parameters()) == 0.0


@pytest.mark.parametrize("level", range(3))
def test_gradient_of_the_contrast_is_its_slope(section, level):
    """Codes stay as they are over a small step, so finite differences see the same function."""
    weights = [0.0] * 3
    weights[level] = 1.0
    params = section(lambda_con=weights, temperature=2.0)
    model, batch, labels = model_and_batch(params, dtype=torch.float64)
    weight = model["text"].encoder[0].weight
    term = objective(model, batch, labels, params, stream()).parts["contrastive"]
    (gradient,) = torch.autograd.grad(term, [weight])
    direction = torch.randn(weight.shape, generator=stream(8)).double()

    def at(step):
        with torch.no_grad():
            weight.add_(direction, alpha=step)
            parts = objective(model, batch, labels, params, stream()).parts
            weight.add_(direction, alpha=-step)
        return float(parts["contrastive"])

    # Small, lest a ReLU changes side; info_nce rounds to float32, hence the tolerance.
    slope = (at(1e-4) - at(-1e-4)) / 2e-4
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=2e-2)


# ------------------------------------------------------------------------------ training


class Interrupted(Exception):
    pass


class StopAfter(Silent):
    """Progress that ends the run after some epochs, as Ctrl-C would."""

    def __init__(self, epochs=None):
        self.left, self.epochs = epochs, 0

    def advance(self, units=1, status=""):
        if status:
            self.epochs += 1
        if status and self.epochs == self.left:
            raise Interrupted


def train(data, params, folder, seed=0, every_s=NEVER, progress=None, runtime=FLOAT32):
    progress = progress or Silent()
    return train_quantizer(data, params, seed, runtime, Checkpoints(folder, every_s), progress)


def exported(trained, params, folder):
    folder.mkdir()
    save_rqvae(folder, trained.model, params)
    return (folder / "model.safetensors").read_bytes()


def test_one_seed_gives_the_same_bytes_twice_and_another_gives_others(section, data, tmp_path):
    params = section()
    runs = [train(data, params, tmp_path / f"s{i}", seed) for i, seed in enumerate((0, 0, 1))]
    first, again, other = (exported(r, params, tmp_path / f"q{i}") for i, r in enumerate(runs))
    assert first == again
    assert runs[0].history == runs[1].history
    assert first != other


def test_the_global_generator_has_no_say(section, data, tmp_path):
    params = section()
    found = []
    for i in range(2):
        torch.manual_seed(i)
        torch.rand(i)
        found.append(exported(train(data, params, tmp_path / f"s{i}"), params, tmp_path / f"q{i}"))
    assert found[0] == found[1]


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_going_on_from_any_epoch_gives_the_bytes_of_an_uninterrupted_run(
    section, data, tmp_path, epoch, caplog
):
    params = section(max_epochs=5)
    whole = train(data, params, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(data, params, tmp_path / "cut", every_s=0, progress=StopAfter(epoch))
    with caplog.at_level(logging.INFO):
        rest = StopAfter()
        resumed = train(data, params, tmp_path / "cut", progress=rest)
    assert f"at epoch {epoch}" in caplog.text
    assert rest.epochs == 5 - epoch
    assert resumed.history == whole.history
    assert exported(resumed, params, tmp_path / "a") == exported(whole, params, tmp_path / "b")


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_finished_training_is_found_and_not_repeated(section, data, tmp_path, interrupted):
    params = section()
    if interrupted:
        with pytest.raises(Interrupted):
            train(data, params, tmp_path / "s", every_s=0, progress=StopAfter(2))
    first = train(data, params, tmp_path / "s")
    second_look = StopAfter()
    second = train(data, params, tmp_path / "s", progress=second_look)
    assert second_look.epochs == 0
    assert second.history == first.history
    assert exported(first, params, tmp_path / "a") == exported(second, params, tmp_path / "b")


def test_history_has_one_row_an_epoch_that_adds_up(section, data, tmp_path):
    params = section(max_epochs=5, evaluate_every=2)
    history = train(data, params, tmp_path).history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    outside = {"loss", "epoch", "positives"}
    for row in history:
        measured = "unexplained_text" in row
        assert measured == (row["epoch"] in (2, 4, 5))
        parts = [
            value
            for name, value in row.items()
            if name not in outside and not name.startswith(("collision", "unexplained", "use_"))
        ]
        assert len(parts) == 8
        assert row["loss"] == pytest.approx(sum(parts), rel=1e-5)
    assert history[-1]["loss"] < history[0]["loss"]


def test_history_tells_the_share_of_real_positives(section, data, tmp_path):
    # One batch: 6 of 80 items are alone by text, all by image.
    labels = torch.arange(80) % 37
    labels[74:] = torch.arange(100, 106)
    labels = {"text": labels, "image": torch.arange(80)}
    with_labels = replace(data, pseudo_labels=labels)
    history = train(with_labels, section(batch_size=80), tmp_path / "one").history
    assert [row["positives"] for row in history] == pytest.approx([74 / 160] * 4)
    # Small batches find fewer partners, but some.
    history = train(with_labels, section(batch_size=16), tmp_path / "small").history
    assert all(0.0 < row["positives"] < 74 / 160 for row in history)


def test_every_epoch_sees_every_item_once_with_modalities_and_labels_in_line(
    section, tmp_path, monkeypatch
):
    number = torch.arange(50)
    embeddings = {
        "text": torch.stack([number.float(), torch.ones(50)], dim=1),
        "image": torch.stack([number.float(), torch.zeros(50), torch.zeros(50)], dim=1),
    }
    data = QuantizerData(embeddings, {"text": number, "image": 1000 + number})
    seen = []
    real = training.objective

    def spy(model, batch, labels, params, draws, *rest):
        rows = batch["text"][:, 0].long()
        assert torch.equal(rows, batch["image"][:, 0].long())
        assert torch.equal(rows, labels["text"])
        assert torch.equal(rows + 1000, labels["image"])
        seen.append(rows.tolist())
        return real(model, batch, labels, params, draws, *rest)

    monkeypatch.setattr(training, "objective", spy)
    params = section(standardize="none", batch_size=16, max_epochs=3, learning_rate=1e-5)
    train(data, params, tmp_path)
    assert [len(rows) for rows in seen] == [16, 16, 16, 2] * 3
    epochs = [[row for rows in seen[i : i + 4] for row in rows] for i in (0, 4, 8)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize("modalities", [["text"], ["text", "image", "sound"]])
def test_one_and_three_modalities_train(section, data, tmp_path, modalities):
    sound = torch.randn(80, 5, generator=stream(2))
    whole = QuantizerData(
        {**data.embeddings, "sound": sound},
        {**data.pseudo_labels, "sound": torch.arange(80) % 9},
    )
    chosen = QuantizerData(
        {m: whole.embeddings[m] for m in modalities},
        {m: whole.pseudo_labels[m] for m in modalities},
    )
    last = train(chosen, section(), tmp_path).history[-1]
    assert {f"use_{m}_2" for m in modalities} <= last.keys()
    assert ("contrastive" in last) == ("alignment" in last) == (len(modalities) > 1)
    assert ("positives" in last) == (len(modalities) > 1)
    assert last.get("positives", 1.0) > 0


@pytest.mark.parametrize(
    "changes", [{"lambda_con": [0.0] * 3}, {"positives": "self"}, {"positives": "none"}]
)
def test_no_share_of_positives_where_no_pseudo_label_is_consulted(
    section, data, tmp_path, caplog, changes
):
    with caplog.at_level("INFO"):
        history = train(data, section(**changes), tmp_path).history
    assert not any("positives" in row for row in history)
    assert "real positive" not in caplog.text


def test_the_share_of_real_positives_is_logged(section, data, tmp_path, caplog):
    with caplog.at_level("INFO"):
        last = train(data, section(), tmp_path).history[-1]
    assert f"{100 * last['positives']:.1f} % of items have a real positive" in caplog.text


def test_a_finished_checkpoint_drops_the_optimizer(section, data, tmp_path):
    params = section(max_epochs=2)
    saved = []

    class Spy(Checkpoints):
        def save(self, state):
            saved.append(state)
            super().save(state)

    train_quantizer(data, params, 0, FLOAT32, Spy(tmp_path, 0.0), Silent())
    assert saved[0]["optimizer"] is not None
    assert saved[-1]["optimizer"] is None
    assert Checkpoints(tmp_path, 0.0).load()["optimizer"] is None


def test_identical_items_train_without_nan(section, tmp_path, caplog):
    same = {m: torch.full((40, w), 0.1) for m, w in (("text", 8), ("image", 5))}
    data = QuantizerData(same, {m: torch.zeros(40, dtype=torch.long) for m in same})
    history = train(data, section(), tmp_path).history
    assert all(np.isfinite(list(row.values())).all() for row in history)
    assert history[-1]["collision_rate_text"] == pytest.approx(39 / 40)


@pytest.mark.parametrize("runtime", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
def test_a_loss_that_is_not_finite_names_update_learning_rate_and_last_checkpoint(
    section, data, tmp_path, runtime
):
    params = section(learning_rate=1e20)  # three updates an epoch
    with pytest.raises(MacrecError) as caught:
        train(data, params, tmp_path, every_s=0, runtime=runtime)
    half = " or set runtime.precision to 'float32'" if runtime is BFLOAT16 else ""
    assert re.fullmatch(
        r"RQ-VAE loss is (nan|inf) in epoch 1, update [23] of 3, at learning rate 1e\+20; "
        rf"lower quant\.learning_rate{half} \(last good checkpoint: none was saved\)",
        str(caught.value),
    )
    assert Checkpoints(tmp_path, NEVER).load() is None


def test_the_last_good_checkpoint_is_named_and_stays(section, data, tmp_path, monkeypatch):
    params = section()
    real = training.objective
    calls = []

    def failing(*arguments):
        calls.append(1)
        terms = real(*arguments)
        if len(calls) < 8:
            return terms
        parts = {name: part * float("nan") for name, part in terms.parts.items()}
        return replace(terms, total=terms.total * float("nan"), parts=parts)

    monkeypatch.setattr(training, "objective", failing)
    with pytest.raises(MacrecError, match=r"loss is nan in epoch 3, update 2 of 3, at") as caught:
        train(data, params, tmp_path, every_s=0)
    assert f"(last good checkpoint: {tmp_path / 'state.pt'} at epoch 2)" in str(caught.value)
    state = Checkpoints(tmp_path, NEVER).load()
    assert len(state["history"]) == 2
    assert all(t.isfinite().all() for t in state["model"].values())
    # With the cause gone it goes on from there, to the same end as if nothing had been.
    monkeypatch.setattr(training, "objective", real)
    resumed = train(data, params, tmp_path)
    assert resumed.history == train(data, params, tmp_path / "whole").history


def test_a_last_update_that_spoils_the_weights_is_noticed_before_anything_is_saved(
    section, data, tmp_path
):
    # One update an epoch: no loss has seen what it made of the weights.
    params = section(learning_rate=1e20, batch_size=80, max_epochs=6, evaluate_every=6)
    with pytest.raises(MacrecError, match=r"after epoch 1 at learning rate 1e\+20; lower quant"):
        train(data, params, tmp_path, every_s=0)
    assert Checkpoints(tmp_path, NEVER).load() is None


def test_want_of_memory_names_the_batch_size(section, data, tmp_path, monkeypatch):
    def huge(*arguments):
        return torch.empty(1 << 60)

    monkeypatch.setattr(training, "objective", huge)
    with pytest.raises(
        MacrecError, match=r"memory does not suffice \(.*\); lower quant.batch_size"
    ):
        train(data, section(), tmp_path)


def test_want_of_memory_outside_of_updates_too(section, data, tmp_path, monkeypatch):
    def huge(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(training, "measure", huge)
    with pytest.raises(MacrecError, match=r"Tried to allocate 2.00 GiB\); lower quant.batch_size"):
        train(data, section(), tmp_path)


# ------------------------------------------------------------------------------- precision


def products_of(monkeypatch):
    """Types of the operands of every linear layer and every distance from here on."""
    seen = {"linear": set(), "distances": set()}
    linear, distances = torch.nn.functional.linear, nearest.squared_distances

    def spy(x, weight, bias=None):
        output = linear(x, weight, bias)
        seen["linear"].add(output.dtype)
        return output

    def spy_distances(residual, codebook):
        found = distances(residual, codebook)
        seen["distances"].add(found[0].dtype)
        return found

    monkeypatch.setattr(torch.nn.functional, "linear", spy)
    monkeypatch.setattr(nearest, "squared_distances", spy_distances)
    return seen


@pytest.mark.parametrize("runtime", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
def test_only_encoder_and_decoder_are_of_the_lower_precision(section, monkeypatch, runtime):
    params = section()
    model, batch, labels = model_and_batch(params)
    seen = products_of(monkeypatch)
    terms = objective(model, batch, labels, params, stream(), runtime.autocast)
    assert seen == {"linear": {runtime.autocast or torch.float32}, "distances": {torch.float32}}
    assert all(part.dtype == torch.float32 for part in terms.parts.values())
    terms.total.backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    quantized, output = model["text"](batch["text"], runtime.autocast)
    assert quantized.residuals.dtype == quantized.vectors.dtype == output.dtype == torch.float32


def test_losses_of_the_lower_precision_are_those_of_float32_to_its_tolerance(section):
    params = section()
    model, batch, labels = model_and_batch(params)
    exact = objective(model, batch, labels, params, stream()).parts
    rounded = objective(model, batch, labels, params, stream(), torch.bfloat16).parts
    assert exact.keys() == rounded.keys()
    for name, part in exact.items():
        assert float(rounded[name].detach()) == pytest.approx(float(part.detach()), rel=0.05)
    assert not torch.equal(exact["recon_text"], rounded["recon_text"])


def test_the_lower_precision_learns_as_well_and_resumes_to_the_same_bytes(section, data, tmp_path):
    params = section(**LEARNS)
    whole = train(data, params, tmp_path / "whole", runtime=BFLOAT16)
    assert whole.history[-1]["unexplained_text"] < 0.2
    assert all(t.dtype == torch.float32 for t in whole.model.state_dict().values())
    with pytest.raises(Interrupted):
        train(data, params, tmp_path / "cut", 0, 0, StopAfter(7), BFLOAT16)
    resumed = train(data, params, tmp_path / "cut", runtime=BFLOAT16)
    assert exported(resumed, params, tmp_path / "a") == exported(whole, params, tmp_path / "b")


def test_collisions_are_counted_in_float32_as_assignment_will(section, data, tmp_path):
    trained = train(data, section(max_epochs=8), tmp_path, runtime=BFLOAT16)
    for name, embeddings in data.embeddings.items():
        codes = encode_items(trained.model, name, embeddings)[1].numpy()
        assert trained.history[-1][f"collision_rate_{name}"] == collision_rate(codes)


LEARNS = {
    "learning_rate": 0.01, "max_epochs": 40, "evaluate_every": 40, "hidden_sizes": [16],
    "batch_size": 16, "codebook_size": 8,
}  # fmt: skip


def test_a_good_quantizer_explains_the_data_without_a_warning(section, data, tmp_path, caplog):
    last = train(data, section(**LEARNS), tmp_path).history[-1]
    assert last["unexplained_text"] < 0.2
    assert last["unexplained_image"] < 0.2
    assert "collapsed" not in caplog.text


def test_a_quantizer_that_contrast_collapses_is_told(section, data, tmp_path, caplog):
    params = section(**LEARNS | {"reduction": "mean", "lambda_con": [10.0] * 3})
    last = train(data, params, tmp_path).history[-1]
    assert last["unexplained_text"] > 0.9
    assert "text: the quantizer looks collapsed" in caplog.text
    assert f"{100 * last['unexplained_text']:.0f} % of the variance unexplained" in caplog.text


def test_a_first_batch_smaller_than_the_codebook_is_told(section, data, tmp_path, caplog):
    train(data, section(codebook_size=40, max_epochs=1), tmp_path)
    assert "first batch of 32 items seeds 40 codes" in caplog.text


def test_measure_by_hand(section):
    """A quantizer of one level that maps every item to one of two codes."""
    params = section(num_levels=1, codebook_size=4, lambda_con=[0.0])
    model = CrossModalRQVAE({"text": 2}, params)
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 4.0]])

    class Fixed(torch.nn.Module):
        def encode(self, chunk):
            return chunk

        def quantizer(self, latent):
            codes = (latent[:, :1] > 0).long()
            return Quantized(codes, latent[None], latent[None], latent)

        def decode(self, quantized, autocast):
            first = quantized.latent[:, :1]
            return torch.cat([first, torch.zeros(len(first), 1)], dim=1)

    fixed = {"text": Fixed()}
    model.__class__ = type("Stub", (CrossModalRQVAE,), {"__getitem__": lambda _, m: fixed[m]})
    found = measure(model, {"text": embeddings}, {"text": total_variance(embeddings)}, params)
    # Errors: 16 in all. Variance about the mean (0, 1): 4 + (1 + 1 + 1 + 9) = 16.
    assert found == {
        "collision_rate_text": 0.5,
        "unexplained_text": 1.0,
        "use_text_0": 0.5,
    }


def test_encode_items_gives_latents_and_nearest_codes_of_raw_embeddings(section, data, tmp_path):
    model = train(data, section(), tmp_path).model
    latents, codes = encode_items(model, "text", data.embeddings["text"])
    part = model["text"]
    scaled = (data.embeddings["text"] - part.mean) / part.scale
    torch.testing.assert_close(latents, part.encoder(scaled).detach())
    residual = latents.double()
    for level, codebook in enumerate(part.quantizer.codebooks.detach().double()):
        distance = (residual[:, None] - codebook).norm(dim=2)
        chosen = distance.gather(1, codes[:, level : level + 1])[:, 0]
        assert (chosen <= distance.min(dim=1).values + 1e-4).all()
        residual = residual - codebook[codes[:, level]]
    assert not latents.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_one_seed_gives_the_same_bytes_twice_on_a_gpu(section, data, tmp_path):
    params, cuda, found = section(), Runtime(torch.device("cuda"), None), []
    torch.use_deterministic_algorithms(True)
    for i in range(2):
        checkpoints = Checkpoints(tmp_path / f"s{i}", NEVER)
        trained = train_quantizer(data, params, 0, cuda, checkpoints, Silent())
        found.append(exported(trained, params, tmp_path / f"q{i}"))
    assert found[0] == found[1]
