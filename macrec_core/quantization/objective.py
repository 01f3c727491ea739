"""The quantizer's objective of one batch (Eq. 13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from macrec_core.processes import ALONE, Processes
from macrec_core.quantization import losses
from macrec_core.quantization.code_clusters import CodeClusters
from macrec_core.quantization.residual import Quantized
from macrec_core.quantization.rqvae import CrossModalRQVAE
from macrec_core.runtime import sent

if TYPE_CHECKING:
    from macrec_core.params.quantizer import QuantParams


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


@dataclass(frozen=True)
class Guidance:
    """What LETTER's terms (Wang et al., 2024) need of a batch besides its embeddings.

    Attributes:
        collaborative: [B, d] collaborative embeddings of the whole batch; None where
            `lambda_collab` is 0.
        clusters: per modality the clusters of each level's codes; empty where
            `lambda_diversity` is 0.
    """

    collaborative: Tensor | None
    clusters: Mapping[str, Sequence[CodeClusters]]


UNGUIDED = Guidance(None, {})


def objective(
    model: CrossModalRQVAE,
    batch: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    params: QuantParams,
    draws: torch.Generator,
    autocast: torch.dtype | None = None,
    processes: Processes = ALONE,
    guidance: Guidance = UNGUIDED,
) -> Terms:
    """L_ID of one batch (Eq. 13), and LETTER's terms where they have a weight.

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
        guidance: of LETTER's terms.
    """
    size = len(next(iter(labels.values())))
    parts: dict[str, Tensor] = {}
    quantized: dict[str, Quantized] = {}
    for name, embeddings in batch.items():
        outcome, output = model[name](embeddings, autocast)
        quantized[name] = outcome
        for part, value in _own_terms(embeddings, outcome, output, params).items():
            parts[f"{part}_{name}"] = value * (len(embeddings) / size)
    if params.lambda_diversity:
        for name, outcome in quantized.items():
            chances = processes.share(torch.rand(size, params.num_levels, generator=draws))
            value = _diversity(
                model[name].quantizer.codebooks, outcome.codes, chances, guidance.clusters[name],
                params,
            )  # fmt: skip
            parts[f"diversity_{name}"] = value * (len(chances) / size)
    common, positives = _common_terms(quantized, size, labels, params, draws, processes, guidance)
    total = torch.stack([*parts.values(), *common.values()]).sum()
    # All processes hold the whole of these.
    parts |= {name: value / processes.count for name, value in common.items()}
    return Terms(total, parts, positives)


def _common_terms(
    quantized: Mapping[str, Quantized],
    size: int,
    labels: Mapping[str, Tensor],
    params: QuantParams,
    draws: torch.Generator,
    processes: Processes,
    guidance: Guidance,
) -> tuple[dict[str, Tensor], float | None]:
    """Terms that compare all items of the batch, each with a weight, and the positives' share."""
    several = len(quantized) > 1
    contrast, align = several and any(params.lambda_con), several and params.lambda_align > 0
    common: dict[str, Tensor] = {}
    positives = None
    if not (contrast or align or params.lambda_collab):
        return common, positives
    residuals, vectors = _of_all(quantized, size, processes)
    if contrast:
        common["contrastive"], positives = _contrastive(residuals, labels, params, draws)
    if align:
        common["alignment"] = _alignment(vectors, params)
    if params.lambda_collab:
        assert guidance.collaborative is not None
        common["collaborative"] = _collaborative(vectors, guidance.collaborative, params)
    return common, positives


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


def _collaborative(
    vectors: Mapping[str, Tensor], collaborative: Tensor, params: QuantParams
) -> Tensor:
    """Sum over modalities of lambda_collab L_CF."""
    terms = [
        losses.collaborative_loss(each, collaborative, params.temperature, params.similarity)
        for each in vectors.values()
    ]
    return params.lambda_collab * torch.stack(terms).sum()


def _diversity(
    codebooks: Tensor,
    codes: Tensor,
    chances: Tensor,
    clusters: Sequence[CodeClusters],
    params: QuantParams,
) -> Tensor:
    """Sum over levels of lambda_diversity L_Div, of codes [n, L] by chances [n, L]."""
    if not len(codes):  # fewer items in the batch than processes
        return codebooks.sum() * 0.0
    chances = sent(chances, codes.device)
    terms = [
        losses.diversity_loss(
            codebook, codes[:, level], clusters[level].partners(codes[:, level], chances[:, level]),
            params.temperature, params.similarity,
        )
        for level, codebook in enumerate(codebooks)
    ]  # fmt: skip
    return params.lambda_diversity * torch.stack(terms).sum()


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
        positives = None
        if params.positives == "pseudo_label":
            drawn, found = losses.draw_positives(labels[label_modality], draws)
            found_shares.append(float(found.float().mean()))
            positives = sent(drawn, anchors.device)
        elif params.positives == "self":
            positives = sent(torch.arange(anchors.shape[1]), anchors.device)
        terms += [
            weight * _at_level(anchors[level], positives, params)
            for level, weight in enumerate(params.lambda_con)
            if weight
        ]
    share = sum(found_shares) / len(found_shares) if found_shares else None
    return torch.stack(terms).sum(), share


def _at_level(residuals: Tensor, positives: Tensor | None, params: QuantParams) -> Tensor:
    """L_con of one level and direction; without positives only its pushing apart."""
    if positives is None:
        return losses.uniformity_loss(residuals, params.temperature, params.similarity)
    return losses.contrastive_loss(residuals, positives, params.temperature, params.similarity)
