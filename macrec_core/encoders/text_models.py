"""The text encoders: MiniLM from the `embedded` extra, and any Hugging Face model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from macrec_core.encoders import embedded
from macrec_core.encoders.weights import weights_sha256
from macrec_core.errors import MacrecError
from macrec_core.params.data import HuggingFaceTextEncoder, MiniLMEncoder

Rows = list[list[int]]


@dataclass(frozen=True)
class TextModel:
    """A loaded encoder.

    Attributes:
        network: on its device after `network.to`.
        hidden: (ids, mask), both [batch, tokens], to the last hidden state [batch, tokens,
            width]; the mask is 0 at padding, which stands right, and None where there is none.
        dtype: type of the weights.
        tokenizer: texts to token ids, special tokens included, at most so many a text (None: all
            of them).
        padding_id: any id will do, since it is masked.
        max_tokens: that the model takes, or None.
        info: model id, revision and weight hash.
        settings: configuration and tokenizer as text: what beside the weights shapes a vector.
    """

    network: nn.Module
    hidden: Callable[[Tensor, Tensor | None], Tensor]
    dtype: torch.dtype
    tokenizer: Callable[[Sequence[str], int | None], Rows]
    padding_id: int
    max_tokens: int | None
    info: dict[str, object]
    settings: str


def load(section: MiniLMEncoder | HuggingFaceTextEncoder) -> TextModel:
    """The encoder that params name.

    Raises:
        MacrecError: it cannot be loaded, or takes fewer than `max_tokens` tokens.
    """
    if isinstance(section, MiniLMEncoder):
        loaded = load_minilm()
    else:
        loaded = load_huggingface(section.model, section.revision, section.dtype)
    if loaded.max_tokens is not None and section.max_tokens > loaded.max_tokens:
        raise MacrecError(
            f"embed.text.max_tokens={section.max_tokens}: the model takes at most "
            f"{loaded.max_tokens}; lower it"
        )
    return loaded


def load_minilm() -> TextModel:
    """MiniLM-L6 from the `embedded` extra (384 wide).

    Raises:
        MacrecError: the extra is not installed or its file is not the upstream one.
    """
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    from macrec_core.encoders.bert import Bert

    path = embedded.locate(embedded.MINILM)
    config = json.loads((path.parent / "config.json").read_text())
    network = Bert(load_file(path), config["num_attention_heads"]).eval()
    words = Tokenizer.from_file(str(path.parent / "tokenizer.json"))

    def tokenizer(texts: Sequence[str], max_tokens: int | None) -> Rows:
        # Stated outright: the file carries a truncation and padding of its own.
        words.no_padding()
        words.no_truncation() if max_tokens is None else words.enable_truncation(max_tokens)
        return [encoding.ids for encoding in words.encode_batch_fast(list(texts))]

    info = {"model": embedded.MINILM.distribution, "weights_sha256": embedded.MINILM.sha256}
    return TextModel(
        network=network,
        hidden=network,
        dtype=torch.float32,
        tokenizer=tokenizer,
        padding_id=config["pad_token_id"],
        max_tokens=config["max_position_embeddings"],
        info={**info, "revision": embedded.MINILM.version},
        settings=words.to_str(),
    )


def load_huggingface(model: str, revision: str | None, dtype: str) -> TextModel:
    """Any Hugging Face text encoder, LLaMA included.

    Args:
        model: hub id or local folder.
        revision: commit, tag or branch on the hub; None for its default.
        dtype: type of the weights.

    Raises:
        MacrecError: it cannot be reached or read, or lacks weights.
    """
    words, network = _from_pretrained(model, revision, getattr(torch, dtype))

    def tokenizer(texts: Sequence[str], max_tokens: int | None) -> Rows:
        # Stated outright: a tokenizer file may carry a truncation and padding of its own.
        rows: Rows = words(
            list(texts), truncation=max_tokens is not None, max_length=max_tokens, padding=False,
            return_attention_mask=False, verbose=False,
        )["input_ids"]  # fmt: skip
        return rows

    config = network.config
    # The encoder half of a sequence-to-sequence model is what embeds a text.
    half = network.get_encoder() if config.is_encoder_decoder else network
    limits = (getattr(config, "max_position_embeddings", None), words.model_max_length)
    padding = (words.pad_token_id, words.eos_token_id)  # LLaMA has none of its own
    return TextModel(
        network=half,
        hidden=lambda ids, mask: half(input_ids=ids, attention_mask=mask).last_hidden_state,
        dtype=getattr(torch, dtype),
        tokenizer=tokenizer,
        padding_id=next((int(value) for value in padding if value is not None), 0),
        max_tokens=min((value for value in limits if value is not None), default=None),
        info={
            "model": model,
            "revision": getattr(config, "_commit_hash", None) or revision,
            "dtype": dtype,
            "weights_sha256": weights_sha256(network),
        },
        settings=config.to_json_string() + _tokenizer_text(words),
    )


def _tokenizer_text(words: Any) -> str:  # noqa: ANN401 - transformers types its tokenizers by no common class
    """Everything that decides a text's token ids."""
    if getattr(words, "is_fast", False):
        return str(words.backend_tokenizer.to_str())
    return json.dumps(words.get_vocab(), sort_keys=True) + repr(words)


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
