"""Text and image encoders of the paper's sizes on a GPU: LLaMA-7B and CLIP ViT-L/14.

Weights are random, which costs the same time. Texts have the lengths of a real catalogue and go
through the product's own batches (`encoders.batches`): sorted by length, a token budget, tokens
made ready by threads. Pictures are random and lie on the GPU: decoding JPEG is the CPU's work.
No plain version: what counts is the share of the measured matrix rate, padding not counted.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import macrec_core
from benchmarks.gpu_input import Inputs
from benchmarks.gpu_measure import Budget, GpuRow, Machine, gpu_row

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("benchmarks.gpu")

_GOAL = 0.5
_BATCH_TOKENS = 16384
_PICTURES = 256  # a batch
_LLAMA = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "max_position_embeddings": 2048,
}  # fmt: skip
_SMALL_LLAMA = _LLAMA | {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2,
}  # fmt: skip
_VIT = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 224, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip
_SMALL_VIT = _VIT | {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 28, "projection_dim": 16,
}  # fmt: skip


def llama(machine: Machine, inputs: Inputs, budget: Budget) -> Iterator[GpuRow]:
    """Tokens a second, padding not counted."""
    from transformers import LlamaConfig, LlamaModel

    sizes = _SMALL_LLAMA if machine.small else _LLAMA
    model = _with_random_weights(lambda: LlamaModel(LlamaConfig.from_dict(sizes)), machine)
    lengths = inputs.text_lengths[:40] if machine.small else inputs.text_lengths
    product = _product_batches()
    batches = product.by_tokens(lengths, _BATCH_TOKENS)
    # A few of the shapes first, so that kernels are chosen.
    _pooled(product, model, lengths, batches[:: max(1, len(batches) // 4)], machine)
    machine.start()
    # Long and short texts in turn: a cut run is then of the same mixture.
    order = [b for part in range(8) for b in batches[part::8]]
    start, done = time.perf_counter(), []
    for first in range(0, len(order), 8):
        done += order[first : first + 8]
        _pooled(product, model, lengths, order[first : first + 8], machine)
        if budget.spent:
            break
    took = time.perf_counter() - start
    yield _text_row(machine, lengths, done, took, sizes)


def _text_row(
    machine: Machine,
    lengths: list[int],
    batches: list[list[int]],
    took: float,
    sizes: Mapping[str, int],
) -> GpuRow:
    texts = [lengths[i] for batch in batches for i in batch]
    padding = 1 - sum(texts) / sum(len(b) * max(lengths[i] for i in b) for b in batches)
    flops = sum(flops_of_text(tokens, sizes) for tokens in texts)
    share = flops / took / machine.matrix_rate
    log.info(
        "LLaMA: %d texts, %d tokens (%.1f %% padding) in %.2f s: %.1f %% of the matrix rate",
        len(texts), sum(texts), 100 * padding, took, 100 * share,
    )  # fmt: skip
    whole = len(texts) == len(lengths)
    return gpu_row(
        machine, "llama", "tokens/s", sum(texts) / took, flops=flops / sum(texts),
        goal=">= 50 % of the matrix rate", reached=share >= _GOAL,
        details={
            "texts": len(texts), "cut": None if whole else f"{len(texts)} of {len(lengths)} texts",
            "tokens": sum(texts), "mean_tokens": sum(texts) / len(texts), "padding": padding,
            "batch_tokens": _BATCH_TOKENS, "seconds": took,
            "matrix_tflops": machine.matrix_rate / 1e12,
        },
    )  # fmt: skip


def flops_of_text(tokens: int, sizes: Mapping[str, int]) -> float:
    """Operations of one text: its own tokens only, and of attention the half that is not masked."""
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    heads = sizes["num_key_value_heads"] / sizes["num_attention_heads"]
    weights = width * width * (2 + 2 * heads) + 3 * width * inner
    return float(sizes["num_hidden_layers"] * (2 * tokens * weights + 2 * tokens * tokens * width))


def vit(machine: Machine, budget: Budget) -> Iterator[GpuRow]:
    """Pictures a second."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes = _SMALL_VIT if machine.small else _VIT
    config = CLIPVisionConfig.from_dict(sizes)
    model = _with_random_weights(lambda: CLIPVisionModelWithProjection(config), machine)
    side = sizes["image_size"]
    count = 4 if machine.small else _PICTURES
    pictures = torch.randn(count, 3, side, side, device=machine.device).to(torch.bfloat16)

    @torch.inference_mode()
    def forward() -> None:
        model(pixel_values=pictures)

    for _ in range(3):
        forward()
    machine.start()
    once = machine.seconds(forward)
    times = max(1, min(40, int(budget.left / once) if once else 1))
    took = machine.seconds(lambda: [forward() for _ in range(times)])
    flops = flops_of_picture(sizes)
    share = times * count * flops / took / machine.matrix_rate
    log.info(
        "ViT: %d pictures in %.2f s: %.1f %% of the matrix rate", times * count, took, 100 * share
    )
    yield gpu_row(
        machine, "vit", "pictures/s", times * count / took, flops=flops,
        goal=">= 50 % of the matrix rate", reached=share >= _GOAL,
        details={
            "pictures": times * count, "batch": count, "gflop_a_picture": flops / 1e9,
            "matrix_tflops": machine.matrix_rate / 1e12, "measured": "the forward pass alone",
        },
    )  # fmt: skip


