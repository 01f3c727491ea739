"""T5 training on a data set like Instruments: six tasks, the paper's network, dropout 0.1.

Ours is the update of `train_gr` (precision as `runtime.precision: auto` chooses it), on 4,096
examples as in the authors' recipe, shared by a process of one thread for each processor
(`runtime.num_processes`, `runtime.num_threads`). Plain is what the field's released code does:
Hugging Face T5 in float32, random batches padded to the longest, a vocabulary of 32,100 words
with the codes added, and a collator that tokenises strings. It makes its updates on 512 examples
with all threads, since 4,096 at once do not fit into memory; adding up the gradients of eight
such batches would make each example cost the same. AdamW is included on both sides. The ceiling
is the matrix rate of this machine over the floating-point operations of an example without
padding.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import instruments
from benchmarks.measure import Row, interleaved, matrix_rate, row
from benchmarks.team import Team
from benchmarks.worker import peak_memory_mb
from macrec_core.params import GrParams
from macrec_core.processes import ALONE, Processes, joined
from macrec_core.recommender.batches import epoch_batches, micro_batches
from macrec_core.recommender.hugging_face import config_of
from macrec_core.recommender.t5 import T5Shape
from macrec_core.recommender.training import new_t5
from macrec_core.recommender.updates import Examples, State, update
from macrec_core.runtime import Runtime, computes_bfloat16, generator

log = logging.getLogger(__name__)

_OURS_BATCH, _PLAIN_BATCH = 4096, 512
_WORDS = 32_100  # of the pre-trained T5's vocabulary
_ROUNDS = 4

GR = GrParams(
    d_model=128, d_kv=64, d_ff=1024, num_layers=4, num_heads=6, dropout=0.1,
    batch_size=_OURS_BATCH, micro_batch_tokens=4096, learning_rate=1e-3,
    weight_decay=0.01, warmup_fraction=0.01, max_grad_norm=1.0, label_smoothing=0.0,
    token_reduction="sum", max_epochs=1, max_steps=None, patience=1, select_by="loss",
    max_validation_users=None, lambda_implicit=0.0, temperature=0.1,
    implicit_similarity="cosine", implicit_batch_size=1024,
)  # fmt: skip


def run() -> list[Row]:
    """One row in examples a second."""
    data = instruments.training().examples
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    team = Team(count or 1, _Ours)
    plain = _Plain(data)
    team("update")
    best_ours, best_plain = interleaved(lambda: team("update"), plain, _ROUNDS)
    rate = _OURS_BATCH / best_ours
    work = flops_of_example(data, GR)
    dtype = _runtime().autocast or torch.float32
    ceiling = matrix_rate(dtype) * 1e9 / work
    padding, peaks = zip(*team("report"), strict=True)
    team.close()
    log.info(
        "%d processes, %s, %.3f GFLOP an example, %.0f GFLOP/s; padding %.1f %% of the encoder "
        "tokens; peak memory of the processes %.0f MB together",
        len(peaks), dtype, work / 1e9, rate * work / 1e9, 100 * max(padding), sum(peaks),
    )  # fmt: skip
    return [row("t5_training", "examples/s", rate, _PLAIN_BATCH / best_plain, ceiling, sum(peaks))]


def _runtime(processes: Processes = ALONE) -> Runtime:
    device = torch.device("cpu")
    autocast = torch.bfloat16 if computes_bfloat16(device) else None
    return Runtime(device, autocast, processes)


def flops_of_example(data: Examples, gr: GrParams) -> float:
    """Mean operations of forward and backward pass: two a multiplication, no padding counted."""
    length = data.source.lengths.double()
    tokens, square = float(length.mean()), float(length.square().mean())
    target = data.target.shape[1]
    inner, d = gr.num_heads * gr.d_kv, gr.d_model
    encoder = tokens * (4 * d * inner + 2 * d * gr.d_ff) + 2 * square * inner
    decoder = target * (6 * d * inner + 2 * d * gr.d_ff) + 2 * target * target * inner
    cross = tokens * 2 * d * inner + 2 * target * tokens * inner
    output = target * d * instruments.VOCABULARY.size
    # The backward pass multiplies twice as often as the forward pass.
    return 3 * 2 * (gr.num_layers * (encoder + decoder + cross) + output)


class _Ours:
    """One process of ours."""

    def __init__(self) -> None:
        self._data = instruments.training().examples
        self._runtime = _runtime(joined(torch.device("cpu")))
        model = new_t5(instruments.VOCABULARY.size, GR, generator(0, "bench"))
        self._state = State(model, GR)
        self._batches = _endless(self._data)
        self._rows: list[Tensor] = []

    def __call__(self, order: str) -> object:
        if order == "report":
            return self._padding(), peak_memory_mb()
        rows = next(self._batches)
        self._rows.append(rows)
        update(self._state, self._data, rows, 1e-3, GR, 0, self._runtime)
        return None

    def _padding(self) -> float:
        """Share of encoder tokens that are padding."""
        lengths = self._data.source.lengths
        real = taken = 0
        for rows in self._rows:
            for part in micro_batches(rows, lengths, GR.micro_batch_tokens):
                real += int(lengths[part].sum())
                taken += len(self._data.source.packed(part).tokens)
        return 1 - real / taken


class _Plain:
    """Hugging Face T5 and a DataLoader over strings."""

    def __init__(self, data: Examples) -> None:
        from torch.utils.data import DataLoader
        from transformers import T5Config, T5ForConditionalGeneration

        names = instruments.VOCABULARY.tokens()
        self._tokenizer = _tokenizer([n for n in names if n not in ("<pad>", "</s>")])
        torch.manual_seed(0)
        shape = T5Shape(
            len(self._tokenizer), GR.d_model, GR.d_kv, GR.d_ff, GR.num_layers, GR.num_heads,
            GR.dropout,
        )  # fmt: skip
        self._model = T5ForConditionalGeneration(T5Config(**config_of(shape))).train()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), 1e-3, weight_decay=0.01)
        texts = _Strings(data, names)
        loader: Any = DataLoader(
            texts, _PLAIN_BATCH, shuffle=True, collate_fn=self._collate,  # type: ignore[arg-type]
            generator=generator(0, "bench"),
        )  # fmt: skip
        self._batches: Iterator[Any] = iter(loader)

    def _collate(self, pairs: list[tuple[str, str]]) -> dict[str, Tensor]:
        sources, targets = zip(*pairs, strict=True)
        batch = self._tokenizer(list(sources), padding="longest", return_tensors="pt")
        labels = self._tokenizer(list(targets), padding="longest", return_tensors="pt")
        ids = labels["input_ids"]
        ids[ids == self._tokenizer.pad_token_id] = -100
        return {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "labels": ids,
        }

    def __call__(self) -> None:
        self._optimizer.zero_grad()
        self._model(**next(self._batches)).loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()


class _Strings:
    """Examples as the strings that JSON files of the field hold; the end token is added later."""

    def __init__(self, data: Examples, names: list[str]) -> None:
        self._data, self._names = data, np.array(names)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, row: int) -> tuple[str, str]:
        source, target = self._data.source, self._data.target[row]
        tokens = source.flat[source.offsets[row] : source.offsets[row + 1]]
        return "".join(self._names[tokens[:-1]]), "".join(self._names[target[:-1]])


def _tokenizer(added: list[str]) -> Any:  # noqa: ANN401 - untyped
    """A fast tokenizer of as many words as T5's, with the codes added, that ends with </s>."""
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *(f"▁word{i}" for i in range(_WORDS - 3))]
    tokenizer = Tokenizer(models.Unigram([(word, -float(i)) for i, word in enumerate(words)], 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.add_tokens(added)
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return fast


def _endless(data: Examples) -> Iterator[Tensor]:
    epoch = 0
    while True:
        yield from epoch_batches(len(data), _OURS_BATCH, 0, epoch)
        epoch += 1
