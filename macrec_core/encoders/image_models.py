"""The image encoders: EfficientNet-Lite0 from the `embedded` extra, and any timm model.

timm is imported where one of its models is asked for: it takes seconds.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from macrec_core.encoders import embedded, lite0
from macrec_core.encoders.weights import weights_sha256
from macrec_core.errors import MacrecError
from macrec_core.params.data import EfficientNetEncoder, TimmEncoder


@dataclass(frozen=True)
class ImageModel:
    """A loaded encoder.

    Attributes:
        network: [batch, 3, height, width] to [batch, features].
        transform: picture to [3, height, width], as the model was evaluated with.
        dtype: type of weights and input.
        info: model id, weight hash and preprocessing.
    """

    network: nn.Module
    transform: Callable[[Image.Image], Tensor]
    dtype: torch.dtype
    info: dict[str, object]


def load(section: EfficientNetEncoder | TimmEncoder) -> ImageModel:
    """The encoder that params name.

    Raises:
        MacrecError: it cannot be loaded.
    """
    if isinstance(section, EfficientNetEncoder):
        return load_efficientnet_lite0()
    return load_timm(section.model, section.weights, section.dtype)


def load_efficientnet_lite0() -> ImageModel:
    """EfficientNet-Lite0 from the `embedded` extra, pooled features (1280 wide).

    Raises:
        MacrecError: the extra is not installed or its file is not the upstream one.
    """
    path = embedded.locate(embedded.EFFICIENTNET_LITE0)
    network = lite0.Lite0(torch.load(path, map_location="cpu", weights_only=True)).eval()
    source = embedded.EFFICIENTNET_LITE0
    info = {
        "model": source.distribution,
        "weights_sha256": source.sha256,
        "revision": source.version,
        "preprocessing": lite0.PREPROCESSING,
        "head": False,
    }
    channels_last = network.to(memory_format=torch.channels_last)
    return ImageModel(channels_last, lite0.preprocessed, torch.float32, info)


def load_timm(name: str, weights: str | None, dtype: str) -> ImageModel:
    """Any timm image model: pooled features, or CLIP's projected features.

    Args:
        name: timm model name with its tag, which also decides the preprocessing.
        weights: local file (safetensors, or a PyTorch file of plain tensors) in timm's naming;
            None for timm's own download.
        dtype: type of weights and input.

    Raises:
        MacrecError: unknown model, weights that cannot be reached, read or fitted.
    """
    import timm

    tensors = None if weights is None else _read_weights(Path(weights))
    try:
        # With its head, so that every tensor of the weights is required to fit.
        model = timm.create_model(name, pretrained=tensors is None)
        if tensors is not None:
            model.load_state_dict(tensors)
    except (OSError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:300]
        raise MacrecError(
            f"embed.image.model={name!r}, weights={weights!r}: cannot be loaded ({cause}); correct "
            "the name, or download the weights once and give the local file as embed.image.weights"
        ) from error
    info: dict[str, object] = {
        "model": name,
        "dtype": dtype,
        "weights_sha256": weights_sha256(model),
    }
    return _features(model, getattr(torch, dtype), info, head=has_projection(name))


def has_projection(name: str) -> bool:
    """Whether the head of a timm model is CLIP's projection into the shared space.

    In timm a CLIP image tower keeps its projection as the classifier (768 wide for ViT-L/14);
    one fine-tuned on ImageNet (`..._ft_in1k`) has real classes there.
    """
    return "clip" in name and "ft_in" not in name


def _features(
    model: Any,  # noqa: ANN401 - timm's models have no common type
    dtype: torch.dtype,
    info: dict[str, object],
    *,
    head: bool,
) -> ImageModel:
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    config = resolve_model_data_config(model)
    if not head:
        model.reset_classifier(0)
    transform = create_transform(**config, is_training=False)
    # Channels last: convolutions run about 1.4 times as fast on a CPU.
    model = model.eval().to(dtype=dtype, memory_format=torch.channels_last)
    shown = {key: str(value) for key, value in sorted(config.items())}
    return ImageModel(model, transform, dtype, {**info, "preprocessing": shown, "head": head})


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise MacrecError(f"embed.image.weights='{path}': no such file; correct the path")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        cause = " ".join(str(error).split())[:200]
        raise MacrecError(f"embed.image.weights='{path}': is no weights file ({cause})") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise MacrecError(
            f"embed.image.weights='{path}': holds more than tensors; save the model's state_dict"
        )
    return tensors
