"""The cross-modal RQ-VAE: per modality an encoder, L codebooks and a mirrored decoder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from macrec_core.errors import MacrecError
from macrec_core.quantization.residual import Quantized, ResidualQuantizer

if TYPE_CHECKING:
    from macrec_core.params.quantizer import QuantParams

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
RQVAE_FILES = (_CONFIG, _WEIGHTS)


class ModalityRQVAE(nn.Module):
    """One modality's encoder, quantizer and decoder.

    The encoder is a linear map to the common width followed by an MLP with ReLU; the decoder
    mirrors both, so that the loss is taken on the embedding itself (Eq. 10).

    Attributes:
        mean: [width] subtracted from an embedding before encoding.
        scale: scalar that it is divided by (`quant.standardize`).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, params: QuantParams) -> None:
        super().__init__()
        sizes = [params.common_width, *params.hidden_sizes, params.latent_dim]
        self.encoder = nn.Sequential(nn.Linear(width, params.common_width), *_mlp(sizes))
        self.quantizer = ResidualQuantizer(
            params.num_levels, params.codebook_size, params.latent_dim, params.residual_gradient
        )
        self.decoder = nn.Sequential(*_mlp(sizes[::-1]), nn.Linear(params.common_width, width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    def fit_scale(self, embeddings: Tensor, rule: str) -> None:
        """Fix how embeddings [N, width] are standardised.

        `none` leaves them; both other rules subtract the mean and divide by one number:
        `unit_norm` makes the mean squared norm 1, whatever the width, so that modalities weigh
        the same in Eq. 12; `unit_variance` makes the mean variance of a feature 1.
        """
        mean, scale = mean_and_scale(embeddings, rule)
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def standardise(self, embeddings: Tensor) -> Tensor:
        """Embeddings [B, width] as the encoder and Eq. 10 see them."""
        return (embeddings - self.mean) / self.scale

    def encode(self, standardised: Tensor, autocast: torch.dtype | None = None) -> Tensor:
        """Latents z [B, d] of standardised embeddings [B, width], in their type.

        Args:
            standardised: embeddings.
            autocast: type of the matrix products, if another.
        """
        with _products_in(autocast, standardised.device):
            latent: Tensor = self.encoder(standardised)
        return latent.to(standardised.dtype)

    def decode(self, quantized: Quantized, autocast: torch.dtype | None = None) -> Tensor:
        """Reconstruction [B, width] of standardised embeddings, in their type."""
        straight_through = quantized.straight_through
        with _products_in(autocast, straight_through.device):
            output: Tensor = self.decoder(straight_through)
        return output.to(straight_through.dtype)

    def forward(
        self, standardised: Tensor, autocast: torch.dtype | None = None
    ) -> tuple[Quantized, Tensor]:
        """Quantization of a batch [B, width] and its reconstruction [B, width].

        Quantization itself keeps the batch's type: small distances tell codes apart.
        """
        quantized: Quantized = self.quantizer(self.encode(standardised, autocast))
        return quantized, self.decode(quantized, autocast)


class CrossModalRQVAE(nn.Module):
    """One `ModalityRQVAE` a modality; the losses tie them together."""

    def __init__(self, widths: Mapping[str, int], params: QuantParams) -> None:
        super().__init__()
        self.modalities = nn.ModuleDict(
            {modality: ModalityRQVAE(width, params) for modality, width in widths.items()}
        )

    def __getitem__(self, modality: str) -> ModalityRQVAE:
        module = self.modalities[modality]
        assert isinstance(module, ModalityRQVAE)
        return module


def mean_and_scale(embeddings: Tensor, rule: str) -> tuple[Tensor, Tensor]:
    """What `quant.standardize` subtracts from embeddings [N, width], and what it divides by."""
    if rule == "none":
        return embeddings.new_zeros(embeddings.shape[1]), embeddings.new_ones(())
    # In double, where the mean of equal items is exactly that item: in float32 the rounding
    # error would pass for a spread and be scaled up to it.
    mean = embeddings.double().mean(dim=0).to(embeddings.dtype)
    squares = (embeddings - mean).square()
    total = squares.sum(dim=1).mean() if rule == "unit_norm" else squares.mean()
    # All items equal: nothing to scale, and dividing by zero would give NaN.
    return mean, total.sqrt() if total > 0 else torch.ones_like(total)


def save_rqvae(folder: Path, model: CrossModalRQVAE, params: QuantParams) -> None:
    """Write the weights, and widths and the quant section, into an existing folder."""
    widths = {name: model[name].mean.numel() for name in model.modalities}
    config = {"widths": widths, "quant": params.model_dump()}
    (folder / _CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    save_file(tensors, str(folder / _WEIGHTS))


def load_rqvae(folder: Path) -> tuple[CrossModalRQVAE, QuantParams]:
    """Read what `save_rqvae` wrote, on the CPU, in evaluation mode.

    Raises:
        MacrecError: a file is missing or does not fit the other.
    """
    from macrec_core.params.quantizer import QuantParams

    try:
        config = json.loads((folder / _CONFIG).read_text())
        params = QuantParams.model_validate(config["quant"])
        model = CrossModalRQVAE(config["widths"], params)
        model.load_state_dict(load_file(str(folder / _WEIGHTS)))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise MacrecError(f"{folder}: is no quantizer ({error}); run train_rqvae again") from error
    return model.eval(), params


def _products_in(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[None]:
    """A context whose matrix products are of a type; None leaves them as they are."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def _mlp(sizes: list[int]) -> list[nn.Module]:
    """Linear layers with ReLU between them, but not after the last."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        if index:
            layers.append(nn.ReLU())
        layers.append(nn.Linear(fan_in, fan_out))
    return layers
