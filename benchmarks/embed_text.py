"""MiniLM over item texts: titles and descriptions, cut to the sample's `max_tokens`.

Ours is what `embed_text` does with a shard at the sample's settings, tokenising included, on
all cores and in the precision that `runtime.precision: auto` chooses. Plain is the loop of a
naive script: Hugging Face's tokenizer and model, one text a forward pass, float32, no gradients.
Both embed the same texts, real ones where they are at hand. The ceiling is this machine's matrix
rate over the floating-point operations of a text's own tokens.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from benchmarks import catalogue
from benchmarks.measure import Row, interleaved, matrix_rate, row
from macrec_core.artifacts import read_artifact
from macrec_core.encoders import embedded, text
from macrec_core.encoders.batches import by_tokens
from macrec_core.encoders.bert import Bert
from macrec_core.encoders.text_models import load_minilm
from macrec_core.params.data import MiniLMEncoder
from macrec_core.runtime import Runtime, computes_bfloat16
from macrec_core.schemas import ITEMS

log = logging.getLogger(__name__)

_ITEMS = 320  # of the catalogue, drawn at random: the plain loop takes seconds for them
_ROUNDS = 3


def run(num_items: int = _ITEMS, rounds: int = _ROUNDS) -> list[Row]:
    """One row in texts a second."""
    section = catalogue.params().embed.text
    assert isinstance(section, MiniLMEncoder)
    items = _items(num_items)
    device = torch.device("cpu")
    runtime = Runtime(device, torch.bfloat16 if computes_bfloat16(device) else None)
    ours, plain = _Ours(items, section, runtime), _Plain(items, section)
    _check_agreement(ours(), plain())
    texts = len(plain.texts)
    best_ours, best_plain = interleaved(ours, plain, rounds)
    lengths = ours.lengths()
    flops = [flops_of_text(ours.model.network, length) for length in lengths]
    ceiling = matrix_rate(runtime.autocast or torch.float32) * 1e9 / float(np.mean(flops))
    padded = sum(
        max(lengths[i] for i in b) * len(b) for b in by_tokens(lengths, section.batch_tokens)
    )
    log.info(
        "%d texts of %.0f tokens, %s, batches of %d tokens with %.1f %% padding",
        texts, np.mean(lengths), runtime.autocast or torch.float32, section.batch_tokens,
        100 * (1 - sum(lengths) / padded),
    )  # fmt: skip
    return [row("embed_text", "texts/s", texts / best_ours, texts / best_plain, ceiling)]


def flops_of_text(network: torch.nn.Module, tokens: int) -> float:
    """Operations of a forward pass over one text: two a multiplication."""
    assert isinstance(network, Bert)
    width = network.positions.shape[1]
    layers = len(network.layers)
    # Four projections, a layer four times as wide and back; scores and their mixture.
    return 2.0 * layers * (tokens * 12 * width * width + 2 * tokens * tokens * width)


class _Ours:
    def __init__(self, items: pa.Table, section: MiniLMEncoder, runtime: Runtime) -> None:
        self.model = load_minilm()
        self._items, self._section, self._runtime = items, section, runtime

    def __call__(self) -> np.ndarray:
        shard = text.tokenised(self._items, 0, self._section, self.model)
        return text.vectors_of(shard, self.model, self._section.batch_tokens, self._runtime)

    def lengths(self) -> list[int]:
        shard = text.tokenised(self._items, 0, self._section, self.model)
        return [len(row) for row in shard.tokens.rows]


class _Plain:
    """One text after another; an item is the mean of its fields that are not empty."""

    def __init__(self, items: pa.Table, section: MiniLMEncoder) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = embedded.locate(embedded.MINILM).parent
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).eval()
        self._max_tokens = section.max_tokens
        rows = items.select(section.fields).to_pylist()
        fields = [[text.strip() for text in item.values() if text.strip()] for item in rows]
        self._items = [own or [""] for own in fields]
        self.texts = [text for own in self._items for text in own]

    def __call__(self) -> np.ndarray:
        return np.stack([np.mean([self._embed(t) for t in own], axis=0) for own in self._items])

    def _embed(self, sentence: str) -> np.ndarray:
        inputs = self._tokenizer(
            sentence, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        )
        with torch.no_grad():
            hidden = self._model(**inputs).last_hidden_state
        vector: np.ndarray = hidden[0].mean(0).numpy()
        return vector


def _items(count: int) -> pa.Table:
    items = catalogue.real_items()
    if items is None:
        with tempfile.TemporaryDirectory() as folder:
            items = read_artifact(catalogue.sample(Path(folder)) / "items.parquet", ITEMS)
    chosen = np.random.default_rng(0).permutation(items.num_rows)[:count]
    return items.take(pa.array(np.sort(chosen)))


def _check_agreement(ours: np.ndarray, plain: np.ndarray) -> None:
    cosines = (ours * plain).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(plain, axis=1)
    log.info("cosine of ours with plain: %.5f at least", cosines.min())
    assert cosines.min() > 0.999
