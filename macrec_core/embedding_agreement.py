"""How far embeddings, and the pseudo-labels made of them, agree with brand and type (Figure 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from macrec_core.params.evaluation import EmbeddingPlotParams

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]

# Rows of similarities [rows, N] at once, which bounds memory.
_ROWS = 1024
_NONE = -1


@dataclass(frozen=True)
class Classes:
    """Items by one attribute.

    Attributes:
        labels: [N] number of each item's class, -1 for an item without one.
        names: of the classes, most frequent first, then by name.
    """

    labels: Integers
    names: tuple[str, ...]

    @property
    def known(self) -> NDArray[np.bool_]:
        """[N] whether an item has a class."""
        return np.not_equal(self.labels, _NONE)


def classes_of(values: Sequence[str | None]) -> Classes:
    """Classes of an attribute's values; empty and absent ones have none."""
    texts = [(value or "").strip() for value in values]
    counts: dict[str, int] = {}
    for text in texts:
        if text:
            counts[text] = counts.get(text, 0) + 1
    names = tuple(sorted(counts, key=lambda name: (-counts[name], name)))
    number = {name: place for place, name in enumerate(names)} | {"": _NONE}
    return Classes(np.array([number[text] for text in texts], dtype=np.int64), names)


def last_categories(values: Sequence[str | None]) -> list[str]:
    """An item's type: the last, most special, of its categories."""
    return [(value or "").rsplit(",", 1)[-1].strip() for value in values]


def purity(clusters: Integers, labels: Integers) -> float:
    """Share of items that are of their cluster's commonest class."""
    table = np.zeros((int(clusters.max()) + 1, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(table, (clusters, labels), 1)
    return float(table.max(axis=1).sum() / len(labels))


def purity_by_chance(
    clusters: Integers, labels: Integers, draws: int, rng: np.random.Generator
) -> float:
    """Mean purity of shuffled classes: clusters that are small are pure by chance alone."""
    return float(np.mean([purity(clusters, rng.permutation(labels)) for _ in range(draws)]))


def alike_by_chance(labels: Integers) -> float:
    """Chance that another item is of the same class, averaged over items."""
    counts = np.bincount(labels)
    count = len(labels)
    return float((counts * (counts - 1)).sum() / (count * (count - 1)))


def neighbours_alike(
    vectors: Floats, attributes: Mapping[str, Classes], count: int
) -> dict[str, float]:
    """By attribute, the share of each item's nearest by cosine that are of its class, averaged.

    Neighbours are sought among the items that have the attribute.

    Args:
        vectors: [N, width].
        attributes: classes of the items by name of the attribute, each known of some items.
        count: neighbours of an item; where there are fewer others, these.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    alike = {name: [0.0, 0] for name in attributes}
    for start in range(0, len(unit), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(unit)))
        # One thread, as the projection: with more, sums differ in their last bits.
        with threadpool_limits(limits=1):
            similar = unit[rows] @ unit.T
        similar[np.arange(len(rows)), rows] = -np.inf
        for name, classes in attributes.items():
            mine = rows[classes.known[rows]]
            others = min(count, int(classes.known.sum()) - 1)
            allowed = np.where(classes.known, similar[classes.known[rows]], -np.inf)
            nearest = np.argpartition(-allowed, others - 1, axis=1)[:, :others]
            same = classes.labels[nearest] == classes.labels[mine][:, None]
            alike[name][0] += float(same.sum())
            alike[name][1] += same.size
    return {name: hits / places for name, (hits, places) in alike.items()}


def agreement(
    vectors: Floats,
    clusters: Integers,
    attributes: Mapping[str, Classes],
    params: EmbeddingPlotParams,
) -> dict[str, dict[str, float]]:
    """By attribute: purity of the clusters, neighbours alike, each beside its level by chance.

    Also how many classes there are, and how many items without one, which take no part. An
    attribute of fewer than two items with a class is left out: there is nothing to agree with.

    Args:
        vectors: [N, width] embeddings of one modality.
        clusters: [N] its pseudo-labels.
        attributes: by name.
        params: section `embedding_plot`.
    """
    usable = {name: c for name, c in attributes.items() if c.known.sum() >= 2}
    alike = neighbours_alike(vectors, usable, params.neighbours)
    found = {}
    for name, classes in usable.items():
        labels, mine = classes.labels[classes.known], clusters[classes.known]
        rng = np.random.default_rng([params.seed, 1])
        found[name] = {
            "classes": len(classes.names),
            "without": int((~classes.known).sum()),
            "purity": purity(mine, labels),
            "purity_chance": purity_by_chance(mine, labels, params.chance_draws, rng),
            "neighbours": alike[name],
            "neighbours_chance": alike_by_chance(labels),
        }
    return found
