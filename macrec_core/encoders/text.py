"""Transformer text encoders: mean over the tokens of the last hidden state, field by field.

As the paper's pipeline does with LLaMA: title and description are embedded apart, each as the
mean of its tokens' last hidden states, and an item's vector is the mean of its fields.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from macrec_core.artifacts import read_artifact
from macrec_core.encoders.batches import by_tokens, computed, precision
from macrec_core.encoders.encoded import Encoded
from macrec_core.encoders.fields import check_fields, field_texts
from macrec_core.encoders.shards import Shards, run_folder
from macrec_core.encoders.text_models import TextModel, load
from macrec_core.errors import MacrecError
from macrec_core.lookahead import ahead
from macrec_core.memory import out_of_memory_names
from macrec_core.params.data import HuggingFaceTextEncoder, MiniLMEncoder
from macrec_core.progress import Progress
from macrec_core.runtime import Runtime
from macrec_core.schemas import ITEMS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tokens:
    """Token ids of texts.

    Attributes:
        rows: ids of each text, special tokens included, at most `max_tokens` of them.
        cut: tokens that truncation removed from each text.
    """

    rows: list[list[int]]
    cut: list[int]


@dataclass(frozen=True)
class Shard:
    """The texts of some items, tokenised; equal texts stand once.

    Attributes:
        start: first item.
        tokens: of each different text.
        texts: [filled fields] index of each field's text.
        owners: [filled fields] item of each, counted from `start`.
        counts: of the metrics.
    """

    start: int
    tokens: Tokens
    texts: NDArray[np.int64]
    owners: NDArray[np.int64]
    counts: dict[str, int]


class ItemProgress:
    """Reports texts that are done as the items that they stand for.

    Args:
        progress: of the items.
        num_items: that all the texts together stand for.
    """

    def __init__(self, progress: Progress, num_items: int) -> None:
        self._progress = progress
        self._num_items = num_items
        self._told = 0

    def report(self, done: int, total: int) -> None:
        """`done` of `total` texts are done."""
        reached = self._num_items * done // total
        self._progress.advance(reached - self._told)
        self._told = reached


def encode(
    path: Path,
    section: MiniLMEncoder | HuggingFaceTextEncoder,
    runtime: Runtime,
    scratch: Path,
    progress: Progress,
) -> Encoded:
    """Embed the fields of every item and average them.

    An item's vector is the mean over its fields that are not empty. An item whose fields are
    all empty gets the embedding of the empty text. Both cases are counted.

    Args:
        path: artifact ITEMS.
        section: `embed.text`.
        runtime: device, precision, and the processes that share the shards.
        scratch: folder of interrupted runs.
        progress: receives the number of items done.

    Raises:
        MacrecError: a field without texts, or a model that cannot be loaded as described.
    """
    items = read_artifact(path, ITEMS, ["item_id", *section.fields])
    check_fields(items, section.fields)
    model = load(section)
    with out_of_memory_names("the weights alone are too many: choose a smaller model or dtype"):
        model.network.to(runtime.device)
    info = _info(section, model, runtime)
    settings = [section.model_dump_json(), repr(info), model.settings]
    folder = run_folder(scratch, settings, path, runtime)
    shards = Shards(folder, items.num_rows, runtime.processes)
    missing = shards.missing()
    progress.start("embed text", sum(map(shards.rows_of, missing)))
    made = (
        tokenised(items.slice(start, shards.rows_of(start)), start, section, model)
        for start in missing
    )
    with out_of_memory_names(f"lower embed.text.batch_tokens={section.batch_tokens}"):
        for shard in ahead(made):
            done = ItemProgress(progress, shards.rows_of(shard.start))
            vectors = vectors_of(shard, model, section.batch_tokens, runtime, done)
            shards.save(shard.start, vectors, shard.counts)
    runtime.processes.wait()
    # The others must not look: the first removes the shards when they are written.
    counts = shards.counts() if runtime.processes.first else {}
    log.info("%s: %s", section.encoder, counts)
    return Encoded(shards, info, counts, shards.discard)


def _info(
    section: MiniLMEncoder | HuggingFaceTextEncoder, model: TextModel, runtime: Runtime
) -> dict[str, object]:
    return {
        "encoder": section.encoder,
        **model.info,
        "fields": list(section.fields),
        "max_tokens": section.max_tokens,
        "precision": str(precision(runtime, model.dtype)).removeprefix("torch."),
    }


def tokenised(
    items: pa.Table, start: int, section: MiniLMEncoder | HuggingFaceTextEncoder, model: TextModel
) -> Shard:
    """Tokenise the texts of some items, each different text once."""
    fields = field_texts(items, section.fields)
    owners, flat = _filled(fields, items.num_rows)
    places = {text: place for place, text in enumerate(dict.fromkeys(flat))}
    tokens = tokenize(model, list(places), section.max_tokens)
    texts = np.array([places[text] for text in flat])
    cut = np.array(tokens.cut)[texts]
    counts = {
        "texts": len(flat),
        "truncated_texts": int((cut > 0).sum()),
        "truncated_tokens": int(cut.sum()),
        "empty_fields": sum(text == "" for column in fields.values() for text in column),
        "items_without_text": sum(text == "" for text in flat),
    }
    return Shard(start, tokens, texts, np.array(owners), counts)


def vectors_of(
    shard: Shard,
    model: TextModel,
    batch_tokens: int,
    runtime: Runtime,
    progress: ItemProgress | None = None,
) -> np.ndarray:
    """Vectors [items, width] float32 of a shard's items, the means of their fields'."""
    pooled = mean_pooled(model, shard.tokens.rows, batch_tokens, runtime, progress)
    sums = np.zeros((shard.owners[-1] + 1, pooled.shape[1]), np.float32)
    np.add.at(sums, shard.owners, pooled[shard.texts])
    # Every item owns a text at least, if only the empty one.
    means: np.ndarray = sums / np.bincount(shard.owners)[:, None]
    return means.astype(np.float32)


def tokenize(model: TextModel, texts: Sequence[str], max_tokens: int) -> Tokens:
    """Token ids of each text, truncated to `max_tokens` with the special tokens kept.

    Raises:
        MacrecError: a text without any token.
    """
    rows = model.tokenizer(texts, None)
    cut = [max(0, len(row) - max_tokens) for row in rows]
    # Only the long ones a second time, to leave to the tokenizer what it leaves out.
    long = [i for i, removed in enumerate(cut) if removed]
    if long:
        short = model.tokenizer([texts[i] for i in long], max_tokens)
        for i, row in zip(long, short, strict=True):
            rows[i] = row
    for text, row in zip(texts, rows, strict=True):
        if not row:
            raise MacrecError(
                f"text {text!r}: the model's tokenizer yields no token for it; give such items a "
                "title, or choose a model whose tokenizer adds a start token"
            )
    return Tokens(rows, cut)


def mean_pooled(
    model: TextModel,
    rows: Sequence[Sequence[int]],
    batch_tokens: int,
    runtime: Runtime,
    progress: ItemProgress | None = None,
) -> np.ndarray:
    """Mean over each text's tokens of the last hidden state, [texts, width] float32.

    Texts of like length share a batch of at most `batch_tokens` tokens. Padding stands right and
    is masked, so that neither the positions nor, in a causal model, the context of real tokens
    depend on it.
    """

    def pooled(ids: Tensor, mask: Tensor | None) -> Tensor:
        hidden = model.hidden(ids, mask).float()  # [batch, tokens, width]
        if mask is None:
            return hidden.mean(1)
        # where, not a product: a masked NaN times zero would stay NaN.
        hidden = torch.where(mask[:, :, None] > 0, hidden, 0.0)
        return hidden.sum(1) / mask.sum(1, keepdim=True)

    def prepare(batch: list[int]) -> tuple[Tensor, Tensor | None]:
        return padded([rows[i] for i in batch], model.padding_id)

    batches = by_tokens([len(row) for row in rows], batch_tokens)
    results: list[Tensor] = []
    done = 0
    for batch, vectors in zip(
        batches, computed(pooled, prepare, batches, runtime, model.dtype), strict=True
    ):
        results.append(vectors)
        done += len(batch)
        if progress is not None:
            progress.report(done, len(rows))
    found = torch.cat(results).cpu()
    restored = torch.empty_like(found)
    restored[torch.tensor([i for batch in batches for i in batch])] = found
    return restored.numpy()


def padded(rows: Sequence[Sequence[int]], padding_id: int) -> tuple[Tensor, Tensor | None]:
    """Ids and attention mask, both [rows, longest], filled up on the right; no mask if none is."""
    longest = max(len(row) for row in rows)
    if all(len(row) == longest for row in rows):
        return torch.tensor(rows), None
    ids = torch.full((len(rows), longest), padding_id)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask


def _filled(texts: dict[str, list[str]], num_items: int) -> tuple[list[int], list[str]]:
    """Owner and text of every field that is not empty; one empty text for an item of none."""
    owners: list[int] = []
    flat: list[str] = []
    for item in range(num_items):
        own = [column[item] for column in texts.values() if column[item]] or [""]
        owners += [item] * len(own)
        flat += own
    return owners, flat
