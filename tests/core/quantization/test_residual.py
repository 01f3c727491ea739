"""Residual quantization (Eqs. 2-3): arithmetic, nearest codes, and where gradients go."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from macrec_core.quantization.residual import ResidualQuantizer


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def quantizer(levels=3, size=5, dim=4, gradient="flows", seed=0):
    made = ResidualQuantizer(levels, size, dim, gradient)
    with torch.no_grad():
        made.codebooks.copy_(torch.randn(levels, size, dim, generator=stream(seed)))
    return made


def test_two_levels_by_hand():
    made = quantizer(levels=2, size=2, dim=1)
    with torch.no_grad():
        made.codebooks.copy_(torch.tensor([[[0.0], [10.0]], [[-1.0], [2.0]]]))
    outcome = made(torch.tensor([[1.0], [8.5]]))
    assert outcome.codes.tolist() == [[0, 1], [1, 0]]
    assert outcome.residuals.tolist() == [[[1.0], [8.5]], [[1.0], [-1.5]]]
    assert outcome.vectors.tolist() == [[[0.0], [10.0]], [[2.0], [-1.0]]]
    assert outcome.last_residual.tolist() == [[-1.0], [-0.5]]
    assert outcome.straight_through.tolist() == [[2.0], [9.0]]


SHAPES = {
    "levels": st.integers(1, 5),
    "size": st.integers(2, 9),
    "dim": st.integers(1, 6),
    "batch": st.integers(1, 40),
    "scale": st.sampled_from([0.01, 1.0, 30.0]),
    "gradient": st.sampled_from(["flows", "blocked"]),
    "seed": st.integers(0, 1000),
}


@settings(deadline=None, max_examples=80, derandomize=True)
@given(**SHAPES)
def test_code_vectors_and_last_residual_add_up_to_the_latent(
    levels, size, dim, batch, scale, gradient, seed
):
    made = quantizer(levels, size, dim, gradient, seed)
    latent = scale * torch.randn(batch, dim, generator=stream(seed + 1))
    outcome = made(latent)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(outcome.vectors.sum(0) + outcome.last_residual, latent, **close)
    torch.testing.assert_close(outcome.straight_through, outcome.vectors.sum(0), **close)
    torch.testing.assert_close(outcome.shared_gradient, outcome.vectors.sum(0), **close)
    assert torch.equal(outcome.latent, latent)
    later = torch.cat([outcome.residuals[1:], outcome.last_residual[None]])
    torch.testing.assert_close(later, outcome.residuals - outcome.vectors, **close)


@settings(deadline=None, max_examples=80, derandomize=True)
@given(**SHAPES)
def test_each_code_is_the_nearest_to_its_residual(levels, size, dim, batch, scale, gradient, seed):
    made = quantizer(levels, size, dim, gradient, seed)
    outcome = made(scale * torch.randn(batch, dim, generator=stream(seed + 1)))
    codebooks = made.codebooks.detach().double()
    for level in range(levels):
        residual = outcome.residuals[level].detach().double()
        distance = (residual[:, None] - codebooks[level]).norm(dim=2)  # [B, M]
        chosen = distance.gather(1, outcome.codes[:, level : level + 1])[:, 0]
        # float32 may decide a tie either way.
        assert (chosen <= distance.min(dim=1).values + 1e-3 * scale).all()
        expected = made.codebooks[level][outcome.codes[:, level]]
        assert torch.equal(outcome.vectors[level], expected)


def test_straight_through_passes_the_gradient_to_the_latent_unchanged_and_not_to_the_codes():
    made = quantizer()
    latent = torch.randn(6, 4, generator=stream(2)).requires_grad_()
    direction = torch.randn(6, 4, generator=stream(3))
    (made(latent).straight_through * direction).sum().backward()
    torch.testing.assert_close(latent.grad, direction)
    assert made.codebooks.grad is None


def test_shared_gradient_reaches_latent_and_every_codebook():
    made = quantizer()
    latent = torch.randn(6, 4, generator=stream(2)).requires_grad_()
    direction = torch.randn(6, 4, generator=stream(3))
    outcome = made(latent)
    (outcome.shared_gradient * direction).sum().backward()
    torch.testing.assert_close(latent.grad, direction)
    expected = torch.zeros(3, 5, 4)
    for level in range(3):
        expected[level].index_add_(0, outcome.codes[:, level], direction)
    torch.testing.assert_close(made.codebooks.grad, expected)


@pytest.mark.parametrize("level", range(3))
def test_a_residual_that_flows_has_the_gradient_of_the_latent(level):
    made = quantizer(gradient="flows")
    latent = torch.randn(6, 4, generator=stream(2)).requires_grad_()
    made(latent).residuals[level].sum().backward()
    assert torch.equal(latent.grad, torch.ones(6, 4))
    assert made.codebooks.grad is None


@pytest.mark.parametrize("level", range(3))
def test_a_blocked_residual_has_no_gradient_beyond_the_first_level(level):
    made = quantizer(gradient="blocked")
    latent = torch.randn(6, 4, generator=stream(2)).requires_grad_()
    made(latent).residuals[level].sum().backward()
    assert torch.equal(latent.grad, torch.full((6, 4), 1.0 if level == 0 else 0.0))


def test_flows_and_blocked_have_the_same_values():
    latent = torch.randn(6, 4, generator=stream(2))
    flows, blocked = (quantizer(gradient=g)(latent) for g in ("flows", "blocked"))
    assert torch.equal(flows.codes, blocked.codes)
    torch.testing.assert_close(flows.residuals, blocked.residuals)


def test_initialise_starts_each_level_from_the_residuals_of_the_one_before():
    centres = torch.tensor([[0.0, 0.0], [40.0, 0.0], [0.0, 40.0]])
    offsets = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    latent = (centres[:, None] + offsets).reshape(9, 2)
    made = quantizer(levels=2, size=3, dim=2)
    made.initialise(latent, 10, stream(1))
    # Two levels explain a grid of 3 x 3 points wholly, so all nine IDs occur.
    outcome = made(latent)
    assert float(outcome.last_residual.detach().abs().max()) < 1e-5
    assert len(torch.unique(outcome.codes, dim=0)) == 9


def test_initialise_is_deterministic_and_keeps_gradients():
    latent = torch.randn(30, 4, generator=stream(2))
    first, again = quantizer(seed=1), quantizer(seed=2)
    for made in (first, again):
        made.initialise(latent, 5, stream(6))
    assert torch.equal(first.codebooks, again.codebooks)
    assert first.codebooks.requires_grad
