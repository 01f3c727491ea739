"""The quantizer's objective of one batch (Eq. 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from macrec_core.processes import ALONE, Processes
from macrec_core.quantization import losses
from macrec_core.quantization.residual import Quantized
from macrec_core.quantization.rqvae import CrossModalRQVAE
from macrec_core.runtime import sent

if TYPE_CHECKING:
    from macrec_core.params import QuantParams


@dataclass(frozen=True)
class Terms:
    """The objective of one batch and its parts.

    Of several processes each holds a share: parts, and gradients of the total, add up to those
    of the whole batch.

    Attributes:
        total: L_ID (Eq. 13), a scalar with gradient.
        parts: each named term, weighted as it enters the total.
        positives: share of (item, direction) pairs that have a real positive in the batch; None
            where no pseudo-label is consulted.
    """

    total: Tensor
    parts: dict[str, Tensor]
    positives: float | None


def objective(
    model: CrossModalRQVAE,
    batch: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    params: QuantParams,
    draws: torch.Generator,
    autocast: torch.dtype | None = None,
    processes: Processes = ALONE,
) -> Terms:
    """L_ID of one batch (Eq. 13).

    The contrastive terms compare all B items of the batch, wherever they were encoded.

    Args:
        model: the quantizer.
        batch: per modality this process's share of the standardised embeddings [B, width], the
            same items in the same rows.
        labels: per modality pseudo-labels [B]; on the CPU, where positives are drawn.
        params: weights and options.
        draws: CPU generator of the positives.
        autocast: type of the encoders' and decoders' matrix products; the rest is float32.
        processes: those that share the batch.
    """
    size = len(next(iter(labels.values())))
    parts: dict[str, Tensor] = {}
    quantized: dict[str, Quantized] = {}
    for name, embeddings in batch.items():
        outcome, output = model[name](embeddings, autocast)
        quantized[name] = outcome
        for part, value in _own_terms(embeddings, outcome, output, params).items():
            parts[f"{part}_{name}"] = value * (len(embeddings) / size)
    positives = None
    common: dict[str, Tensor] = {}
    if len(batch) > 1 and (any(params.lambda_con) or params.lambda_align):
        residuals, vectors = _of_all(quantized, size, processes)
        if any(params.lambda_con):
            common["contrastive"], positives = _contrastive(residuals, labels, params, draws)
        if params.lambda_align:
            common["alignment"] = _alignment(vectors, params)
    total = torch.stack([*parts.values(), *common.values()]).sum()
    # All processes hold the whole of these.
    parts |= {name: value / processes.count for name, value in common.items()}
    return Terms(total, parts, positives)


def _own_terms(
    embeddings: Tensor, outcome: Quantized, output: Tensor, params: QuantParams
) -> dict[str, Tensor]:
    """Means over this process's items of one modality (Eqs. 10-12)."""
    if not len(embeddings):  # fewer items in the batch than processes
        return {"recon": output.sum(), "codebook": output.sum(), "commitment": output.sum()}
    residuals, vectors = outcome.residuals, outcome.vectors
    commitment = losses.commitment_loss(residuals, vectors, params.reduction)
    return {
        "recon": losses.reconstruction_loss(embeddings, output, params.reduction),
        "codebook": losses.codebook_loss(residuals, vectors, params.reduction),
        "commitment": params.commitment_weight * commitment,
    }


def _of_all(
    quantized: Mapping[str, Quantized], size: int, processes: Processes
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Per modality the residuals [L, B, d] and sums of code vectors [B, d] of the whole batch."""
    if processes.count == 1:
        return (
            {name: each.residuals for name, each in quantized.items()},
            {name: each.shared_gradient for name, each in quantized.items()},
        )
    own = [torch.stack([*each.residuals, each.shared_gradient], 1) for each in quantized.values()]
    rows = torch.stack(own, 1)  # [n, modalities, L + 1, d]
    whole = processes.gathered(rows.flatten(1), size).view(size, *rows.shape[1:])
    parts = dict(zip(quantized, whole.unbind(1), strict=True))
    return (
        {name: part[:, :-1].transpose(0, 1) for name, part in parts.items()},
        {name: part[:, -1] for name, part in parts.items()},
    )


def _alignment(vectors: Mapping[str, Tensor], params: QuantParams) -> Tensor:
    """Sum over ordered pairs of lambda_align L_align (Eqs. 7-9)."""
    terms = [
        losses.alignment_loss(
            vectors[first], vectors[second], params.temperature, params.similarity
        )
        for first, second in permutations(vectors, 2)
    ]
    return params.lambda_align * torch.stack(terms).sum()


def _contrastive(
    residuals: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    params: QuantParams,
    draws: torch.Generator,
) -> tuple[Tensor, float | None]:
    """Sum over ordered pairs and levels of lambda_con^l L_con^l (Eqs. 4-6), and found share."""
    terms, found_shares = [], []
    for label_modality, anchor_modality in permutations(residuals, 2):
        anchors = residuals[anchor_modality]
        if params.positives == "pseudo_label":
            positives, found = losses.draw_positives(labels[label_modality], draws)
            found_shares.append(float(found.float().mean()))
        else:
            positives = torch.arange(anchors.shape[1])
        positives = sent(positives, anchors.device)
        terms += [
            weight
            * losses.contrastive_loss(
                anchors[level], positives, params.temperature, params.similarity
            )
            for level, weight in enumerate(params.lambda_con)
            if weight
        ]
    share = sum(found_shares) / len(found_shares) if found_shares else None
    return torch.stack(terms).sum(), share
