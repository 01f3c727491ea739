"""The data set that `benchmarks.gpu` runs on, as one .npz file of plain arrays.

A bare GPU image cannot read Parquet, so that the examples are made elsewhere, by the pipeline's
own code (`benchmarks.gpu_data`), and only unpacked here. Names of arrays are paths:
`<ids>/examples/source`, `<ids>/test/text/source`, ..., where `<ids>` names published IDs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from macrec_core.errors import MacrecError
from macrec_core.recommender.evaluation import Decodable
from macrec_core.recommender.packing import Sequences
from macrec_core.recommender.training import TrainingData
from macrec_core.recommender.trie import build_trie
from macrec_core.recommender.updates import Examples
from macrec_core.recommender.validation import Validation
from macrec_core.semantic_ids import Vocabulary

Arrays = dict[str, NDArray[Any]]

SMALL_EXAMPLES = 300  # of which `--small` makes do


@dataclass(frozen=True)
class TestUsers:
    """Test histories, ready to decode, and what should be found.

    Attributes:
        modalities: per modality.
        targets: [users] item ids.
    """

    __test__ = False  # pytest takes the name for a test

    modalities: Mapping[str, Decodable]
    targets: NDArray[np.int64]


class Inputs:
    """What the file holds.

    Args:
        path: the .npz file.

    Raises:
        MacrecError: no such file, or no file of this kind.
    """

    def __init__(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                self._arrays: Arrays = {name: file[name] for name in file.files}
            self.facts: dict[str, Any] = json.loads(str(self._arrays["facts"]))
        except (OSError, ValueError, KeyError) as error:
            raise MacrecError(
                f"{path}: is no data for benchmarks.gpu ({error}); make it with "
                "`python -m benchmarks.gpu_data`"
            ) from error
        self.vocabulary = Vocabulary(**self.facts["vocabulary"] | self._tuples())

    def _tuples(self) -> dict[str, tuple[str, ...]]:
        names = ("modalities", "alignment_tasks")
        return {name: tuple(self.facts["vocabulary"][name]) for name in names}

    @property
    def ids(self) -> list[str]:
        """Names of the sets of semantic IDs."""
        return list(self.facts["ids"])

    @property
    def text_lengths(self) -> list[int]:
        """Tokens of every text of a catalogue, as a language model would read it."""
        lengths: list[int] = self._arrays["text_lengths"].tolist()
        return lengths

    def codes(self, ids: str) -> dict[str, NDArray[np.int32]]:
        """Per modality every item's codes [N, L].

        Raises:
            MacrecError: no such IDs.
        """
        if ids not in self.ids:
            raise MacrecError(f"--ids {ids}: the data has none of that name; it has {self.ids}")
        found = {m: self._arrays[f"{ids}/codes/{m}"] for m in self.vocabulary.modalities}
        return {name: codes.astype(np.int32) for name, codes in found.items()}

    def training(self, ids: str) -> TrainingData:
        """What T5 training reads."""
        codes = self.codes(ids)
        id_tokens = {name: self._id_tokens(name, values) for name, values in codes.items()}
        items = torch.from_numpy(self._arrays["valid/targets"].astype(np.int64))
        valid = self._decodable(ids, "valid", codes)
        return TrainingData(
            Examples(
                self._sequences(f"{ids}/examples"),
                torch.from_numpy(self._arrays[f"{ids}/examples/target"].astype(np.int32)),
                id_tokens,
                self.vocabulary.item_tokens,
                self.vocabulary.first_code,
            ),
            Validation(
                source={name: part.source for name, part in valid.items()},
                target={name: tokens[items] for name, tokens in id_tokens.items()},
                target_items=items,
                tries={name: part.trie for name, part in valid.items()},
                level_offsets={name: part.level_offsets for name, part in valid.items()},
            ),
            self.vocabulary.size,
        )

    def test_users(self, ids: str) -> TestUsers:
        """What an evaluation reads."""
        targets = self._arrays["test/targets"].astype(np.int64)
        return TestUsers(self._decodable(ids, "test", self.codes(ids)), targets)

    def _decodable(
        self, ids: str, split: str, codes: Mapping[str, NDArray[np.int32]]
    ) -> dict[str, Decodable]:
        return {
            name: Decodable(
                self._sequences(f"{ids}/{split}/{name}"),
                build_trie(values),
                torch.from_numpy(self.vocabulary.level_offsets(name)),
            )
            for name, values in codes.items()
        }

    def _id_tokens(self, modality: str, codes: NDArray[np.int32]) -> torch.Tensor:
        tokens = torch.from_numpy(self.vocabulary.encode(modality, codes))
        return torch.nn.functional.pad(tokens, (0, 1), value=self.vocabulary.end_id)

    def _sequences(self, name: str) -> Sequences:
        lengths = self._arrays[f"{name}/lengths"].astype(np.int64)
        offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))
        return Sequences(torch.from_numpy(self._arrays[f"{name}/source"].astype(np.int32)), offsets)


def few(data: TrainingData, users: TestUsers, limit: int) -> tuple[TrainingData, TestUsers]:
    """The first examples and users only, for `--small`."""
    examples, valid = data.examples, data.validation
    head = slice(limit)
    return (
        TrainingData(
            replace(
                examples,
                source=_first(examples.source, limit),
                target=examples.target[head],
            ),
            Validation(
                {name: _first(source, limit) for name, source in valid.source.items()},
                {name: target[head] for name, target in valid.target.items()},
                valid.target_items[head],
                valid.tries,
                valid.level_offsets,
            ),
            data.vocabulary_size,
        ),
        first_users(users, limit),
    )


def first_users(users: TestUsers, limit: int) -> TestUsers:
    """The first users only."""
    parts = {
        name: Decodable(_first(part.source, limit), part.trie, part.level_offsets)
        for name, part in users.modalities.items()
    }
    return TestUsers(parts, users.targets[:limit])


def _first(source: Sequences, limit: int) -> Sequences:
    offsets = source.offsets[: limit + 1]
    return Sequences(source.flat[: int(offsets[-1])], offsets)
