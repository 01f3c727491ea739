"""From Parquet tables to the tensors that training and evaluation read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from macrec_core.errors import MacrecError
from macrec_core.id_table import SemanticIds
from macrec_core.ranking import Cases
from macrec_core.recommender.evaluation import Decodable
from macrec_core.recommender.packing import Sequences
from macrec_core.recommender.training import TrainingData
from macrec_core.recommender.trie import build_trie
from macrec_core.recommender.updates import Examples
from macrec_core.recommender.validation import Validation
from macrec_core.recommender.visual import ItemImages
from macrec_core.semantic_ids import Vocabulary
from macrec_core.subsets import chosen_users


@dataclass(frozen=True)
class EvaluationData:
    """Test or validation histories, ready to decode.

    Attributes:
        modalities: per modality histories of the same users in the same order.
        users: [users] user ids.
        targets: [users] item ids.
        num_left_out: users of the split that a limit leaves out.
    """

    modalities: Mapping[str, Decodable]
    users: NDArray[np.int64]
    targets: NDArray[np.int64]
    num_left_out: int


def training_data(
    train: pa.Table,
    evaluation: pa.Table,
    codes: Mapping[str, NDArray[np.int32]],
    vocabulary: Vocabulary,
    max_validation_users: int | None,
    images: ItemImages | None = None,
) -> TrainingData:
    """Everything that T5 training reads.

    Args:
        train: artifact TRAINING_EXAMPLES.
        evaluation: artifact EVALUATION_EXAMPLES.
        codes: per modality [N, L].
        vocabulary: token ids.
        max_validation_users: a seeded subset of users; None for all.
        images: of every item, where sources hold visual tokens.
    """
    target = torch.from_numpy(_flat(train, "target")).view(train.num_rows, -1)
    valid = evaluation_data(evaluation, "valid", codes, vocabulary, max_validation_users)
    ends = np.full((len(next(iter(codes.values()))), 1), vocabulary.end_id, dtype=np.int32)
    id_tokens = {
        modality: np.concatenate([vocabulary.encode(modality, c), ends], axis=1)
        for modality, c in codes.items()
    }
    return TrainingData(
        Examples(
            _sequences(train),
            target,
            {m: torch.from_numpy(tokens) for m, tokens in id_tokens.items()},
            vocabulary.item_tokens,
            vocabulary.first_code,
        ),
        Validation(
            source={m: part.source for m, part in valid.modalities.items()},
            target={m: torch.from_numpy(tokens[valid.targets]) for m, tokens in id_tokens.items()},
            target_items=torch.from_numpy(valid.targets),
            tries={m: part.trie for m, part in valid.modalities.items()},
            level_offsets={m: part.level_offsets for m, part in valid.modalities.items()},
        ),
        vocabulary.size,
        images,
    )


def images_of(ids: SemanticIds) -> ItemImages | None:
    """Image vectors that semantic IDs carry, for the recommender; None where they have none."""
    if ids.visual is None:
        return None
    vectors = torch.from_numpy(ids.visual.vectors.copy())  # Arrow's memory is read-only
    return ItemImages(vectors, ids.visual.tokens, ids.visual.adapter_width)


def evaluation_data(
    evaluation: pa.Table,
    split: str,
    codes: Mapping[str, NDArray[np.int32]],
    vocabulary: Vocabulary,
    max_users: int | None,
) -> EvaluationData:
    """Histories of one split; `max_users` keeps the same seeded subset for every variant."""
    parts: dict[str, Decodable] = {}
    users = targets = np.zeros(0, dtype=np.int64)
    left_out = 0
    for modality in codes:
        rows = evaluation.filter(
            pc.and_(
                pc.equal(evaluation.column("split"), split),
                pc.equal(evaluation.column("modality"), modality),
            )
        )
        chosen = chosen_users(rows.num_rows, max_users)
        left_out = rows.num_rows - len(chosen)
        rows = rows.take(pa.array(chosen))
        users = np.asarray(rows.column("user_id")).astype(np.int64)
        targets = np.asarray(rows.column("target_item")).astype(np.int64)
        parts[modality] = Decodable(
            _sequences(rows),
            build_trie(codes[modality]),
            torch.from_numpy(vocabulary.level_offsets(modality)),
        )
    return EvaluationData(parts, users, targets, left_out)


def check_same_users(data: EvaluationData, cases: Cases, path: Path) -> None:
    """Of two inputs that are joined row by row.

    Args:
        data: of seq2seq data.
        cases: of interactions.
        path: of the seq2seq data.

    Raises:
        MacrecError: they do not hold the same users and targets.
    """
    same = np.array_equal(data.users, cases.users) and np.array_equal(data.targets, cases.targets)
    if not same:
        raise MacrecError(
            f"{path}: its {len(data.users)} held-out users and targets are not those of the "
            f"interactions ({len(cases)}); run build_seq2seq again"
        )


def _sequences(table: pa.Table) -> Sequences:
    column = table.column("source").combine_chunks()
    lengths = np.asarray(pc.list_value_length(column)).astype(np.int64)
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))
    return Sequences(torch.from_numpy(_flat(table, "source")), offsets)


def _flat(table: pa.Table, column: str) -> NDArray[np.int32]:
    # A copy: Arrow's memory is read-only, which torch does not know.
    return np.asarray(pc.list_flatten(table.column(column))).astype(np.int32)
