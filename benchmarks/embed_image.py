"""EfficientNet-Lite0 over the sample's images: JPEG bytes to vectors.

Ours is what `embed_image` does with a shard at the sample's settings, decoding and resizing
included, on all cores and in the precision that `runtime.precision: auto` chooses. Plain is the
loop of a naive script: timm's network and preprocessing, one picture a forward pass, float32, no
gradients. The ceiling is this machine's matrix rate over the network's floating-point operations
a picture; most of its layers are one filter a channel, which no matrix product computes.
"""

from __future__ import annotations

import logging
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from benchmarks import catalogue
from benchmarks.measure import Row, interleaved, matrix_rate, row
from macrec_core.artifacts import read_artifact
from macrec_core.encoders import embedded, image
from macrec_core.encoders.image_models import load_efficientnet_lite0
from macrec_core.params.data import EfficientNetEncoder
from macrec_core.progress import Silent
from macrec_core.runtime import Runtime, computes_bfloat16
from macrec_core.schemas import IMAGES

log = logging.getLogger(__name__)

_IMAGES = 192  # the plain loop takes seconds for them
_ROUNDS = 3


def run(num_images: int = _IMAGES, rounds: int = _ROUNDS) -> list[Row]:
    """One row in images a second."""
    section = catalogue.params().embed.image
    assert isinstance(section, EfficientNetEncoder)
    with tempfile.TemporaryDirectory() as folder:
        images = read_artifact(catalogue.sample(Path(folder)) / "images.parquet", IMAGES)
    images = images.slice(0, num_images)
    device = torch.device("cpu")
    runtime = Runtime(device, torch.bfloat16 if computes_bfloat16(device) else None)
    model, plain = load_efficientnet_lite0(), _Plain(images)

    def ours() -> torch.Tensor:
        return image.features(model, images, section.batch_size, runtime, Silent())

    _check_agreement(ours().numpy(), plain())
    best_ours, best_plain = interleaved(ours, plain, rounds)
    ceiling = matrix_rate(runtime.autocast or torch.float32) * 1e9 / flops_of_picture(plain.model)
    log.info("%d images, %s", len(images), runtime.autocast or torch.float32)
    count = len(images)
    return [row("embed_image", "images/s", count / best_ours, count / best_plain, ceiling)]


def flops_of_picture(model: torch.nn.Module) -> float:
    """Operations of a forward pass over one picture: two a multiplication."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 224, 224))
    return float(counter.get_total_flops())


class _Plain:
    """One picture after another."""

    def __init__(self, images: pa.Table) -> None:
        import timm
        from timm.data.config import resolve_model_data_config
        from timm.data.transforms_factory import create_transform

        created: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        self.model = created.eval()
        path = embedded.locate(embedded.EFFICIENTNET_LITE0)
        weights = torch.load(path, weights_only=True).values()
        self.model.load_state_dict(dict(zip(self.model.state_dict(), weights, strict=True)))
        self.model.reset_classifier(0)
        config = resolve_model_data_config(self.model)
        self._transform: Any = create_transform(**config, is_training=False)
        self._jpegs = [data.as_py() for data in images.column("image")]

    def __call__(self) -> np.ndarray:
        return np.stack([self._embed(data) for data in self._jpegs])

    def _embed(self, data: bytes) -> np.ndarray:
        picture = Image.open(BytesIO(data)).convert("RGB")
        with torch.no_grad():
            vector: np.ndarray = self.model(self._transform(picture)[None])[0].numpy()
        return vector


def _check_agreement(ours: np.ndarray, plain: np.ndarray) -> None:
    cosines = (ours * plain).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(plain, axis=1)
    log.info("cosine of ours with plain: %.5f at least", cosines.min())
    assert cosines.min() > 0.99
