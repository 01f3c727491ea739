"""Training of the cross-modal RQ-VAE (Eq. 13): one plain loop over embeddings in memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from macrec_core.adamw import AdamW
from macrec_core.errors import MacrecError
from macrec_core.memory import out_of_memory_names
from macrec_core.quantization.code_clusters import CodeClusters, cluster_codebooks
from macrec_core.quantization.measuring import measure, total_variance, warn_of_collapse
from macrec_core.quantization.objective import Guidance, objective
from macrec_core.quantization.rqvae import CrossModalRQVAE, mean_and_scale
from macrec_core.runtime import Runtime, generator, sent

if TYPE_CHECKING:
    from macrec_core.checkpoints import Checkpoints
    from macrec_core.params.quantizer import QuantParams
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
        collaborative: [N, latent_dim] float32, the guide of L_CF; None where `lambda_collab` is 0.
    """

    embeddings: Mapping[str, Tensor]
    pseudo_labels: Mapping[str, Tensor]
    collaborative: Tensor | None = None

    @property
    def num_items(self) -> int:
        """N."""
        return len(next(iter(self.embeddings.values())))


@out_of_memory_names("lower quant.batch_size")
def train_quantizer(
    data: QuantizerData,
    params: QuantParams,
    seed: int,
    runtime: Runtime,
    checkpoints: Checkpoints,
    progress: Progress,
) -> TrainedQuantizer:
    """Train to `max_epochs`; the last epoch's model is the result.

    Every random draw comes from a stream named by seed, purpose and epoch, so that going on
    from a checkpoint gives the same bytes as a run that was never interrupted. The encoders'
    and decoders' matrix products are of `runtime.autocast`; weights, quantization and losses
    are float32. Several processes share every batch and return the same.

    Raises:
        MacrecError: the loss stops being finite, memory does not suffice, or the processes
            would not go on from the same epoch.
    """
    run = start(data, params, seed, runtime, checkpoints)
    history = run.history
    found_whole = len(history) == params.max_epochs
    progress.start("RQ-VAE epochs", params.max_epochs)
    progress.advance(len(history))
    for epoch in range(len(history), params.max_epochs):
        row = train_epoch(run, epoch)
        last = epoch + 1 == params.max_epochs
        if last or (epoch + 1) % params.evaluate_every == 0:
            row |= measure(run.model, run.standardised, run.variances, params, runtime.autocast)
        _check_finite(run, row, epoch)
        history.append({"epoch": float(epoch + 1), **row})
        checkpoints.offer(run.snapshot)
        progress.advance(1, f"loss {row['loss']:.4f}")
    if not found_whole:
        checkpoints.save(run.snapshot())
    if "positives" in history[-1]:
        log.info("%.1f %% of items have a real positive", 100 * history[-1]["positives"])
    warn_of_collapse(history[-1], list(data.embeddings), params.num_levels)
    return TrainedQuantizer(run.model.cpu().eval(), history)


