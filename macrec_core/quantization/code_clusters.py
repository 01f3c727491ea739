"""Clusters of equally many codes, for LETTER's diversity term (Wang et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from macrec_core.quantization.kmeans import seed_centres

# Lloyd iterations: the codes move on with every epoch anyway.
_ITERATIONS = 10


@dataclass(frozen=True)
class CodeClusters:
    """Codes of one codebook, grouped.

    Attributes:
        members: [M] int64, codes by cluster.
        start: [M] int64, for each code where its cluster begins in `members`.
        size: [M] int64, codes in its cluster.
        place: [M] int64, its own place in its cluster.
    """

    members: Tensor
    start: Tensor
    size: Tensor
    place: Tensor

    @classmethod
    def of_labels(cls, labels: Tensor) -> CodeClusters:
        """Group codes by their cluster's number [M]."""
        members = torch.argsort(labels, stable=True)
        _, counts = torch.unique_consecutive(labels[members], return_counts=True)
        starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
        back = torch.argsort(members)
        place = torch.arange(len(labels)) - starts
        return cls(members, starts[back], counts.repeat_interleave(counts)[back], place[back])

    def to(self, device: torch.device) -> CodeClusters:
        """The same on another device."""
        moved = (t.to(device) for t in (self.members, self.start, self.size, self.place))
        return CodeClusters(*moved)

    def partners(self, codes: Tensor, chances: Tensor) -> Tensor:
        """For each code [B] another one of its cluster, drawn uniformly.

        Args:
            codes: [B] int64, of clusters of two at least.
            chances: [B] uniform numbers in [0, 1).
        """
        drawn = (chances * (self.size[codes] - 1)).long()
        other = drawn + (drawn >= self.place[codes]).long()  # steps over the code itself
        return self.members[self.start[codes] + other]


def cluster_codebooks(
    codebooks: Mapping[str, Tensor], count: int, generators: Mapping[str, torch.Generator]
) -> dict[str, list[CodeClusters]]:
    """Clusters of every level's codes [L, M, d] of each modality, on the codes' device."""
    return {
        name: [
            CodeClusters.of_labels(balanced_kmeans(codes, count, generators[name])).to(
                levels.device
            )
            for codes in levels.detach().cpu()
        ]
        for name, levels in codebooks.items()
    }


def balanced_kmeans(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Cluster numbers [n] of points [n, d], clusters differing by one point at most in size.

    k-means++ seeding and Lloyd's iterations, where points are assigned from the closest pair of
    point and centre on, and a full cluster takes no more. (LETTER's constrained k-means bounds
    the sizes less strictly and solves for the best assignment.)

    Args:
        points: on the CPU.
        count: number of clusters, at most n.
        generator: CPU generator; equal states give equal clusters.
    """
    centres = seed_centres(points, count, generator)
    labels = torch.full((len(points),), -1)
    for _ in range(_ITERATIONS):
        before, labels = labels, _balanced_assignment(torch.cdist(points, centres))
        if torch.equal(before, labels):
            break
        sums = torch.zeros_like(centres).index_add_(0, labels, points)
        centres = sums / torch.bincount(labels, minlength=count)[:, None]
    return labels


def _balanced_assignment(distances: Tensor) -> Tensor:
    """Cluster [n] of each point, by ascending distance [n, K] while clusters have room."""
    num_points, count = distances.shape
    floor, larger = divmod(num_points, count)  # so many clusters hold one more
    labels, sizes = [-1] * num_points, [0] * count
    for pair in distances.flatten().argsort(stable=True).tolist():
        point, cluster = divmod(pair, count)
        if labels[point] >= 0 or sizes[cluster] > floor or (sizes[cluster] == floor and not larger):
            continue
        larger -= sizes[cluster] == floor
        labels[point] = cluster
        sizes[cluster] += 1
    return torch.tensor(labels)
