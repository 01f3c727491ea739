"""T5 training on a data set like Instruments: six tasks, the paper's network, dropout 0.1.

Ours is the update of `train_gr` (precision as `runtime.precision: auto` chooses it), on 4,096
examples as in the authors' recipe, shared by a process of one thread for each processor, eight
at most (`runtime.num_processes`, `runtime.num_threads`; each holds data and model, 2 GB). Plain
is what the field's code does: Hugging Face T5 in float32, random batches padded to the longest,
a vocabulary of 32,100 words with the codes added, and a collator that tokenises strings. It
makes its updates on 512 examples with all threads, since 4,096 at once do not fit into memory;
adding up the gradients of eight such batches would make each example cost the same. AdamW is
included on both sides. A second row has the plain version under autocast in our precision.

The ceiling is the matrix rate of this machine over the floating-point operations of an example
without padding, in the order in which T5 is written down; ours needs a tenth less of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import instruments
from benchmarks.measure import Row, cores, interleaved, matrix_rate, row
from benchmarks.operations import flops_of_example
from benchmarks.team import Team
from benchmarks.worker import peak_memory_mb
from macrec_core.params.recommender import GrParams
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
_MOST_PROCESSES = 8

GR = GrParams(
    d_model=128, d_kv=64, d_ff=1024, num_layers=4, num_heads=6, dropout=0.1,
    batch_size=_OURS_BATCH, micro_batch_tokens=4096, learning_rate=1e-3,
    weight_decay=0.01, warmup_fraction=0.01, max_grad_norm=1.0, label_smoothing=0.0,
    history_dropout=0.0, token_reduction="sum", max_epochs=1, max_steps=None, patience=1,
    select_by="loss", max_validation_users=None, lambda_implicit=0.0, temperature=0.1,
    implicit_similarity="cosine", implicit_batch_size=1024,
)  # fmt: skip


def run() -> list[Row]:
    """Two rows in examples a second."""
    data = instruments.training().examples
    dtype = _runtime().autocast or torch.float32
    work = flops_of_example(data, GR, instruments.VOCABULARY.size)
    with Team(min(cores(), _MOST_PROCESSES), "benchmarks.t5_training:Ours") as team:
        team("update")
        rates = []
        for precision in (torch.float32, torch.bfloat16):
            plain = _Plain(data, precision)
            ours_took, plain_took = interleaved(lambda: team("update"), plain, _ROUNDS)
            rates.append((_OURS_BATCH / ours_took, _PLAIN_BATCH / plain_took))
        reports = team("report")
    peak = sum(report["peak_mb"] for report in reports)
    log.info(
        "%d processes of %d thread, %s, %.3f GFLOP an example, %.0f GFLOP/s; %.1f %% of the rows "
        "are filler, %.1f %% of the slots empty",
        len(reports), reports[0]["threads"], dtype, work / 1e9, rates[0][0] * work / 1e9,
        100 * reports[0]["filler"], 100 * reports[0]["empty"],
    )  # fmt: skip
    ceiling = matrix_rate(dtype) * 1e9 / work
    names = ("t5_training", "t5_training plain bfloat16")
    return [
        row(name, "examples/s", *pair, ceiling, peak)
        for name, pair in zip(names, rates, strict=True)
    ]


def _runtime(processes: Processes = ALONE) -> Runtime:
    device = torch.device("cpu")
    autocast = torch.bfloat16 if computes_bfloat16(device) else None
    return Runtime(device, autocast, processes)


class Ours:
    """One process of ours."""

    def __init__(self) -> None:
        self._data = instruments.training().examples
        self._runtime = _runtime(joined(torch.device("cpu")))
        model = new_t5(instruments.VOCABULARY.size, GR, generator(0, "bench"))
        self._state = State(model, GR)
        self._batches = _endless(self._data)
        self._rows = torch.empty(0)

    def __call__(self, order: str) -> object:
        """Make an update, or report on this process and the last update."""
        if order == "report":
            threads = torch.get_num_threads()
            return {"threads": threads, "peak_mb": peak_memory_mb(), **self._padding()}
        self._rows = next(self._batches)
        update(self._state, self._data, self._rows, 1e-3, GR, 0, self._runtime)
        return None

    def _padding(self) -> dict[str, float]:
        """Shares of rows and of slots that hold no token."""
        lengths, source = self._data.source.lengths, self._data.source
        own = self._runtime.processes.share(self._rows[torch.argsort(lengths[self._rows])])
        parts = micro_batches(own, lengths, GR.micro_batch_tokens)
        packed = [source.packed(part) for part in parts]
        tokens = sum(batch.layout.num_tokens for batch in packed)
        rows = sum(len(batch.tokens) for batch in packed)
        slots = sum(chunk.slots for batch in packed for chunk in batch.layout.chunks)
        return {"filler": 1 - tokens / rows, "empty": 1 - tokens / slots}


class _Plain:
    """Hugging Face T5 and a DataLoader over strings; below float32, under autocast."""

    def __init__(self, data: Examples, precision: torch.dtype) -> None:
        from torch.utils.data import DataLoader
        from transformers import T5Config, T5ForConditionalGeneration

        self._precision = precision
        names = instruments.VOCABULARY.tokens()
        self._tokenizer = _tokenizer([n for n in names if n not in ("<pad>", "</s>")])
        torch.manual_seed(0)
        shape = T5Shape(
            len(self._tokenizer), GR.d_model, GR.d_kv, GR.d_ff, GR.num_layers, GR.num_heads,
            GR.dropout,
        )  # fmt: skip
        self._model = T5ForConditionalGeneration(T5Config(**config_of(shape))).train()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), 1e-3, weight_decay=0.01)
        texts: Any = _Strings(data, names)  # no Dataset by type, but of length and items
        loader: Any = DataLoader(
            texts, _PLAIN_BATCH, shuffle=True, collate_fn=self._collate,
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
        half = self._precision != torch.float32
        with torch.autocast("cpu", self._precision, enabled=half):
            loss = self._model(**next(self._batches)).loss
        loss.backward()
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


def _tokenizer(added: list[str]) -> Any:  # noqa: ANN401 - transformers types its calls by no common class
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
