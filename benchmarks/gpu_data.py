"""Makes the data of `benchmarks.gpu`: `python -m benchmarks.gpu_data DATA.npz [--shared FOLDER]`.

Runs where the pipeline runs; the GPU needs only the file. Interactions are Amazon Instruments'
and IDs are those that MQL4GRec and MUTRARec published, read and turned into examples by the
stages' own code: 352,060 of six tasks. Where the folder of published data is missing, a random
data set of the same size stands in (`benchmarks.instruments`), for speed but not for quality;
the file says which it holds.

Token lengths of texts are those of the titles and descriptions of Amazon Industrial, cleaned as
`filter` does it. LLaMA's tokenizer is not at hand: MiniLM's word pieces are counted, times 1.2
(LLaMA splits numbers into digits and keeps case, so that it needs more pieces for product texts)
and one start token, cut at the paper's 512. Without the folder, lengths are drawn from a
log-normal distribution of about the same mean.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from macrec_core.catalog.cleaning import clean_text
from macrec_core.catalog.filtering import leave_one_out
from macrec_core.catalog.published import read_item_records, read_published_ids, read_sequences
from macrec_core.params.recommender import Seq2SeqParams
from macrec_core.recommender.packing import Sequences
from macrec_core.semantic_ids import ALIGNMENT_TASKS, Vocabulary
from macrec_core.sequence_tensors import evaluation_data, training_data
from macrec_core.sequences import evaluation_examples, training_examples

log = logging.getLogger("benchmarks.gpu_data")

Codes = Mapping[str, NDArray[np.int32]]

SEQ2SEQ = Seq2SeqParams(max_history=20, tasks=["recommend", "align_items", "align_sequences"])
PIECES_OF_LLAMA = 1.2  # for each word piece of MiniLM
MAX_TOKENS = 512
_FILES = {"text": "lemb", "image": "vitemb"}
_PUBLISHED = ("mql4grec", "mutrarec")


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_data")
    parser.add_argument("target", type=Path, help=".npz file to write")
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"),
                        help="folder of the published data")  # fmt: skip
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if (arguments.shared / "instruments").is_dir():
        interactions, ids, size = published(arguments.shared / "instruments")
        lengths, origin = industrial_lengths(arguments.shared / "industrial"), "published"
    else:
        log.warning("%s: no published data, a random data set stands in", arguments.shared)
        interactions, ids, size = random_data()
        lengths, origin = random_lengths(), "random"
    write(arguments.target, arrays(interactions, ids, size, SEQ2SEQ, lengths, origin))
    log.info("%s: %.1f MB", arguments.target, arguments.target.stat().st_size / 1e6)


def arrays(
    interactions: pa.Table,
    ids: Mapping[str, Codes],
    codebook_size: int,
    seq2seq: Seq2SeqParams,
    text_lengths: NDArray[np.int64],
    origin: str,
) -> dict[str, NDArray[np.generic]]:
    """Everything that the file holds, by name.

    Args:
        interactions: artifact INTERACTIONS.
        ids: semantic IDs by name, each per modality [N, L].
        codebook_size: M.
        seq2seq: windows and tasks.
        text_lengths: tokens of every text.
        origin: `published` or `random`.
    """
    codes = next(iter(ids.values()))
    num_levels = next(iter(codes.values())).shape[1]
    aligned = tuple(task for task in ALIGNMENT_TASKS if task in seq2seq.tasks)
    vocabulary = Vocabulary(tuple(codes), num_levels, codebook_size, aligned)
    facts = {
        "origin": origin,
        "ids": list(ids),
        "vocabulary": {
            "modalities": list(codes), "num_levels": num_levels,
            "codebook_size": codebook_size, "alignment_tasks": list(aligned),
        },
    }  # fmt: skip
    found: dict[str, NDArray[np.generic]] = {
        "facts": np.array(json.dumps(facts)),
        "text_lengths": text_lengths.astype(np.int16),
    }
    for name, each in ids.items():
        found |= _examples(name, interactions, each, vocabulary, seq2seq)
    return found


def _examples(
    name: str, interactions: pa.Table, codes: Codes, vocabulary: Vocabulary, seq2seq: Seq2SeqParams
) -> dict[str, NDArray[np.generic]]:
    train = training_examples(interactions, codes, vocabulary, seq2seq)
    held_out = evaluation_examples(interactions, codes, vocabulary, seq2seq.max_history)
    data = training_data(train, held_out, codes, vocabulary, None)
    log.info("%s: %d examples", name, len(data.examples))
    found: dict[str, NDArray[np.generic]] = {
        f"{name}/examples/target": data.examples.target.numpy().astype(np.int16),
        **_packed(f"{name}/examples", data.examples.source),
    }
    for modality, values in codes.items():
        found[f"{name}/codes/{modality}"] = values.astype(np.int16)
    for split in ("valid", "test"):
        users = evaluation_data(held_out, split, codes, vocabulary, None)
        found[f"{split}/targets"] = users.targets.astype(np.int32)
        for modality, part in users.modalities.items():
            found |= _packed(f"{name}/{split}/{modality}", part.source)
    return found


def _packed(name: str, source: Sequences) -> dict[str, NDArray[np.generic]]:
    tokens = source.flat.numpy()
    assert tokens.max() < 2**15
    return {
        f"{name}/source": tokens.astype(np.int16),
        f"{name}/lengths": source.lengths.numpy().astype(np.int16),
    }


def write(path: Path, values: Mapping[str, NDArray[np.generic]]) -> None:
    """Write the arrays, compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **values)  # type: ignore[arg-type]  # an array could be named as its keyword allow_pickle, a bool


