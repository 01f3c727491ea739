"""Training of the cross-modal RQ-VAE (Eq. 13): one plain loop."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from macrec_core.errors import MacrecError
from macrec_core.quantization import losses
from macrec_core.quantization.measuring import measure, warn_of_collapse
from macrec_core.quantization.residual import Quantized
from macrec_core.quantization.rqvae import CrossModalRQVAE
from macrec_core.runtime import generator

if TYPE_CHECKING:
    from macrec_core.checkpoints import Checkpoints
    from macrec_core.params import QuantParams
    from macrec_core.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedQuantizer:
    """A trained quantizer and how it got there.

    Attributes:
        model: on the CPU, in evaluation mode.
        history: one row an epoch: mean losses, share of items with a real positive, and every
            `evaluate_every` epochs collision rate, unexplained variance and codebook use.
    """

    model: CrossModalRQVAE
    history: list[dict[str, float]]


@dataclass(frozen=True)
class QuantizerData:
    """What the quantizer learns from.

    Attributes:
        embeddings: per modality [N, width] float32.
        pseudo_labels: per modality [N] int64 (Eq. 1).
    """

    embeddings: Mapping[str, Tensor]
    pseudo_labels: Mapping[str, Tensor]

    @property
    def num_items(self) -> int:
        """N."""
        return len(next(iter(self.embeddings.values())))


@dataclass(frozen=True)
class Terms:
    """The objective of one batch and its parts.

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
) -> Terms:
    """L_ID of one batch (Eq. 13).

    Args:
        model: the quantizer.
        batch: per modality standardised embeddings [B, width], the same items in the same rows.
        labels: per modality pseudo-labels [B].
        params: weights and options.
        draws: CPU generator of the positives.
    """
    parts: dict[str, Tensor] = {}
    quantized: dict[str, Quantized] = {}
    for name, embeddings in batch.items():
        outcome, output = model[name](embeddings)
        quantized[name] = outcome
        residuals, vectors = outcome.residuals, outcome.vectors
        parts[f"recon_{name}"] = losses.reconstruction_loss(embeddings, output, params.reduction)
        parts[f"codebook_{name}"] = losses.codebook_loss(residuals, vectors, params.reduction)
        parts[f"commitment_{name}"] = params.commitment_weight * losses.commitment_loss(
            residuals, vectors, params.reduction
        )
    positives = None
    if any(params.lambda_con) and len(batch) > 1:
        parts["contrastive"], positives = _contrastive(quantized, labels, params, draws)
    if params.lambda_align and len(batch) > 1:
        parts["alignment"] = (
            params.lambda_align
            * torch.stack(
                [
                    losses.alignment_loss(
                        quantized[first].shared_gradient,
                        quantized[second].shared_gradient,
                        params.temperature,
                        params.similarity,
                    )
                    for first, second in permutations(quantized, 2)
                ]
            ).sum()
        )
    return Terms(torch.stack(list(parts.values())).sum(), parts, positives)


def _contrastive(
    quantized: Mapping[str, Quantized],
    labels: Mapping[str, Tensor],
    params: QuantParams,
    draws: torch.Generator,
) -> tuple[Tensor, float | None]:
    """Sum over ordered pairs and levels of lambda_con^l L_con^l (Eqs. 4-6), and found share."""
    terms, found_shares = [], []
    for label_modality, anchor_modality in permutations(quantized, 2):
        residuals = quantized[anchor_modality].residuals
        if params.positives == "pseudo_label":
            positives, found = losses.draw_positives(labels[label_modality], draws)
            found_shares.append(float(found.float().mean()))
        else:
            positives = torch.arange(residuals.shape[1], device=residuals.device)
        terms += [
            weight
            * losses.contrastive_loss(
                residuals[level], positives, params.temperature, params.similarity
            )
            for level, weight in enumerate(params.lambda_con)
            if weight
        ]
    share = sum(found_shares) / len(found_shares) if found_shares else None
    return torch.stack(terms).sum(), share


