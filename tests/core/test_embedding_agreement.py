from __future__ import annotations

import numpy as np
import pytest

from macrec_core.embedding_agreement import (
    agreement,
    alike_by_chance,
    classes_of,
    last_categories,
    neighbours_alike,
    purity,
    purity_by_chance,
)


@pytest.fixture
def plot(committed_params):
    """`embedding_plot` with two neighbours."""
    return committed_params.embedding_plot.model_copy(update={"neighbours": 2})


def test_classes_come_by_frequency_then_name_and_empty_values_have_none():
    found = classes_of(["b", None, "a", " c ", "c", "", "b", "b "])
    assert found.names == ("b", "c", "a")
    assert found.labels.tolist() == [0, -1, 2, 1, 1, -1, 0, 0]
    assert found.known.tolist() == [True, False, True, True, True, False, True, True]


def test_the_type_is_the_last_category():
    values = ["Instruments, Guitars, Strings", "Drums", None, ""]
    assert last_categories(values) == ["Strings", "Drums", "", ""]


def test_purity_by_hand():
    # Cluster 0: two of class 0, one of 1; cluster 2: one of 1, one of 2.
    clusters, labels = np.array([0, 0, 0, 2, 2]), np.array([0, 0, 1, 1, 2])
    assert purity(clusters, labels) == pytest.approx((2 + 1) / 5)
    assert purity(labels, labels) == 1.0


def test_chance_of_purity_is_high_for_small_clusters():
    labels = np.repeat([0, 1], 50)
    rng = np.random.default_rng(0)
    alone = purity_by_chance(np.arange(100), labels, 20, rng)
    whole = purity_by_chance(np.zeros(100, int), labels, 20, rng)
    # Of two shuffled items in a cluster the expected share of the commoner class: with p of a
    # pair being alike 49/99, (2 * 49/99 + 1 * 50/99) / 2.
    pairs = purity_by_chance(np.arange(100) // 2, labels, 300, rng)
    assert (alone, whole) == (1.0, 0.5)
    assert pairs == pytest.approx((2 * 49 / 99 + 50 / 99) / 2, abs=0.01)


def test_chance_of_alike_neighbours_by_hand():
    # 3 of one class, 1 of another: ordered pairs alike 3 * 2 of 4 * 3.
    assert alike_by_chance(np.array([0, 0, 0, 1])) == pytest.approx(6 / 12)


def test_neighbours_are_the_nearest_by_cosine_with_the_attribute(monkeypatch):
    angles = np.radians([0, 10, 20, 90, 100, 110])
    # Lengths must not matter.
    vectors = (
        np.stack([np.cos(angles), np.sin(angles)], 1) * [[1], [9], [2], [1], [5], [1]]
    ).astype(np.float32)
    attributes = {
        "brand": classes_of(list("aaabbb")),
        "type": classes_of(["x", None, "y", "x", "y", None]),
    }
    found = neighbours_alike(vectors, attributes, 1)
    assert found["brand"] == 1.0
    # Of items 0, 2, 3, 4: the nearest of 0 is 2 (no), of 2 is 0 (no), of 3 is 4, of 4 is 3 (no).
    assert found["type"] == 0.0
    # Two neighbours: 0 has 2 and 3 (one alike), 2: 0 and 3 (none), 3: 4, 2 (none), 4: 3, 2 (one).
    assert neighbours_alike(vectors, attributes, 2)["type"] == pytest.approx(2 / 8)
    # More neighbours than others: all others.
    assert neighbours_alike(vectors, attributes, 50)["type"] == pytest.approx(4 / 12)
    whole = neighbours_alike(vectors, attributes, 2)
    monkeypatch.setattr("macrec_core.embedding_agreement._ROWS", 2)
    assert neighbours_alike(vectors, attributes, 2) == whole


def test_agreement_counts_and_compares_with_chance(plot):
    rng = np.random.default_rng(0)
    brands = np.repeat(np.arange(5), 20)
    vectors = (np.eye(5)[brands] + rng.normal(0, 0.05, (100, 5))).astype(np.float32)
    names = [f"brand {b}" if n else None for n, b in enumerate(brands)]
    attributes = {
        "brand": classes_of(names),
        "type": classes_of([str(t) for t in rng.integers(0, 4, 100)]),
        "maker": classes_of(["one", *[None] * 99]),
    }
    found = agreement(vectors, brands, attributes, plot)
    brand, kind = found["brand"], found["type"]
    assert (brand["classes"], brand["without"]) == (5, 1)
    assert brand["purity"] == brand["neighbours"] == 1.0
    assert brand["purity_chance"] < 0.45
    assert brand["neighbours_chance"] == pytest.approx(0.19, abs=0.02)
    # A type that has nothing to do with the vectors is where chance puts it.
    assert kind["purity"] == pytest.approx(kind["purity_chance"], abs=0.1)
    assert kind["neighbours"] == pytest.approx(kind["neighbours_chance"], abs=0.1)
    # One item with a class has nothing to agree with.
    assert "maker" not in found
    assert agreement(vectors, brands, attributes, plot) == found
