"""Transformer text encoders: mean over the tokens of the last hidden state, field by field.

As the paper's pipeline does with LLaMA: title and description are embedded apart, each as the
mean of its tokens' last hidden states, and an item's vector is the mean of its fields.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from macrec_core.encoders import embedded
from macrec_core.encoders.encoded import Encoded
from macrec_core.encoders.fields import field_texts
from macrec_core.encoders.weights import weights_sha256
from macrec_core.errors import MacrecError
from macrec_core.params import HuggingFaceTextEncoder, MiniLMEncoder
from macrec_core.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextModel:
    """A loaded encoder.

    Attributes:
        tokenizer: the model's own tokenizer.
        model: gives `last_hidden_state` [batch, tokens, width].
        info: model id, revision and weight hash.
    """

    tokenizer: Any
    model: nn.Module
    info: dict[str, object]


@dataclass(frozen=True)
class Tokens:
    """Token ids of texts.

    Attributes:
        rows: ids of each text, special tokens included, at most `max_tokens` of them.
        cut: tokens that truncation removed from each text.
    """

    rows: list[list[int]]
    cut: list[int]


def encode(
    items: pa.Table,
    section: MiniLMEncoder | HuggingFaceTextEncoder,
    device: torch.device,
    progress: Progress,
) -> Encoded:
    """Embed the fields of every item and average them.

    An item's vector is the mean over its fields that are not empty. An item whose fields are
    all empty gets the embedding of the empty text. Both cases are counted.

    Raises:
        MacrecError: a field without texts, or a model that cannot be loaded as described.
    """
    texts = field_texts(items, section.fields)
    loaded = _load(section)
    _check_max_tokens(loaded, section.max_tokens)
    owners, flat = _filled(texts, items.num_rows)
    tokens = tokenize(loaded.tokenizer, flat, section.max_tokens)
    loaded.model.to(device)
    vectors = mean_pooled(loaded, tokens.rows, section.batch_size, device, progress)
    info: dict[str, object] = {
        "encoder": section.encoder,
        **loaded.info,
        "fields": list(section.fields),
        "max_tokens": section.max_tokens,
    }
    counts: dict[str, float] = {
        "texts": len(flat),
        "truncated_texts": sum(cut > 0 for cut in tokens.cut),
        "truncated_tokens": sum(tokens.cut),
        "empty_fields": sum(text == "" for column in texts.values() for text in column),
        "items_without_text": sum(text == "" for text in flat),
    }
    log.info("%s: %s", section.encoder, counts)
    return Encoded(_mean_by_owner(vectors, owners, items.num_rows), info, counts)


def load_minilm() -> TextModel:
    """MiniLM-L6 from the `embedded` extra (384 wide).

    Raises:
        MacrecError: the extra is not installed or its file is not the upstream one.
    """
    path = embedded.locate(embedded.MINILM)
    tokenizer, model = _from_pretrained(str(path.parent), None, torch.float32)
    info = {"model": embedded.MINILM.distribution, "weights_sha256": embedded.MINILM.sha256}
    return TextModel(tokenizer, model, {**info, "revision": embedded.MINILM.version})


def load_huggingface(model: str, revision: str | None, dtype: str) -> TextModel:
    """Any Hugging Face text encoder, LLaMA included.

    Args:
        model: hub id or local folder.
        revision: commit, tag or branch on the hub; None for its default.
        dtype: type of the weights.

    Raises:
        MacrecError: it cannot be reached or read, or lacks weights.
    """
    tokenizer, network = _from_pretrained(model, revision, getattr(torch, dtype))
    commit = getattr(network.config, "_commit_hash", None)
    return TextModel(
        tokenizer,
        # The encoder half of a sequence-to-sequence model is what embeds a text.
        network.get_encoder() if network.config.is_encoder_decoder else network,
        {
            "model": model,
            "revision": commit or revision,
            "dtype": dtype,
            "weights_sha256": weights_sha256(network),
        },
    )


def tokenize(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> Tokens:  # noqa: ANN401 - untyped
    """Token ids of each text, truncated to `max_tokens` with the special tokens kept."""
    # Stated outright: a tokenizer file may carry a truncation and padding of its own.
    plain = {"padding": False, "return_attention_mask": False, "verbose": False}
    full = tokenizer(list(texts), truncation=False, **plain)["input_ids"]
    kept = tokenizer(list(texts), truncation=True, max_length=max_tokens, **plain)["input_ids"]
    for text, row in zip(texts, kept, strict=True):
        if not row:
            raise MacrecError(
                f"text {text!r}: the model's tokenizer yields no token for it; give such items a "
                "title, or choose a model whose tokenizer adds a start token"
            )
    return Tokens(kept, [len(a) - len(b) for a, b in zip(full, kept, strict=True)])


def mean_pooled(
    loaded: TextModel,
    rows: Sequence[Sequence[int]],
    batch_size: int,
    device: torch.device,
    progress: Progress,
) -> np.ndarray:
    """Mean over each text's tokens of the last hidden state, [texts, width] float32.

    Texts of like length share a batch. Padding stands right and is masked, so that neither the
    positions nor, in a causal model, the context of real tokens depend on it.
    """
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))
    pooled: list[Tensor] = []
    progress.start("embed text", len(rows))
    for start in range(0, len(order), batch_size):
        batch = [rows[i] for i in order[start : start + batch_size]]
        ids, mask = padded(batch, _padding_id(loaded.tokenizer))
        mask = mask.to(device)
        with torch.inference_mode():
            # [batch, tokens, width]
            hidden = loaded.model(input_ids=ids.to(device), attention_mask=mask).last_hidden_state
            # where, not a product: a masked NaN times zero would stay NaN.
            hidden = torch.where(mask[:, :, None] > 0, hidden.float(), 0.0)
            pooled.append((hidden.sum(1) / mask.sum(1, keepdim=True)).cpu())
        progress.advance(len(batch))
    vectors = torch.cat(pooled)
    restored = torch.empty_like(vectors)
    restored[torch.tensor(order)] = vectors
    return restored.numpy()


def padded(rows: Sequence[Sequence[int]], padding_id: int) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both [rows, longest], filled up on the right."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), padding_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask


def _load(section: MiniLMEncoder | HuggingFaceTextEncoder) -> TextModel:
    if isinstance(section, MiniLMEncoder):
        return load_minilm()
    return load_huggingface(section.model, section.revision, section.dtype)


def _from_pretrained(model: str, revision: str | None, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        network, report = AutoModel.from_pretrained(
            model, revision=revision, dtype=dtype, output_loading_info=True
        )
    except (OSError, ValueError, ImportError) as error:
        cause = " ".join(str(error).split())[:300]
        raise MacrecError(
            f"embed.text.model={model!r}: cannot be loaded ({cause}); download the model once and "
            "give its local folder, or correct the name"
        ) from error
    # A pooler is made for sentence classification; the last hidden state does not pass it.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise MacrecError(
            f"embed.text.model={model!r}: {len(missing)} weights are not in its files "
            f"(first: {missing[0]}) and would be random; give a complete model"
        )
    network.config.use_cache = False  # keys and values of past tokens are of no use here
    return tokenizer, network.eval()


def _check_max_tokens(loaded: TextModel, max_tokens: int) -> None:
    limits = [
        getattr(loaded.model.config, "max_position_embeddings", None),
        loaded.tokenizer.model_max_length,
    ]
    limit = min(value for value in limits if value is not None)
    if max_tokens > limit:
        raise MacrecError(
            f"embed.text.max_tokens={max_tokens}: the model takes at most {limit}; lower it"
        )


def _filled(texts: dict[str, list[str]], num_items: int) -> tuple[list[int], list[str]]:
    """Owner and text of every field that is not empty; one empty text for an item of none."""
    owners: list[int] = []
    flat: list[str] = []
    for item in range(num_items):
        own = [column[item] for column in texts.values() if column[item]] or [""]
        owners += [item] * len(own)
        flat += own
    return owners, flat


def _mean_by_owner(vectors: np.ndarray, owners: list[int], num_items: int) -> np.ndarray:
    sums = np.zeros((num_items, vectors.shape[1]), np.float32)
    np.add.at(sums, owners, vectors)
    means: np.ndarray = sums / np.bincount(owners, minlength=num_items)[:, None]
    return means.astype(np.float32)


def _padding_id(tokenizer: Any) -> int:  # noqa: ANN401 - untyped
    """Any id will do, since it is masked; LLaMA's tokenizer has no padding token."""
    for value in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if value is not None:
            return int(value)
    return 0
