from __future__ import annotations

import math

import pytest
import torch

from macrec_core.contrastive import info_nce, uniformity


def test_inner_product_by_hand():
    anchors = torch.tensor([[1.0, 2.0]])
    candidates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    # Scores 1, 2, 3 over tau = 2.
    denominator = math.exp(0.5) + math.exp(1.0) + math.exp(1.5)
    for row, score in enumerate((0.5, 1.0, 1.5)):
        value = info_nce(anchors, candidates, torch.tensor([row]), 2.0, "inner_product")
        assert float(value) == pytest.approx(math.log(denominator) - score)


def test_cosine_by_hand_and_without_regard_to_length():
    anchors = torch.tensor([[3.0, 0.0]])
    candidates = torch.tensor([[5.0, 0.0], [0.0, 0.1]])
    expected = math.log(math.exp(10) + 1) - 10  # cosines 1 and 0 over tau = 0.1
    value = info_nce(anchors, candidates, torch.tensor([0]), 0.1, "cosine")
    assert float(value) == pytest.approx(expected, abs=1e-6)
    longer = info_nce(7 * anchors, 2 * candidates, torch.tensor([1]), 0.1, "cosine")
    assert float(longer) == pytest.approx(expected + 10, rel=1e-6)


def test_it_is_the_mean_over_the_anchors():
    draws = torch.Generator().manual_seed(0)
    anchors, candidates = torch.randn(2, 5, 3, generator=draws)
    positives = torch.tensor([4, 0, 0, 2, 1])
    single = [
        info_nce(anchors[i : i + 1], candidates, positives[i : i + 1], 0.3, "inner_product")
        for i in range(5)
    ]
    value = info_nce(anchors, candidates, positives, 0.3, "inner_product")
    torch.testing.assert_close(value, torch.stack(single).mean())


def test_equal_candidates_give_the_logarithm_of_their_number():
    same = torch.ones(7, 3)
    value = info_nce(same, same, torch.arange(7), 0.1, "inner_product")
    assert float(value) == pytest.approx(math.log(7))


def test_one_candidate_gives_zero_with_zero_gradient():
    anchor = torch.tensor([[1.0, -2.0]], requires_grad=True)
    value = info_nce(anchor, anchor, torch.tensor([0]), 0.1, "inner_product")
    value.backward()
    assert float(value.detach()) == 0.0
    assert anchor.grad.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("similarity", ["inner_product", "cosine"])
def test_large_and_zero_vectors_stay_finite(similarity):
    anchors = torch.tensor([[0.0, 0.0], [1e4, 1e4]], requires_grad=True)
    value = info_nce(anchors, anchors, torch.arange(2), 0.01, similarity)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(anchors.grad).all()


def test_a_row_left_out_is_no_candidate():
    anchors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    candidates = torch.tensor([[1.0, 0.0], [2.0, 1.0], [3.0, 3.0]])
    # Scores 1, 2, 3 and 0, 1, 3; without the first, and without the last candidate.
    expected = (math.log(math.e**2 + math.e**3) - 3 + math.log(1 + math.e) - 1) / 2
    value = info_nce(
        anchors, candidates, torch.tensor([2, 1]), 1.0, "inner_product", torch.tensor([0, 2])
    )
    assert float(value) == pytest.approx(expected)


def test_uniformity_by_hand():
    # Inner products: <0,1> = 1, <0,2> = 2, <1,2> = -1; tau = 2.
    points = torch.tensor([[1.0, 1.0], [0.0, 1.0], [3.0, -1.0]])
    e = math.exp
    first, second, third = e(0.5) + e(1.0), e(0.5) + e(-0.5), e(1.0) + e(-0.5)
    expected = sum(map(math.log, (first, second, third))) / 3
    assert float(uniformity(points, 2.0, "inner_product")) == pytest.approx(expected)


def test_uniformity_of_cosines_by_hand_and_without_regard_to_length():
    points = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-3.0, 0.0]])  # cosines 0, -1; 0, 0; -1, 0
    expected = (2 * math.log(1 + math.exp(-10)) + math.log(2)) / 3
    assert float(uniformity(points, 0.1, "cosine")) == pytest.approx(expected)
    assert float(uniformity(points * 4, 0.1, "cosine")) == pytest.approx(expected)


def test_uniformity_pushes_apart_what_is_close():
    points = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(uniformity(points, 0.5, "cosine"), [points])
    assert torch.isfinite(gradient).all()
    # Downhill, the first turns away from the second, its neighbour, and the second from it.
    assert -gradient[0, 1] < 0 < -gradient[1, 1]


def test_a_single_point_has_none_to_be_pushed_from():
    points = torch.ones(1, 3, requires_grad=True)
    value = uniformity(points, 0.1, "inner_product")
    value.backward()
    assert float(value.detach()) == 0.0
    assert torch.equal(points.grad, torch.zeros(1, 3))
