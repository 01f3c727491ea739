"""The terms of the recommender's objective (Eqs. 14-19)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional
from transformers import T5ForConditionalGeneration

from macrec_core.contrastive import Similarity, info_nce
from macrec_core.recommender.model import encode, mean_pool


def next_token_loss(
    model: T5ForConditionalGeneration,
    source: Tensor,
    mask: Tensor,
    target: Tensor,
    label_smoothing: float,
) -> Tensor:
    """Negative log-likelihood of the targets, averaged over batch and tokens.

    The first term of Eq. 19 is this times L + 1, the number of tokens (`gr.token_reduction`).

    Args:
        model: T5.
        source: [B, S] token ids.
        mask: [B, S] bool.
        target: [B, L + 1] token ids, the end token last.
        label_smoothing: share of probability spread over the vocabulary; the paper has none.
    """
    # Shifted here: given labels, the model would compute a loss of its own as well.
    start = torch.full_like(target[:, :1], model.config.decoder_start_token_id)
    shifted = torch.cat([start, target[:, :-1]], dim=1)
    logits = model(input_ids=source, attention_mask=mask, decoder_input_ids=shifted).logits
    return functional.cross_entropy(
        logits.flatten(end_dim=1).float(), target.flatten(), label_smoothing=label_smoothing
    )


def implicit_alignment_loss(
    model: T5ForConditionalGeneration,
    item_ids: Mapping[str, Tensor],
    items: Tensor,
    temperature: float,
    similarity: Similarity,
) -> Tensor:
    """L_implicit (Eqs. 14-18), summed over ordered pairs of modalities.

    Row i of every modality is item `items[i]`: pairs are made by item, whatever the order.

    Args:
        model: its encoder reads an item's semantic ID and the end token.
        item_ids: per modality the semantic IDs of all N items as token ids [N, L + 1].
        items: [B] distinct item ids.
        temperature: tau.
        similarity: see `info_nce`.
    """
    # One pass for all modalities: their IDs are of one length.
    source = torch.cat([tokens[items] for tokens in item_ids.values()])  # [modalities * B, L + 1]
    mask = torch.ones_like(source, dtype=torch.bool)
    pooled = mean_pool(encode(model, source, mask), mask).float().split(len(items))
    same_item = torch.arange(len(items), device=items.device)
    return torch.stack(
        [
            info_nce(first, second, same_item, temperature, similarity)
            for first, second in permutations(pooled, 2)
        ]
    ).sum()
