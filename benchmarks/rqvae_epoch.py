"""An epoch of the quantizer at the paper's size, and whether its lower precision costs quality.

`run` measures an epoch of 6,250 items, text 4,096 and image 768 wide, batch 1,024, with the
settings of presets/paper.yaml (25 M weights, 0.89 TFLOP), against the plain loop below: float32,
a DataLoader that shuffles, AdamW as it comes, the same objective as one would write it down. The
ceiling is the machine's bfloat16 matrix rate divided by the multiplications of encoders and
decoders; where the processor has no bfloat16 instructions, its float32 rate.

`python -m benchmarks.rqvae_epoch --collisions` trains several seeds in either precision and
prints collision rates before reassignment, in about twelve minutes. That needs many updates rather
than many weights, so the model is smaller: 2,500 items, text 1,024 and image 512 wide, 64 codes a
level, batch 64, 60 epochs, 2,400 updates; the loss is the paper's. The embeddings are made up:
a tree of categories of very unequal size, seen through random maps whose directions weigh less
and less, with noise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from itertools import permutations
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measure import Row, interleaved, matrix_rate, row
from macrec_core.checkpoints import Checkpoints
from macrec_core.params.loading import load_params
from macrec_core.params.quantizer import QuantParams
from macrec_core.progress import Silent
from macrec_core.quantization.rqvae import CrossModalRQVAE, ModalityRQVAE
from macrec_core.quantization.training import QuantizerData, start, train_epoch, train_quantizer
from macrec_core.runtime import Runtime, computes_bfloat16

WIDTHS = {"text": 4096, "image": 768}
NUM_ITEMS = 6250
# Of the comparison of precisions.
SMALL_WIDTHS = {"text": 1024, "image": 512}
SMALL = {
    "common_width": 256, "hidden_sizes": [256, 128, 64], "codebook_size": 64, "batch_size": 64,
}  # fmt: skip
_CPU = torch.device("cpu")
_ROUNDS = 4


def run() -> list[Row]:
    """One row: items/s of an epoch."""
    return [measure(made_up(NUM_ITEMS, WIDTHS), _paper_params())]


def measure(data: QuantizerData, params: QuantParams) -> Row:
    """The row of some data and settings."""
    half = torch.bfloat16 if computes_bfloat16(_CPU) else None
    with TemporaryDirectory() as folder:
        ours = start(data, params, 0, Runtime(_CPU, half), Checkpoints(Path(folder), 1e9))
    plain = Plain(data, params)
    epochs = iter(range(10**6))
    train_epoch(ours, next(epochs))
    plain.epoch()
    took, plain_took = interleaved(lambda: train_epoch(ours, next(epochs)), plain.epoch, _ROUNDS)
    rate, single = matrix_rate(half or torch.float32), matrix_rate(torch.float32)
    flops = flops_an_item(ours.model)
    _say(
        f"rqvae_epoch: {took:.2f} s, plain {plain_took:.2f} s; {flops * data.num_items / 1e12:.2f} "
        f"TFLOP, {rate:.0f} GFLOP/s in {half or torch.float32} products, {single:.0f} in float32"
    )
    return row(
        "rqvae_epoch", "items/s", data.num_items / took, data.num_items / plain_took,
        rate * 1e9 / flops,
    )  # fmt: skip


def flops_an_item(model: CrossModalRQVAE) -> float:
    """Multiplications and additions of the linear layers, forward and backward."""
    total = 0
    for name in model.modalities:
        layers = [m for m in model[name].modules() if isinstance(m, torch.nn.Linear)]
        # Forward, by the weights, by the input; the embeddings themselves need no gradient.
        total += sum(3 * layer.weight.numel() for layer in layers) - layers[0].weight.numel()
    return 2.0 * total


# ------------------------------------------------------------------------- the plain loop


class Plain:
    """The same training as one would first write it."""

    def __init__(self, data: QuantizerData, params: QuantParams) -> None:
        self.params = params
        self.model = CrossModalRQVAE({m: x.shape[1] for m, x in data.embeddings.items()}, params)
        columns: list[Tensor] = []
        for name, embeddings in data.embeddings.items():
            self.model[name].fit_scale(embeddings, params.standardize)
            standardised = self.model[name].standardise(embeddings)
            columns += [standardised, data.pseudo_labels[name]]
        dataset = TensorDataset(*columns)
        self.loader = DataLoader(dataset, batch_size=params.batch_size, shuffle=True)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), params.learning_rate, weight_decay=params.weight_decay
        )

    def epoch(self) -> float:
        """Train on every item once; the mean loss."""
        losses = []
        for columns in self.loader:
            batch = dict(zip(self.model.modalities, columns[::2], strict=True))
            labels = dict(zip(self.model.modalities, columns[1::2], strict=True))
            loss = self.objective(batch, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return mean(losses)

    def objective(self, batch: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Tensor:
        """Eq. 13."""
        params, residuals, sums = self.params, {}, {}
        total = torch.zeros(())
        for name, x in batch.items():
            part = self.model[name]
            latent = part.encoder(x)
            residuals[name], vectors = quantize(part, latent)
            output = part.decoder(latent + (sum(vectors) - latent).detach())
            total = total + ((x - output) ** 2).sum(dim=1).mean()
            for residual, vector in zip(residuals[name], vectors, strict=True):
                codebook_error = ((residual.detach() - vector) ** 2).sum(dim=1).mean()
                commitment = ((residual - vector.detach()) ** 2).sum(dim=1).mean()
                total = total + codebook_error + params.commitment_weight * commitment
            sums[name] = sum(vectors) + (latent - latent.detach())
        for first, second in permutations(batch, 2):
            same = torch.arange(len(sums[first]))
            positives = partners(labels[first])
            for weight, residual in zip(params.lambda_con, residuals[second], strict=True):
                if weight:
                    scores = residual @ residual.T / params.temperature
                    total = total + weight * functional.cross_entropy(scores, positives)
            scores = sums[first] @ sums[second].T / params.temperature
            total = total + params.lambda_align * functional.cross_entropy(scores, same)
        return total


def quantize(part: ModalityRQVAE, latent: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Residuals and code vectors [B, d] of each level."""
    residual, residuals, vectors = latent, [], []
    for codebook in part.quantizer.codebooks:
        nearest = torch.cdist(residual, codebook).argmin(dim=1)
        residuals.append(residual)
        vectors.append(codebook[nearest])
        residual = residual - vectors[-1].detach()
    return residuals, vectors


