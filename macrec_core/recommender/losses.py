"""The terms of the recommender's objective (Eqs. 14-19)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional

from macrec_core.contrastive import Similarity, info_nce
from macrec_core.processes import ALONE, Processes
from macrec_core.recommender.packing import Packed
from macrec_core.recommender.t5 import EVALUATION, START_ID, T5, Encoded, Mode


def next_token_loss(
    model: T5,
    source: Packed,
    target: Tensor,
    label_smoothing: float,
    mode: Mode = EVALUATION,
) -> Tensor:
    """Negative log-likelihood of the targets, averaged over batch and tokens.

    The first term of Eq. 19 is this times L + 1, the number of tokens (`gr.token_reduction`).

    Args:
        model: T5.
        source: B sequences.
        target: [B, L + 1] token ids, the end token last.
        label_smoothing: share of probability spread over the vocabulary; the paper has none.
        mode: precision and dropout.
    """
    start = torch.full_like(target[:, :1], START_ID)
    inputs = torch.cat([start, target[:, :-1]], dim=1)
    logits = model.decode(model.encode(source, mode), inputs, mode)
    return functional.cross_entropy(logits, target.flatten(), label_smoothing=label_smoothing)


def implicit_alignment_loss(
    model: T5,
    item_ids: Mapping[str, Tensor],
    items: Tensor,
    temperature: float,
    similarity: Similarity,
    mode: Mode = EVALUATION,
    processes: Processes = ALONE,
) -> Tensor:
    """L_implicit (Eqs. 14-18), summed over ordered pairs of modalities.

    Row i of every modality is item `items[i]`: pairs are made by item, whatever the order. Of
    several processes each encodes its share of the items, and all see the loss of the whole
    batch; `Processes.gathered` says whose gradient each then holds.

    Args:
        model: its encoder reads an item's semantic ID and the end token.
        item_ids: per modality the semantic IDs of all N items as token ids [N, L + 1].
        items: [B] distinct item ids.
        temperature: tau.
        similarity: see `info_nce`.
        mode: precision and dropout.
        processes: those that share the batch.
    """
    own = processes.share(items)
    # One pass for all modalities: their IDs are of one length.
    source = torch.cat([tokens[own] for tokens in item_ids.values()])
    pooled = [
        processes.gathered(part, len(items))
        for part in mean_pool(model.encode(Packed.dense(source), mode)).split(len(own))
    ]
    same_item = torch.arange(len(items), device=items.device)
    return torch.stack(
        [
            info_nce(first, second, same_item, temperature, similarity)
            for first, second in permutations(pooled, 2)
        ]
    ).sum()


def mean_pool(encoded: Encoded) -> Tensor:
    """Mean of the rows of each of B sequences of one length (Eqs. 14-15).

    Returns:
        [B, d] float32.
    """
    (chunk,) = encoded.layout.chunks
    return encoded.rows.float().view(chunk.count, chunk.length, -1).mean(dim=1)
