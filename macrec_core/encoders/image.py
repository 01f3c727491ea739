"""Image encoders from timm, each with its own preprocessing."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import timm
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

from macrec_core.encoders import embedded
from macrec_core.encoders.encoded import Encoded
from macrec_core.encoders.pictures import check_images, pictures
from macrec_core.encoders.weights import weights_sha256
from macrec_core.errors import MacrecError
from macrec_core.params import EfficientNetEncoder, TimmEncoder
from macrec_core.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageModel:
    """A loaded encoder.

    Attributes:
        model: [batch, 3, height, width] to [batch, features].
        transform: picture to [3, height, width], as the model was evaluated with.
        dtype: type of weights and input.
        info: model id and weight hash.
    """

    model: nn.Module
    transform: Callable[[Image.Image], Tensor]
    dtype: torch.dtype
    info: dict[str, object]


def encode(
    images: pa.Table,
    num_items: int,
    section: EfficientNetEncoder | TimmEncoder,
    device: torch.device,
    progress: Progress,
) -> Encoded:
    """Embed the image of every item.

    Raises:
        MacrecError: an item without a readable image, or a model that cannot be loaded.
    """
    check_images(images, num_items)
    if isinstance(section, EfficientNetEncoder):
        loaded = load_efficientnet_lite0()
    else:
        loaded = load_timm(section.model, section.weights, section.dtype)
    loaded.model.to(device)
    batches: list[Tensor] = []
    stream = pictures(images)
    progress.start("embed image", num_items)
    while batch := [loaded.transform(picture) for picture in islice(stream, section.batch_size)]:
        stacked = torch.stack(batch).to(device, loaded.dtype, memory_format=torch.channels_last)
        with torch.inference_mode():
            features = loaded.model(stacked)
        batches.append(features.float().cpu())  # [batch, width]
        progress.advance(len(batch))
    info: dict[str, object] = {"encoder": section.encoder, **loaded.info}
    return Encoded(torch.cat(batches).numpy(), info, {})


def load_efficientnet_lite0() -> ImageModel:
    """EfficientNet-Lite0 from the `embedded` extra, pooled features (1280 wide).

    The weights are a conversion of the official TensorFlow release, whose input is
    (x - 127) / 128; timm's (x - 127.5) / 127.5 for the same network differs by 0.4 %.

    Raises:
        MacrecError: the extra is not installed or its file is not the upstream one.
    """
    path = embedded.locate(embedded.EFFICIENTNET_LITE0)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(in_order(tensors, model.state_dict()))
    source = embedded.EFFICIENTNET_LITE0
    info: dict[str, object] = {"model": source.distribution, "weights_sha256": source.sha256}
    return _features(model, torch.float32, {**info, "revision": source.version}, head=False)


def in_order(tensors: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the target's names, matched by position.

    Both networks list the same layers in the same order under other names. That the last part
    of the name (weight, running_mean, ...) and the shape agree everywhere is checked.

    Raises:
        MacrecError: another number of tensors, or a pair that does not agree.
    """
    if len(tensors) != len(target):
        raise MacrecError(f"weights: {len(tensors)} tensors for a model of {len(target)}")
    renamed = {}
    for (theirs, tensor), (ours, expected) in zip(tensors.items(), target.items(), strict=True):
        kinds_agree = theirs.rsplit(".", 1)[-1] == ours.rsplit(".", 1)[-1]
        if not kinds_agree or tensor.shape != expected.shape:
            raise MacrecError(
                f"weights: tensor '{theirs}' {tuple(tensor.shape)} does not fit "
                f"'{ours}' {tuple(expected.shape)}; the file belongs to another model"
            )
        renamed[ours] = tensor
    return renamed


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
