"""A data set of the size and the lengths of Amazon Instruments, with random items and IDs.

17,112 users, 6,250 items, 136,226 purchases, at least five a user; two modalities with unique
IDs of 4 levels of 256 codes. What costs time is sizes and lengths, which are the real ones in
number, mean and mean square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from macrec_core.params.recommender import Seq2SeqParams
from macrec_core.recommender.training import TrainingData
from macrec_core.semantic_ids import ALIGNMENT_TASKS, Vocabulary
from macrec_core.sequence_tensors import training_data
from macrec_core.sequences import evaluation_examples, training_examples

USERS, ITEMS, PURCHASES, FEWEST = 17_112, 6_250, 136_226, 5
SHAPE = 0.37  # of the gamma distribution; gives the real mean square of lengths, 90
LEVELS, SIZE = 4, 256
SEQ2SEQ = Seq2SeqParams(max_history=20, tasks=["recommend", "align_items", "align_sequences"])
VOCABULARY = Vocabulary(("text", "image"), LEVELS, SIZE, ALIGNMENT_TASKS)


@dataclass(frozen=True)
class Instruments:
    """Interactions and semantic IDs.

    Attributes:
        interactions: artifact INTERACTIONS.
        codes: per modality [6250, 4].
    """

    interactions: pa.Table
    codes: dict[str, NDArray[np.int32]]


def make() -> Instruments:
    """The same data set at every call."""
    rng = np.random.default_rng(0)
    extra = rng.multinomial(PURCHASES - FEWEST * USERS, rng.dirichlet(np.full(USERS, SHAPE)))
    lengths = FEWEST + extra
    position = np.arange(PURCHASES) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    left = np.repeat(lengths, lengths) - position
    split = np.where(left == 1, "test", np.where(left == 2, "valid", "train"))
    interactions = pa.table(
        {
            "user_id": pa.array(np.repeat(np.arange(USERS), lengths), pa.int32()),
            "position": pa.array(position, pa.int32()),
            "item_id": pa.array(rng.integers(0, ITEMS, PURCHASES), pa.int32()),
            "timestamp": pa.nulls(PURCHASES, pa.int64()),
            "split": pa.array(split, pa.string()),
        }
    )
    codes = {name: _unique_codes(rng) for name in ("text", "image")}
    return Instruments(interactions, codes)


def training() -> TrainingData:
    """What T5 training reads: 352,060 examples of six tasks, and the validation users."""
    data = make()
    train = training_examples(data.interactions, data.codes, VOCABULARY, SEQ2SEQ)
    held_out = evaluation_examples(data.interactions, data.codes, VOCABULARY, SEQ2SEQ.max_history)
    return training_data(train, held_out, data.codes, VOCABULARY, None)


def _unique_codes(rng: np.random.Generator) -> NDArray[np.int32]:
    numbers = rng.choice(SIZE**LEVELS, ITEMS, replace=False)
    return np.stack([(numbers // SIZE**k) % SIZE for k in range(LEVELS)], axis=1).astype(np.int32)
