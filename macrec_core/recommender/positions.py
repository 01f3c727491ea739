"""T5's relative positions."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from macrec_core.runtime import sent

NUM_BUCKETS = 32  # of relative positions, and the distance from which on all share the last one:
MAX_DISTANCE = 128  # T5's own values


# Asked for by every batch; few lengths occur, and a GPU should not wait for them.
@lru_cache(maxsize=512)
def position_buckets(length: int, bidirectional: bool, device: torch.device) -> Tensor:
    """T5's bucket [length, length] of every (query, key) distance; not to be written to.

    Half of the buckets are exact distances, the others grow logarithmically to MAX_DISTANCE;
    bidirectional stacks use one half of them for keys behind and one for keys ahead.
    """
    places = torch.arange(length)
    distance = places[None, :] - places[:, None]  # key minus query
    buckets = torch.zeros_like(distance)
    count = NUM_BUCKETS
    if bidirectional:
        count //= 2
        buckets += (distance > 0) * count
        distance = distance.abs()
    else:
        distance = -distance.clamp(max=0)
    exact = count // 2
    scale = (count - exact) / torch.log(torch.tensor(MAX_DISTANCE / exact))
    far = exact + (torch.log(distance.clamp(min=1) / exact) * scale).long()
    found = buckets + torch.where(distance < exact, distance, far.clamp(max=count - 1))
    return sent(found, device)


@lru_cache(maxsize=512)
def places_ahead(length: int, device: torch.device) -> Tensor:
    """Which keys [length, length] stand behind their query; not to be written to."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
