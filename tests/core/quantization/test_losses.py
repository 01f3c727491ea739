"""Eqs. 4-11, each against a value worked out by hand, and the draw of positives."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from macrec_core.quantization import losses

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=60)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------ draw_positives


@settings(deadline=None, max_examples=150, derandomize=True)
@given(LABELS, st.integers(0, 2**31))
def test_a_positive_is_another_item_of_the_same_label_wherever_one_exists(values, seed):
    labels = torch.tensor(values)
    positives, found = losses.draw_positives(labels, stream(seed))
    assert positives.dtype == torch.int64
    assert positives.shape == found.shape == labels.shape
    for item, (positive, has) in enumerate(zip(positives.tolist(), found.tolist(), strict=True)):
        assert has == (values.count(values[item]) > 1)
        assert values[positive] == values[item]
        assert (positive == item) == (not has)


def test_partners_are_drawn_uniformly():
    # Two groups of 6 and 4, interleaved, and one item alone.
    values = [0, 1, 0, 1, 2, 0, 0, 1, 0, 1, 0]
    labels, draws, rounds = torch.tensor(values), stream(7), 4000
    counts = torch.zeros(len(values), len(values))
    for _ in range(rounds):
        positives, _ = losses.draw_positives(labels, draws)
        counts[torch.arange(len(values)), positives] += 1
    for item, value in enumerate(values):
        partners = [j for j, v in enumerate(values) if v == value and j != item]
        if not partners:
            assert counts[item, item] == rounds
            continue
        expected = rounds / len(partners)
        chi_square = float(((counts[item, partners] - expected) ** 2 / expected).sum())
        # 99.9 % quantiles of chi-square with 4 and 2 degrees of freedom: 18.5 and 13.8.
        assert counts[item, partners].sum() == rounds
        assert chi_square < {5: 18.5, 3: 13.8}[len(partners)]


def test_draws_follow_the_generator():
    labels = torch.arange(60) % 4
    first, again, other = (losses.draw_positives(labels, stream(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# ---------------------------------------------------------------------- L_con and L_align


def test_contrastive_loss_is_eq_4_by_hand():
    # r_0 = (1, 0), r_1 = (0, 1), r_2 = (1, 1), tau = 1; positives 2, 2, 0.
    residuals = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    e, one = math.e, 1.0
    first = -math.log(e / (e + one + e))  # <r0,r2>=1 of <r0,r0>=1, <r0,r1>=0, <r0,r2>=1
    second = -math.log(e / (one + e + e))
    third = -math.log(e / (e + e + e**2))  # <r2,r0>=1 of 1, 1, 2
    value = losses.contrastive_loss(residuals, torch.tensor([2, 2, 0]), 1.0, "inner_product")
    assert float(value) == pytest.approx((first + second + third) / 3)


def test_alignment_loss_is_eq_7_by_hand():
    first = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    second = torch.tensor([[0.0, 1.0], [3.0, 1.0]])
    # tau = 0.5 doubles: <1,1'>=0, <1,2'>=3; <2,1'>=2, <2,2'>=2.
    expected = (-math.log(1 / (1 + math.exp(6))) + math.log(2)) / 2
    value = losses.alignment_loss(first, second, 0.5, "inner_product")
    assert float(value) == pytest.approx(expected)
    # Eq. 8: the other direction has the other denominators.
    back = (math.log(1 + math.exp(4)) + math.log(math.exp(6) + math.exp(4)) - 4) / 2
    assert float(losses.alignment_loss(second, first, 0.5, "inner_product")) == pytest.approx(back)


@pytest.mark.parametrize("similarity", ["inner_product", "cosine"])
def test_alignment_pairs_by_item(similarity):
    first, second = torch.randn(2, 12, 4, generator=stream(3))
    order = torch.randperm(12, generator=stream(4))
    value = losses.alignment_loss(first, second, 0.1, similarity)
    both = losses.alignment_loss(first[order], second[order], 0.1, similarity)
    one = losses.alignment_loss(first, second[order], 0.1, similarity)
    torch.testing.assert_close(both, value)
    assert abs(float(one - value)) > 0.1


# ------------------------------------------------------------------- pushing apart alone


def test_uniformity_loss_by_hand():
    # r_0 = (1, 0), r_1 = (0, 1), r_2 = (1, 1), tau = 1: the others' products, not one's own.
    residuals = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    expected = (math.log(1 + math.e) + math.log(1 + math.e) + math.log(2 * math.e)) / 3
    value = losses.uniformity_loss(residuals, 1.0, "inner_product")
    assert float(value) == pytest.approx(expected)


def test_with_cosines_an_item_as_its_own_positive_is_pushed_as_without_any():
    residuals = torch.randn(9, 4, generator=stream(5), dtype=torch.float64, requires_grad=True)
    tau, itself = 0.5, torch.arange(9)
    unit = residuals / residuals.norm(dim=1, keepdim=True)
    others = (unit @ unit.T / tau).masked_fill(torch.eye(9).bool(), -torch.inf).logsumexp(1)
    expected = torch.log(1 + torch.exp(others - 1 / tau)).mean()
    value = losses.contrastive_loss(residuals, itself, tau, "cosine")
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------------- LETTER's terms


def test_collaborative_loss_by_hand():
    quantized = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    collaborative = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
    # <z0,h0> = 2, <z0,h1> = 0; <z1,h0> = 2, <z1,h1> = 2; tau = 1.
    expected = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    value = losses.collaborative_loss(quantized, collaborative, 1.0, "inner_product")
    assert float(value) == pytest.approx(expected)


def test_diversity_loss_by_hand():
    codebook = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [1.0, 1.0]])
    # Code 0: products with 1, 2, 3 are 0, 2, 1, its own 1 does not count; drawn to 2.
    first = math.log(1 + math.exp(2) + math.exp(1)) - 2
    # Code 3: products with 0, 1, 2 are 1, 1, 3; drawn to 0.
    second = math.log(2 * math.exp(1) + math.exp(3)) - 1
    value = losses.diversity_loss(
        codebook, torch.tensor([0, 3]), torch.tensor([2, 0]), 1.0, "inner_product"
    )
    assert float(value) == pytest.approx((first + second) / 2)


def test_diversity_draws_a_code_to_its_partner():
    codebook = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.2]], requires_grad=True)
    loss = losses.diversity_loss(codebook, torch.tensor([0]), torch.tensor([1]), 1.0, "cosine")
    (gradient,) = torch.autograd.grad(loss, [codebook])
    assert torch.isfinite(gradient).all()
    # Downhill the code goes towards its partner, and its partner towards it.
    assert -gradient[0, 1] > 0 and -gradient[1, 0] > 0


# ------------------------------------------------------------------------------ Eqs. 10-11

TARGET = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
OUTPUT = torch.tensor([[0.0, 0.0], [3.0, 3.0]])
# Squared norms 1 + 4 = 5 and 9 + 16 = 25.


@pytest.mark.parametrize(("reduction", "expected"), [("sum", 15.0), ("mean", 7.5)])
def test_reconstruction_loss_by_hand(reduction, expected):
    assert float(losses.reconstruction_loss(TARGET, OUTPUT, reduction)) == expected


@pytest.mark.parametrize(("reduction", "expected"), [("sum", 17.0), ("mean", 8.5)])
@pytest.mark.parametrize("term", [losses.codebook_loss, losses.commitment_loss])
def test_codebook_and_commitment_are_summed_over_levels(term, reduction, expected):
    # Second level: squared norms 4 and 0, mean 2 (or 1 a dimension).
    residuals = torch.stack([TARGET, torch.tensor([[2.0, 0.0], [1.0, 1.0]])])
    vectors = torch.stack([OUTPUT, torch.tensor([[0.0, 0.0], [1.0, 1.0]])])
    assert float(term(residuals, vectors, reduction)) == expected


def test_codebook_loss_moves_codes_only_and_commitment_residuals_only():
    residuals, vectors = (t.requires_grad_() for t in torch.randn(2, 3, 5, 4, generator=stream()))
    losses.codebook_loss(residuals, vectors, "sum").backward()
    assert residuals.grad is None
    # d/de of the batch mean of |r - e|^2 is 2 (e - r) / B.
    torch.testing.assert_close(vectors.grad, 2 * (vectors - residuals).detach() / 5)
    vectors.grad = None
    losses.commitment_loss(residuals, vectors, "sum").backward()
    assert vectors.grad is None
    torch.testing.assert_close(residuals.grad, 2 * (residuals - vectors).detach() / 5)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("of", ["target", "output", "both"])
def test_squared_errors_have_the_value_and_the_gradients_of_the_formula(reduction, of):
    draws = torch.Generator().manual_seed(3)
    target, output = (torch.randn(7, 5, generator=draws).double() for _ in range(2))
    target.requires_grad_(of != "output")
    output.requires_grad_(of != "target")
    squares = (target - output).square()
    expected = squares.sum(dim=1).mean() if reduction == "sum" else squares.mean()
    found = losses.reconstruction_loss(target, output, reduction)
    torch.testing.assert_close(found, expected)
    leaves = [t for t in (target, output) if t.requires_grad]
    for got, wanted in zip(
        torch.autograd.grad(3 * found, leaves),
        torch.autograd.grad(3 * expected, leaves),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


def test_squared_errors_of_equal_vectors_have_no_gradient():
    target, output = torch.ones(2, 3), torch.ones(2, 3, requires_grad=True)
    loss = losses.reconstruction_loss(target, output, "sum")
    assert float(loss.detach()) == 0.0
    loss.backward()
    assert torch.equal(output.grad, torch.zeros(2, 3))