@dataclass(frozen=True)
class Run:
    """A training under way.

    Attributes:
        standardised: per modality [N, width] on the device.
        collaborative: [N, latent_dim] standardised, on the device, or None.
        variances: of `standardised`, for `measure`.
        history: of the epochs done; grows.
    """

    data: QuantizerData
    params: QuantParams
    seed: int
    runtime: Runtime
    checkpoints: Checkpoints
    model: CrossModalRQVAE
    optimizer: torch.optim.Optimizer
    standardised: Mapping[str, Tensor]
    collaborative: Tensor | None
    variances: Mapping[str, float]
    history: list[dict[str, float]]

    def snapshot(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        finished = len(self.history) == self.params.max_epochs
        return {
            "model": self.model.state_dict(),
            # Of a finished training nobody needs it, and it is two thirds of the file.
            "optimizer": None if finished else self.optimizer.state_dict(),
            "history": self.history,
            "progress": f"epoch {len(self.history)}",
        }

    def diverged(self, what: str) -> MacrecError:
        """The error for a value that is not finite."""
        remedy = self.runtime.against_divergence("quant.learning_rate")
        return MacrecError(
            f"RQ-VAE {what} at learning rate {self.params.learning_rate}; {remedy} "
            f"(last good checkpoint: {self.checkpoints.last})"
        )


def start(
    data: QuantizerData, params: QuantParams, seed: int, runtime: Runtime, checkpoints: Checkpoints
) -> Run:
    """A fresh training, or one that goes on from its checkpoint."""
    model = _new_model(data, params, seed)
    # Fused and plain update differ in the last bit; one is chosen for good. This one reads and
    # writes every weight once.
    optimizer = AdamW(
        model.parameters(), params.learning_rate, weight_decay=params.weight_decay, fused=True
    )
    state = checkpoints.load()
    done = 0 if state is None else len(state["history"])
    runtime.processes.check_same("epochs done so far", done)
    if state is not None:
        model.load_state_dict(state["model"])
    model.to(runtime.device)
    standardised = {
        name: model[name].standardise(x.to(runtime.device)) for name, x in data.embeddings.items()
    }
    if state is None:
        _initialise_codebooks(model, standardised, params, seed)
    elif state["optimizer"] is not None:
        optimizer.load_state_dict(state["optimizer"])
    return Run(
        data, params, seed, runtime, checkpoints, model, optimizer, standardised,
        _collaborative(data, params, runtime),
        {name: total_variance(x) for name, x in standardised.items()},
        [] if state is None else list(state["history"]),
    )  # fmt: skip


def _collaborative(data: QuantizerData, params: QuantParams, runtime: Runtime) -> Tensor | None:
    """Collaborative embeddings by the same rule as the modalities', on the device."""
    if not params.lambda_collab:
        return None
    found = data.collaborative
    if found is None or found.shape[1] != params.latent_dim:
        width = "absent" if found is None else f"{found.shape[1]} wide"
        raise MacrecError(
            f"quant.lambda_collab={params.lambda_collab}: collaborative embeddings are {width}, "
            f"expected the latents' width quant.latent_dim={params.latent_dim}; make "
            "embed.collab.width equal to it"
        )
    mean, scale = mean_and_scale(found, params.standardize)
    return ((found - mean) / scale).to(runtime.device)


def _clusters(run: Run, epoch: int) -> dict[str, list[CodeClusters]]:
    """Clusters of the codes as they are when an epoch begins; none without their term."""
    if not run.params.lambda_diversity:
        return {}
    names = run.standardised
    return cluster_codebooks(
        {name: run.model[name].quantizer.codebooks for name in names},
        run.params.diversity_clusters,
        {name: generator(run.seed, "code-clusters", name, epoch) for name in names},
    )


def _new_model(data: QuantizerData, params: QuantParams, seed: int) -> CrossModalRQVAE:
    torch.manual_seed(generator(seed, "rqvae-weights").initial_seed())
    model = CrossModalRQVAE({m: x.shape[1] for m, x in data.embeddings.items()}, params)
    for name, embeddings in data.embeddings.items():
        model[name].fit_scale(embeddings, params.standardize)
    return model


def _initialise_codebooks(
    model: CrossModalRQVAE, standardised: Mapping[str, Tensor], params: QuantParams, seed: int
) -> None:
    """k-means on the residuals of the first batch, before the first update.

    Of several processes each computes the same of the whole batch.
    """
    for name, embeddings in standardised.items():
        part = model[name]
        first = _batches(len(embeddings), params.batch_size, seed, 0)[0]
        with torch.no_grad():
            latent = part.encode(embeddings[first.to(embeddings.device)])
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


def train_epoch(run: Run, epoch: int) -> dict[str, float]:
    """Updates with every item once; the loss and its parts as means over the items."""
    draws = generator(run.seed, "rqvae-positives", epoch)
    batches = _batches(run.data.num_items, run.params.batch_size, run.seed, epoch)
    seen, positives = [], []
    processes = run.runtime.processes
    clusters = _clusters(run, epoch)
    run.model.train()
    for rows in batches:
        own = processes.share(rows)
        batch = {name: x[sent(own, x.device)] for name, x in run.standardised.items()}
        labels = {name: run.data.pseudo_labels[name][rows] for name in batch}
        terms = objective(
            run.model, batch, labels, run.params, draws, run.runtime.autocast, processes,
            _guidance(run, rows, clusters),
        )  # fmt: skip
        run.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        parts = torch.stack(list(terms.parts.values())).detach()
        processes.sum_gradients_(run.model.parameters(), [parts])
        run.optimizer.step()
        seen.append(torch.cat([parts, parts.sum()[None]]))
        positives.append(terms.positives)
    # Read once an epoch: on a GPU every reading waits for all that is under way.
    values = torch.stack(seen).tolist()
    names = [*terms.parts, "loss"]
    sums = dict.fromkeys(names, 0.0)
    for update, (rows, found, real) in enumerate(zip(batches, values, positives, strict=True)):
        if not math.isfinite(found[-1]):
            raise run.diverged(
                f"loss is {found[-1]} in epoch {epoch + 1}, update {update + 1} of {len(batches)},"
            )
        weight = len(rows) / run.data.num_items
        for name, value in zip(names, found, strict=True):
            sums[name] += weight * value
        if real is not None:
            sums["positives"] = sums.get("positives", 0.0) + weight * real
    return sums


def _guidance(run: Run, rows: Tensor, clusters: Mapping[str, Sequence[CodeClusters]]) -> Guidance:
    """What LETTER's terms need of a whole batch of rows."""
    found = run.collaborative
    return Guidance(None if found is None else found[sent(rows, found.device)], clusters)


def _check_finite(run: Run, row: Mapping[str, float], epoch: int) -> None:
    """Stop before anything is saved that the last update, which no loss has seen, has spoilt."""
    for name, value in row.items():
        if not math.isfinite(value):
            raise run.diverged(f"{name} is {value} after epoch {epoch + 1}")
    norm = float(torch.nn.utils.get_total_norm(run.model.parameters()))
    if not math.isfinite(norm):
        raise run.diverged(f"norm of the weights is {norm} after epoch {epoch + 1}")