def train_quantizer(
    data: QuantizerData,
    params: QuantParams,
    seed: int,
    device: torch.device,
    checkpoints: Checkpoints,
    progress: Progress,
) -> TrainedQuantizer:
    """Train to `max_epochs`; the last epoch's model is the result.

    Every random draw comes from a stream named by seed, purpose and epoch, so that going on
    from a checkpoint gives the same bytes as a run that was never interrupted.

    Raises:
        MacrecError: the loss stops being finite.
    """
    model = _new_model(data, params, seed)
    # foreach: the fused and the plain update differ in the last bit; one is chosen for good.
    optimizer = torch.optim.AdamW(
        model.parameters(), params.learning_rate, weight_decay=params.weight_decay, foreach=True
    )
    history: list[dict[str, float]] = []
    state = checkpoints.load()
    if state is None:
        model.to(device)
        _initialise_codebooks(model, data, params, seed, device)
    else:
        model.load_state_dict(state["model"])
        model.to(device)
        if state["optimizer"] is not None:
            optimizer.load_state_dict(state["optimizer"])
        history = list(state["history"])

    def snapshot() -> dict[str, Any]:
        return {
            "model": model.state_dict(),
            # Of a finished training nobody needs it, and it is two thirds of the file.
            "optimizer": optimizer.state_dict() if len(history) < params.max_epochs else None,
            "history": history,
            "progress": f"epoch {len(history)}",
        }

    standardised = {
        name: model[name].standardise(x.to(device)) for name, x in data.embeddings.items()
    }
    progress.start("RQ-VAE epochs", params.max_epochs)
    progress.advance(len(history))
    for epoch in range(len(history), params.max_epochs):
        row = _train_epoch(model, optimizer, standardised, data, params, seed, epoch)
        last = epoch + 1 == params.max_epochs
        if last or (epoch + 1) % params.evaluate_every == 0:
            row |= measure(model, standardised, params)
            # The last update may have been the one that diverged.
            _check_finite(sum(row.values()), epoch, params)
        history.append({"epoch": float(epoch + 1), **row})
        checkpoints.offer(snapshot)
        progress.advance(1, f"loss {row['loss']:.4f}")
    if state is None or len(state["history"]) < params.max_epochs:
        checkpoints.save(snapshot())
    if "positives" in history[-1]:
        log.info("%.1f %% of items have a real positive", 100 * history[-1]["positives"])
    warn_of_collapse(history[-1], list(data.embeddings), params.num_levels)
    return TrainedQuantizer(model.cpu().eval(), history)


def _new_model(data: QuantizerData, params: QuantParams, seed: int) -> CrossModalRQVAE:
    torch.manual_seed(generator(seed, "rqvae-weights").initial_seed())
    model = CrossModalRQVAE({m: x.shape[1] for m, x in data.embeddings.items()}, params)
    for name, embeddings in data.embeddings.items():
        model[name].fit_scale(embeddings, params.standardize)
    return model


def _initialise_codebooks(
    model: CrossModalRQVAE,
    data: QuantizerData,
    params: QuantParams,
    seed: int,
    device: torch.device,
) -> None:
    """k-means on the residuals of the first batch, before the first update."""
    first = _batches(data.num_items, params.batch_size, seed, 0)[0]
    for name, embeddings in data.embeddings.items():
        part = model[name]
        with torch.no_grad():
            latent = part.encode(part.standardise(embeddings[first].to(device)))
        if len(latent) < params.codebook_size:
            log.warning(
                "%s: a first batch of %d items seeds %d codes; the surplus starts from repeated "
                "items (raise quant.batch_size or lower quant.codebook_size)",
                name, len(latent), params.codebook_size,
            )  # fmt: skip
        part.quantizer.initialise(
            latent, params.kmeans_iterations, generator(seed, "codebooks", name)
        )


def _batches(num_items: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Every item once, in the order that seed and epoch give."""
    order = torch.randperm(num_items, generator=generator(seed, "rqvae-order", epoch))
    return list(order.split(batch_size))


def _train_epoch(
    model: CrossModalRQVAE,
    optimizer: torch.optim.Optimizer,
    standardised: Mapping[str, Tensor],
    data: QuantizerData,
    params: QuantParams,
    seed: int,
    epoch: int,
) -> dict[str, float]:
    draws = generator(seed, "rqvae-positives", epoch)
    sums: dict[str, float] = {}
    model.train()
    for rows in _batches(data.num_items, params.batch_size, seed, epoch):
        batch = {name: x[rows.to(x.device)] for name, x in standardised.items()}
        labels = {name: data.pseudo_labels[name][rows] for name in batch}
        terms = objective(model, batch, labels, params, draws)
        _check_finite(float(terms.total.detach()), epoch, params)
        optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        optimizer.step()
        weight = len(rows) / data.num_items
        values = {name: float(part.detach()) for name, part in terms.parts.items()}
        values["loss"] = float(terms.total.detach())
        if terms.positives is not None:
            values["positives"] = terms.positives
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + weight * value
    return sums


def _check_finite(value: float, epoch: int, params: QuantParams) -> None:
    if not math.isfinite(value):
        raise MacrecError(
            f"RQ-VAE loss is {value} in epoch {epoch + 1} at learning rate "
            f"{params.learning_rate}; lower quant.learning_rate"
        )