def published(folder: Path) -> tuple[pa.Table, dict[str, Codes], int]:
    """Interactions, IDs by their publisher, and the codebook's size."""
    histories = read_sequences(folder / "Instruments.inter.json.gz").items
    lengths = np.array([len(items) for items in histories])
    position, split = leave_one_out(lengths)
    interactions = pa.table(
        {
            "user_id": pa.array(np.repeat(np.arange(len(lengths)), lengths), pa.int32()),
            "position": pa.array(position, pa.int32()),
            "item_id": pa.array(np.concatenate(histories), pa.int32()),
            "timestamp": pa.nulls(int(lengths.sum()), pa.int64()),
            "split": pa.array(split, pa.string()),
        }
    )
    ids: dict[str, Codes] = {
        name: {
            modality: read_published_ids(
                folder / f"Instruments.index_{file}.{name}.json.gz", modality
            )
            for modality, file in _FILES.items()
        }
        for name in _PUBLISHED
    }
    return interactions, ids, 256


def industrial_lengths(folder: Path) -> NDArray[np.int64]:
    """Tokens of every title and every description that is not empty."""
    from tokenizers import Tokenizer

    from macrec_core.encoders import embedded

    path = embedded.locate(embedded.MINILM).parent / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    records = read_item_records(folder / "Industrial_and_Scientific.item.json.gz")
    texts = [clean_text(record.get(name)) for record in records for name in
             ("title", "description")]  # fmt: skip
    filled = [text for text in texts if text]
    pieces = [len(each.ids) - 2 for each in tokenizer.encode_batch_fast(filled)]  # no [CLS], [SEP]
    log.info(
        "%d texts of %.1f characters and %.1f word pieces in the mean", len(filled),
        np.mean([len(text) for text in filled]), np.mean(pieces),
    )  # fmt: skip
    return as_llama(np.array(pieces))


def as_llama(pieces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens of LLaMA, start token included, for word pieces of MiniLM."""
    tokens: NDArray[np.int64] = 1 + np.ceil(PIECES_OF_LLAMA * pieces).astype(np.int64)
    return np.minimum(tokens, MAX_TOKENS)


def random_data() -> tuple[pa.Table, dict[str, Codes], int]:
    """The random data set of the same size."""
    from benchmarks import instruments

    data = instruments.make()
    return data.interactions, {"random": data.codes}, instruments.SIZE


def random_lengths() -> NDArray[np.int64]:
    """Lengths spread like those of product texts."""
    drawn = np.random.default_rng(0).lognormal(3.9, 1.0, 7_000)
    return as_llama(drawn.astype(np.int64))


if __name__ == "__main__":
    main()
