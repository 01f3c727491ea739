"""Nearest codes: the fast way gives the direct formula's codes, in every batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from macrec_core.quantization import nearest
from macrec_core.quantization.nearest import (
    nearest_code,
    nearest_codes,
    nearest_directly,
    squared_distances,
)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@st.composite
def cases(draw):
    """Residuals [B, d] and a codebook [M, d], often with ties or what rounding makes one."""
    batch, size, dim = draw(st.integers(0, 50)), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    residual, codebook = rng.normal(size=(batch, dim)), rng.normal(size=(size, dim))
    kind = draw(st.sampled_from(["plain", "grid", "equal codes", "close codes", "far away"]))
    if kind == "grid":
        residual, codebook = np.round(residual), np.round(codebook)
    elif kind == "equal codes":
        codebook = codebook[rng.integers(0, 1 + size // 3, size)]
    elif kind == "close codes":
        codebook = codebook[:1] * (1 + 1e-7 * rng.normal(size=codebook.shape))
    elif kind == "far away":
        residual, codebook = residual + 1000, codebook + 1000
    scale = draw(st.sampled_from([1e-40, 1e-25, 1e-18, 1e-3, 1.0, 1e10, 1e19, 1e30]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return torch.tensor(scale * residual, dtype=dtype), torch.tensor(scale * codebook, dtype=dtype)


@settings(deadline=None, max_examples=400, derandomize=True)
@given(cases())
def test_codes_are_those_of_the_direct_formula(case):
    residual, codebook = case
    found = nearest_code(residual, codebook)
    assert found.dtype == torch.int64
    assert torch.equal(found, nearest_directly(residual, codebook))


def test_the_product_alone_would_not_do():
    """The case that the second look is for: the test above could not fail without it."""
    residual = 1000 + torch.randn(500, 32, generator=stream(1))
    codebook = 1000 + torch.randn(256, 32, generator=stream(2))
    product = squared_distances(residual, codebook)[0].argmin(dim=1)
    directly = nearest_directly(residual, codebook)
    assert (product != directly).sum() > 100
    assert torch.equal(nearest_code(residual, codebook), directly)


def test_an_ordinary_batch_is_decided_by_the_product(monkeypatch):
    looked = []
    real = nearest.nearest_directly

    def spy(residual, codebook):
        looked.append(len(residual))
        return real(residual, codebook)

    monkeypatch.setattr(nearest, "nearest_directly", spy)
    nearest_code(torch.randn(4000, 32, generator=stream(1)), torch.randn(256, 32))
    assert sum(looked) < 40


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_an_item_has_the_same_code_in_every_batch(monkeypatch, rows):
    residual = torch.randn(300, 32, generator=stream(1))
    codebook = residual[:64] + 1e-7 * torch.randn(64, 32, generator=stream(2))
    codebook = codebook.repeat(4, 1)
    whole = nearest_code(residual, codebook)
    monkeypatch.setattr(nearest, "_ROWS", rows)
    assert torch.equal(nearest_code(residual, codebook), whole)
    alone = [int(nearest_code(residual[i : i + 1], codebook)) for i in range(300)]
    assert alone == whole.tolist()


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_is_no_number_is_decided_directly(odd):
    residual, codebook = torch.randn(20, 4, generator=stream(1)), torch.randn(8, 4)
    residual[3, 2] = odd
    assert torch.equal(nearest_code(residual, codebook), nearest_directly(residual, codebook))
    codebook[5, 0] = odd
    assert torch.equal(nearest_code(residual, codebook), nearest_directly(residual, codebook))


@settings(deadline=None, max_examples=200, derandomize=True)
@given(cases())
def test_margins_bound_what_the_product_gets_wrong(case):
    residual, codebook = (part.double() for part in case)
    distances, margins = squared_distances(*case)
    exact = (residual[:, None] - codebook).square().sum(dim=2) - residual.square().sum(dim=1)[
        :, None
    ]
    for found, true, margin in zip(distances.double(), exact, margins.double(), strict=True):
        if margin.isfinite():
            # Of a difference of two values each may have half of the margin, and rarely needs it.
            assert float((found - true).abs().max()) <= float(margin) / 2


@pytest.mark.parametrize("rows", [3, 4096])
def test_codes_of_a_catalogue_go_level_by_level(monkeypatch, rows):
    monkeypatch.setattr(nearest, "_ROWS", rows)
    latents = torch.randn(50, 6, generator=stream(1))
    codebooks = torch.randn(3, 9, 6, generator=stream(2))
    found = nearest_codes(latents, codebooks)
    assert found.dtype == torch.int32
    residual = latents
    for level, codebook in enumerate(codebooks):
        code = nearest_directly(residual, codebook)
        assert torch.equal(found[:, level].long(), code)
        residual = residual - codebook[code]