def flops_of_picture(sizes: Mapping[str, int]) -> float:
    """Operations of one picture: patches, layers and the projection."""
    patches = (sizes["image_size"] // sizes["patch_size"]) ** 2
    width, places = sizes["hidden_size"], patches + 1
    weights = 4 * width * width + 2 * width * sizes["intermediate_size"]
    layers = sizes["num_hidden_layers"] * (2 * places * weights + 4 * places * places * width)
    patching = 2 * patches * 3 * sizes["patch_size"] ** 2 * width
    return float(layers + patching + 2 * width * sizes["projection_dim"])


def _with_random_weights(make: Callable[[], PreTrainedModel], machine: Machine) -> PreTrainedModel:
    """A network made on the device, its weights in bfloat16."""
    before = torch.get_default_dtype()
    start = time.perf_counter()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(machine.device):
            model = make()
    finally:
        torch.set_default_dtype(before)
    model.config.use_cache = False  # keys and values of past tokens are of no use here
    machine.synchronise()
    log.info("%s: made in %.1f s", type(model).__name__, time.perf_counter() - start)
    model.eval()
    return model


def _pooled(
    product: ModuleType,
    model: PreTrainedModel,
    lengths: list[int],
    batches: list[list[int]],
    machine: Machine,
) -> Tensor:
    """Mean last hidden state of the texts of some batches, as `encoders.text` computes it."""

    def pooled(ids: Tensor, mask: Tensor | None) -> Tensor:
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if mask is None:
            means: Tensor = hidden.mean(1)
            return means
        hidden = torch.where(mask[:, :, None] > 0, hidden, 0.0)
        sums: Tensor = hidden.sum(1) / mask.sum(1, keepdim=True)
        return sums

    def prepare(batch: list[int]) -> tuple[Tensor, Tensor | None]:
        longest = max(lengths[i] for i in batch)
        draws = torch.Generator().manual_seed(batch[0])
        size = (len(batch), longest)
        ids = torch.randint(model.config.vocab_size, size, generator=draws)
        mask = torch.arange(longest) < torch.tensor([lengths[i] for i in batch])[:, None]
        return ids, None if bool(mask.all()) else mask.long()

    outputs = product.computed(pooled, prepare, batches, machine.runtime, torch.bfloat16)
    return torch.cat(list(outputs)).cpu()


def _product_batches() -> ModuleType:
    """`macrec_core.encoders.batches` alone: its package imports what a bare image lacks."""
    path = Path(macrec_core.__file__).parent / "encoders/batches.py"
    spec = importlib.util.spec_from_file_location("macrec_encoder_batches", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
