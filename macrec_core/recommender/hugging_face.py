"""The recommender on disk: Hugging Face's format of a T5, so that any tool of the field reads it.

What makes visual tokens of image vectors is no part of a T5 and lies in a file of its own.

Written without importing transformers, whose T5 takes seconds to import; that its
`T5ForConditionalGeneration` loads the folder and computes the same is a test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from macrec_core.errors import MacrecError
from macrec_core.recommender.positions import MAX_DISTANCE, NUM_BUCKETS
from macrec_core.recommender.t5 import END_ID, PAD_ID, START_ID, T5
from macrec_core.recommender.t5 import T5Shape as T5Shape
from macrec_core.recommender.visual import ItemImages

_CONFIG, _GENERATION, _WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
_VISUAL = "visual.safetensors"
T5_FILES = (_CONFIG, _GENERATION, _WEIGHTS, _VISUAL)
_BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def save_t5(model: T5, folder: Path, num_levels: int) -> None:
    """Write configuration and weights into an existing folder.

    Args:
        model: the recommender.
        folder: where to.
        num_levels: L; `generate` then stops after L codes and the end token.
    """
    ids = {"pad_token_id": PAD_ID, "eos_token_id": END_ID, "decoder_start_token_id": START_ID}
    config = {"architectures": ["T5ForConditionalGeneration"], **config_of(model.shape)}
    _write(folder / _CONFIG, config)
    _write(folder / _GENERATION, {**ids, "max_new_tokens": num_levels + 1})
    parts = {_WEIGHTS: to_names(model)}
    if model.visual is not None:
        parts[_VISUAL] = model.visual.state_dict()
    for name, part in parts.items():
        tensors = {key: t.detach().cpu().contiguous() for key, t in part.items()}
        save_file(tensors, folder / name, metadata={"format": "pt"})


def load_t5(folder: Path, images: ItemImages | None = None) -> T5:
    """Read a saved recommender, in evaluation mode.

    Args:
        folder: where it lies.
        images: of a recommender with visual tokens.

    Raises:
        MacrecError: the folder holds no such model.
    """
    try:
        shape = shape_of(json.loads((folder / _CONFIG).read_text()))
        model = T5(shape, images)
        with torch.no_grad():
            _copy(load_file(folder / _WEIGHTS), to_names(model))
            if (folder / _VISUAL).exists() or model.visual is not None:
                _copy(load_file(folder / _VISUAL), _visual_names(model))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise MacrecError(
            f"{folder}: is no T5 in Hugging Face format as train_gr writes it ({first_line}); "
            "run train_gr again"
        ) from error
    return model.eval()


def config_of(shape: T5Shape) -> dict[str, Any]:
    """The `T5Config` of a shape, as keyword arguments."""
    return {
        "model_type": "t5",
        "vocab_size": shape.vocabulary_size,
        "d_model": shape.d_model,
        "d_kv": shape.d_kv,
        "d_ff": shape.d_ff,
        "num_layers": shape.num_layers,
        "num_decoder_layers": shape.num_layers,
        "num_heads": shape.num_heads,
        "dropout_rate": shape.dropout,
        "feed_forward_proj": "relu",
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        "scale_decoder_outputs": True,
        "relative_attention_num_buckets": NUM_BUCKETS,
        "relative_attention_max_distance": MAX_DISTANCE,
        "layer_norm_epsilon": 1e-6,
        "pad_token_id": PAD_ID,
        "eos_token_id": END_ID,
        "decoder_start_token_id": START_ID,
    }


def shape_of(config: dict[str, Any]) -> T5Shape:
    """The shape that a `T5Config` describes.

    Raises:
        ValueError: it describes a T5 that this network is not.
    """
    shape = T5Shape(
        vocabulary_size=config["vocab_size"],
        d_model=config["d_model"],
        d_kv=config["d_kv"],
        d_ff=config["d_ff"],
        num_layers=config["num_layers"],
        num_heads=config["num_heads"],
        dropout=config["dropout_rate"],
    )
    for name, value in config_of(shape).items():
        if config.get(name, value) != value:
            raise ValueError(f"{name} is {config[name]!r}, expected {value!r}")
    return shape


def to_names(model: T5) -> dict[str, Tensor]:
    """The weights under Hugging Face's names; fused projections come apart as views."""
    tensors: dict[str, Tensor] = {"shared.weight": model.embedding}
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        tensors[f"{side}.{_BIAS}"] = stack.position_bias
        tensors[f"{side}.final_layer_norm.weight"] = stack.norm
        for index, block in enumerate(stack.layers):
            at = f"{side}.block.{index}.layer"
            queries, keys, values = block.qkv.chunk(3)
            tensors |= {
                f"{at}.0.SelfAttention.q.weight": queries,
                f"{at}.0.SelfAttention.k.weight": keys,
                f"{at}.0.SelfAttention.v.weight": values,
                f"{at}.0.SelfAttention.o.weight": block.out,
                f"{at}.0.layer_norm.weight": block.norm,
            }
            if side == "decoder":
                keys, values = block.cross_kv.chunk(2)
                tensors |= {
                    f"{at}.1.EncDecAttention.q.weight": block.cross_q,
                    f"{at}.1.EncDecAttention.k.weight": keys,
                    f"{at}.1.EncDecAttention.v.weight": values,
                    f"{at}.1.EncDecAttention.o.weight": block.cross_out,
                    f"{at}.1.layer_norm.weight": block.cross_norm,
                }
            last = f"{at}.{2 if side == 'decoder' else 1}"
            tensors |= {
                f"{last}.DenseReluDense.wi.weight": block.ff_in,
                f"{last}.DenseReluDense.wo.weight": block.ff_out,
                f"{last}.layer_norm.weight": block.ff_norm,
            }
    return tensors


def _visual_names(model: T5) -> dict[str, Tensor]:
    if model.visual is None:
        raise ValueError("it reads visual tokens, and the semantic IDs have no images")
    return model.visual.state_dict()


def _copy(tensors: dict[str, Tensor], targets: dict[str, Tensor]) -> None:
    if targets.keys() != tensors.keys():
        odd = sorted(targets.keys() ^ tensors.keys())
        raise ValueError(f"{len(odd)} weights missing or unknown, first {odd[0]}")
    for name, target in targets.items():
        if target.shape != tensors[name].shape:
            found, expected = tuple(tensors[name].shape), tuple(target.shape)
            raise ValueError(f"{name} is {found}, expected {expected}")
        target.copy_(tensors[name])


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
