"""The T5 of the paper, over a vocabulary of codes only, saved in Hugging Face format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from macrec_core.errors import MacrecError

if TYPE_CHECKING:
    from macrec_core.params import GrParams

# At these lengths the fused kernel's handling of a mask and a bias costs more than it saves.
# Not part of a saved model: whoever loads one elsewhere gets the library's own default.
_ATTENTION = "eager"


def new_t5(vocabulary_size: int, num_levels: int, params: GrParams) -> T5ForConditionalGeneration:
    """An untrained T5; its weights come from torch's global generator.

    Decoding starts with the padding token 0 and ends with the end token 1.
    """
    config = T5Config(
        vocab_size=vocabulary_size,
        d_model=params.d_model,
        d_kv=params.d_kv,
        d_ff=params.d_ff,
        num_layers=params.num_layers,
        num_decoder_layers=params.num_layers,
        num_heads=params.num_heads,
        dropout_rate=params.dropout,
        feed_forward_proj="relu",
        pad_token_id=0,
        eos_token_id=1,
    )
    config.decoder_start_token_id = 0
    model = T5ForConditionalGeneration(config)
    model.set_attn_implementation(_ATTENTION)
    # What `generate` would otherwise cut at 20 tokens; an ID and its end are L + 1.
    model.generation_config.max_new_tokens = num_levels + 1
    return model


def load_t5(folder: Path) -> T5ForConditionalGeneration:
    """Read a saved recommender, in evaluation mode.

    Raises:
        MacrecError: the folder holds no such model.
    """
    try:
        model = T5ForConditionalGeneration.from_pretrained(
            folder, local_files_only=True, attn_implementation=_ATTENTION
        )
    except (OSError, ValueError, RuntimeError) as error:
        first_line = str(error).splitlines()[0]
        raise MacrecError(
            f"{folder}: is no T5 in Hugging Face format ({first_line}); run train_gr again"
        ) from error
    assert isinstance(model, T5ForConditionalGeneration)
    model.eval()
    return model


def encode(model: T5ForConditionalGeneration, source: Tensor, mask: Tensor) -> Tensor:
    """Encoder outputs [B, S, d_model] of token ids [B, S] with mask [B, S]."""
    hidden: Tensor = model.encoder(input_ids=source, attention_mask=mask).last_hidden_state
    return hidden


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the unmasked positions (Eqs. 14-15): [B, S, d] and [B, S] give [B, d]."""
    weights = mask.to(hidden.dtype)[:, :, None]
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def output_scale(model: T5ForConditionalGeneration) -> float:
    """What T5 multiplies decoder outputs by before the tied output embedding."""
    config = model.config
    scaled = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)
    return float(model.model_dim**-0.5) if scaled else 1.0


def parameter_count(model: torch.nn.Module) -> int:
    """Number of trained values, shared ones counted once."""
    return sum(p.numel() for p in model.parameters())
