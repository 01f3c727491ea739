"""Histories with items left out at random, so that no two epochs show the same ones."""

from __future__ import annotations

import torch
from torch import Tensor

from macrec_core.recommender.packing import Sequences, counting
from macrec_core.runtime import sent


def thinned(
    source: Sequences,
    leads: Tensor,
    item_tokens: int,
    rows: Tensor,
    share: float,
    draws: torch.Generator,
) -> Sequences:
    """Some sequences, each without random items of its history; the last item always stays.

    It is the one that says most of what comes next, and no history becomes empty.

    Args:
        source: [prompt] tokens of the history's items, end.
        leads: [n] int64 on the CPU, tokens before the first item of each sequence.
        item_tokens: tokens of an item.
        rows: [B] sequences wanted, on the CPU; at least one.
        share: probability with which an item is left out, below 1.
        draws: CPU generator.
    """
    starts, lengths, lead = source.offsets[rows], source.lengths[rows], leads[rows]
    items = (lengths - lead - 1) // item_tokens
    firsts = items.cumsum(0) - items  # of each sequence, among all items
    kept = torch.rand(int(items.sum()), generator=draws) >= share
    kept[(firsts + items - 1)[items > 0]] = True

    owner = torch.repeat_interleave(torch.arange(len(rows)), lengths)
    within = counting(lengths)
    # Of each token: -1 before the first item, the number of items for the end.
    item = torch.div(within - lead[owner], item_tokens, rounding_mode="floor")
    stays = torch.ones(len(within), dtype=torch.bool)
    of_item = (item >= 0) & (item < items[owner])
    stays[of_item] = kept[(firsts[owner] + item)[of_item]]

    index = (starts[owner] + within)[stays]
    counts = torch.bincount(owner[stays], minlength=len(rows))
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    return Sequences(source.flat[sent(index, source.flat.device)], offsets)
