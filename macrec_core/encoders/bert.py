"""BERT's encoder (Devlin et al., 2019) in plain torch, for inference.

The Hugging Face network computes the same, which the tests check; importing it takes longer
than embedding a small catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Of all published BERT models.
LAYER_NORM_EPS = 1e-12


class Bert(nn.Module):
    """Last hidden states of a BERT model with post-layer normalisation and exact GELU.

    Args:
        tensors: weights under Hugging Face's names, in the model's type; others are ignored.
        num_heads: attention heads; the weights do not tell.
    """

    def __init__(self, tensors: Mapping[str, Tensor], num_heads: int) -> None:
        super().__init__()
        words = tensors["embeddings.word_embeddings.weight"]
        positions = tensors["embeddings.position_embeddings.weight"]
        kinds = tensors["embeddings.token_type_embeddings.weight"]
        self.words = nn.Embedding.from_pretrained(words)
        # A single text: every token is of the first of the two types.
        self.positions = nn.Parameter(positions + kinds[0])
        self.norm = _norm(tensors, "embeddings.LayerNorm")
        layers = {int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer.")}
        self.layers = nn.ModuleList(
            _Layer(tensors, f"encoder.layer.{i}", num_heads) for i in sorted(layers)
        )

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Hidden states [batch, tokens, width].

        Args:
            ids: [batch, tokens].
            mask: [batch, tokens], 0 at padding; None where there is none.
        """
        hidden: Tensor = self.norm(self.words(ids) + self.positions[: ids.shape[1]])
        seen = None if mask is None else mask.bool()[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, seen)
        return hidden


class _Layer(nn.Module):
    def __init__(self, tensors: Mapping[str, Tensor], name: str, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        # One product instead of three small ones.
        parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        self.inward = _linear(
            torch.cat([tensors[f"{part}.weight"] for part in parts]),
            torch.cat([tensors[f"{part}.bias"] for part in parts]),
        )
        self.outward = _named(tensors, f"{name}.attention.output.dense")
        self.attention_norm = _norm(tensors, f"{name}.attention.output.LayerNorm")
        self.up = _named(tensors, f"{name}.intermediate.dense")
        self.down = _named(tensors, f"{name}.output.dense")
        self.norm = _norm(tensors, f"{name}.output.LayerNorm")

    def forward(self, hidden: Tensor, seen: Tensor | None) -> Tensor:
        batch, tokens, width = hidden.shape
        heads = self.inward(hidden).view(batch, tokens, 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # [batch, heads, tokens, width / heads]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
        hidden = self.attention_norm(hidden + self.outward(mixed))
        normed: Tensor = self.norm(hidden + self.down(F.gelu(self.up(hidden))))
        return normed


def _named(tensors: Mapping[str, Tensor], name: str) -> nn.Linear:
    return _linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    with torch.device("meta"):  # nothing is drawn for weights that are replaced
        linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(bias)
    return linear


def _norm(tensors: Mapping[str, Tensor], name: str) -> nn.LayerNorm:
    norm = nn.LayerNorm(len(tensors[f"{name}.weight"]), eps=LAYER_NORM_EPS)
    norm.weight = nn.Parameter(tensors[f"{name}.weight"])
    norm.bias = nn.Parameter(tensors[f"{name}.bias"])
    return norm
