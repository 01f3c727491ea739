"""The benchmark of assignment at toy size: plain and ours give the same IDs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import sid_assignment


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(sid_assignment, "_CLUSTERS", 5)
    monkeypatch.setattr(sid_assignment, "_CODES", 6)
    monkeypatch.setattr(sid_assignment, "_DIM", 4)
    monkeypatch.setattr(sid_assignment, "_PART", 250)
    monkeypatch.setattr(sid_assignment, "matrix_rate", lambda dtype: 50.0)


@pytest.mark.parametrize("copies", [False, True])
def test_plain_and_ours_give_the_same_unique_ids(copies):
    latents, codebooks = sid_assignment.made_up(600, copies)
    ours = sid_assignment.assign(latents, codebooks)
    plain = sid_assignment.assign_plainly(latents, codebooks)
    assert np.array_equal(ours.codes, plain)
    assert len(np.unique(plain, axis=0)) == 600
    assert ours.num_moved > 50


def test_copies_are_exact_or_nearly_so():
    plain, copies = (sid_assignment.made_up(600, kind)[0] for kind in (False, True))
    assert len(np.unique(plain, axis=0)) == 600
    assert len(np.unique(copies, axis=0)) < 550


@pytest.mark.parametrize("count", [50, 200])
def test_measure_at_toy_size(monkeypatch, count):
    monkeypatch.setattr(sid_assignment, "_LARGEST_PLAIN", 100)
    took, plain_took, rate, peak, (moved, above) = sid_assignment.measure(count, False)
    assert took > 0
    assert (plain_took is None) == (count == 200)
    assert rate == 50.0
    assert 10 < peak < 100_000
    assert 0 <= above <= moved < count
