"""EfficientNet-Lite0 (Tan and Le, 2019; Lite: Liu, 2020) in plain torch, for inference.

timm has the same network, which the tests compare; importing timm takes longer than embedding a
small catalogue. Batch normalisation is folded into the convolutions, which makes the network
about 1.4 times as fast on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

# Of the 16 blocks; kernel sizes and widths follow from the weights.
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
BATCH_NORM_EPS = 1e-3
# What timm evaluates the network with: the shorter side to 256, the centre of 224.
RESIZED, INPUT_SIZE = 256, 224
PREPROCESSING = {
    "input_size": "(3, 224, 224)",
    "interpolation": "bicubic",
    "mean": "(0.5, 0.5, 0.5)",
    "std": "(0.5, 0.5, 0.5)",
    "crop_pct": "0.875",
    "crop_mode": "center",
}


class Lite0(nn.Module):
    """Pooled features [batch, 1280] of pictures [batch, 3, 224, 224].

    Args:
        tensors: weights of the PyTorch conversion of the official release.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stem = _Conv(tensors, "_conv_stem", "_bn0", stride=2)
        self.blocks = nn.ModuleList(
            _Block(tensors, f"_blocks.{i}", stride) for i, stride in enumerate(STRIDES)
        )
        self.head = _Conv(tensors, "_conv_head", "_bn1")

    def forward(self, pictures: Tensor) -> Tensor:
        """Features [batch, 1280] in float32."""
        x = F.relu6(self.stem(pictures), inplace=True)
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.head(x), inplace=True).float().mean((2, 3))


class _Block(nn.Module):
    """Inverted residual: widen, one filter a channel, narrow."""

    def __init__(self, tensors: Mapping[str, Tensor], name: str, stride: int) -> None:
        super().__init__()
        widens = f"{name}._expand_conv.weight" in tensors
        self.widen = _Conv(tensors, f"{name}._expand_conv", f"{name}._bn0") if widens else None
        self.filter = _Conv(tensors, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        self.narrow = _Conv(tensors, f"{name}._project_conv", f"{name}._bn2")
        first = self.widen or self.filter
        self.skips = stride == 1 and first.width_in == self.narrow.width_out

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.widen is None else F.relu6(self.widen(x), inplace=True)
        y: Tensor = self.narrow(F.relu6(self.filter(wide), inplace=True))
        return x + y if self.skips else y


class _Conv(nn.Module):
    """Convolution and the batch normalisation after it, with TensorFlow's padding."""

    def __init__(
        self, tensors: Mapping[str, Tensor], conv: str, norm: str, stride: int = 1
    ) -> None:
        super().__init__()
        weight = tensors[f"{conv}.weight"]
        scale = tensors[f"{norm}.weight"] / torch.sqrt(
            tensors[f"{norm}.running_var"] + BATCH_NORM_EPS
        )
        self.weight = nn.Parameter(weight * scale[:, None, None, None])
        self.bias = nn.Parameter(tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale)
        self.stride, self.kernel = stride, weight.shape[-1]
        # One input channel a filter, except in the stem, whose input is a picture.
        depthwise = weight.shape[1] == 1
        self.groups = len(weight) if depthwise else 1
        self.width_in, self.width_out = weight.shape[1] * self.groups, len(weight)

    def forward(self, x: Tensor) -> Tensor:
        padding = (self.kernel - 1) // 2
        if self.stride == 2:
            # TensorFlow pads an even side by one less at its start, which `padding` cannot say.
            x, padding = F.pad(x, (padding - 1, padding) * 2), 0
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


def preprocessed(picture: Image.Image) -> Tensor:
    """The centre of a resized picture, [3, 224, 224] float32 in [-1, 1].

    timm's preprocessing: input is (x - 127.5) / 127.5, where the TensorFlow release has
    (x - 127) / 128, a difference of 0.4 %.
    """
    width, height = picture.size
    short = min(width, height)
    size = (int(RESIZED * width / short), int(RESIZED * height / short))
    resized = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((side - INPUT_SIZE) / 2) for side in size)
    centre = resized.crop((left, top, left + INPUT_SIZE, top + INPUT_SIZE))
    # The channels stay last in memory.
    values = torch.from_numpy(np.array(centre)).permute(2, 0, 1)
    return values.float().div_(255).sub_(0.5).div_(0.5)