def partners(labels: Tensor) -> Tensor:
    """Another item of the batch with the same label for each, itself where there is none."""
    same = (labels[:, None] == labels).float()
    same.fill_diagonal_(1e-9)
    return torch.multinomial(same, 1)[:, 0]


# ----------------------------------------------------------------------------- collisions


def made_up(count: int, widths: Mapping[str, int], seed: int = 0) -> QuantizerData:
    """Embeddings of a catalogue with categories within categories, and their pseudo-labels."""
    draws = torch.Generator().manual_seed(seed)
    latent_width, branching = 48, (12, 8, 6)
    place, node = torch.zeros(count, latent_width), torch.zeros(count, dtype=torch.long)
    for depth, children in enumerate(branching):
        centres = torch.randn(int(node.max() + 1), children, latent_width, generator=draws)
        weights = 1 / torch.arange(1.0, children + 1)  # as shops' categories are: few are large
        child = torch.multinomial(weights, count, replacement=True, generator=draws)
        place += 0.7**depth * centres[node, child]
        node = torch.unique(node * children + child, return_inverse=True)[1]
    embeddings = {}
    for name, width in widths.items():
        own = place + 0.5 * torch.randn(count, latent_width, generator=draws)
        weights = torch.arange(1.0, latent_width + 1) ** -0.5
        view = weights[:, None] * torch.randn(latent_width, width, generator=draws)
        embeddings[name] = own @ view + 0.3 * torch.randn(count, width, generator=draws)
    return QuantizerData(embeddings, dict.fromkeys(widths, node))


def collisions(data: QuantizerData, params: QuantParams, seeds: Iterable[int]) -> None:
    """Print collision rates of both precisions, a line a seed, then means and deviations."""
    found: dict[torch.dtype | None, list[dict[str, float]]] = {None: [], torch.bfloat16: []}
    for seed in seeds:
        for half, rows in found.items():
            begin = perf_counter()
            with TemporaryDirectory() as folder:
                trained = train_quantizer(
                    data, params, seed, Runtime(_CPU, half), Checkpoints(Path(folder), 1e9),
                    Silent(),
                )  # fmt: skip
            rows.append(trained.history[-1])
            told = "; ".join(
                f"{m} {100 * rows[-1][f'collision_rate_{m}']:.2f} % "
                f"({100 * rows[-1][f'unexplained_{m}']:.2f} % of the variance unexplained)"
                for m in data.embeddings
            )
            took = perf_counter() - begin
            _say(f"seed {seed}, {half or torch.float32}: collisions {told}; {took:.0f} s")
    for modality in data.embeddings:
        for half, rows in found.items():
            rates = [100 * row[f"collision_rate_{modality}"] for row in rows]
            spread = stdev(rates) if len(rates) > 1 else 0.0
            _say(f"{modality}, {half or torch.float32}: {mean(rates):.2f} % +- {spread:.2f}")


def _paper_params() -> QuantParams:
    return load_params(Path(__file__).parents[1] / "presets/paper.yaml").quant


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    _parser = argparse.ArgumentParser()
    _parser.add_argument("--collisions", action="store_true", help="quality instead of speed")
    _parser.add_argument("--seeds", type=int, default=10)
    _given = _parser.parse_args()
    if _given.collisions:
        _epochs = {"max_epochs": 60, "evaluate_every": 60}
        _params = _paper_params().model_copy(update=SMALL | _epochs)
        collisions(made_up(2500, SMALL_WIDTHS), _params, range(_given.seeds))
    else:
        _say(str(run()))
