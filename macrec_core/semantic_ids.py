"""Semantic IDs as codes, as published tokens, and as the T5's token ids.

Published form: `<a_3><b_12>...` for text, `<A_3><B_12>...` for images; the letter is the level.
The T5's vocabulary holds only what occurs: padding, end, one prompt token for each alignment
task, and the codes of every modality and level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray

from macrec_core.errors import MacrecError

ALIGNMENT_TASKS = ("align_items", "align_sequences")


def code_token(modality: str, level: int, code: int) -> str:
    """Published form of one code.

    Text is lower case and image upper case, as MQL4GRec publishes them; any other modality is
    named in the token.
    """
    letter = ascii_lowercase[level]
    if modality == "text":
        return f"<{letter}_{code}>"
    if modality == "image":
        return f"<{letter.upper()}_{code}>"
    return f"<{modality}:{letter}_{code}>"


def format_id(modality: str, codes: Sequence[int]) -> str:
    """Published form of a whole semantic ID."""
    return "".join(code_token(modality, level, code) for level, code in enumerate(codes))


@dataclass(frozen=True)
class Vocabulary:
    """Token ids: padding 0, end 1, prompts, then codes by modality, level and code.

    Attributes:
        modalities: in the order of their tokens.
        num_levels: L.
        codebook_size: M.
        alignment_tasks: those of `ALIGNMENT_TASKS` in use; each has one prompt token for every
            ordered pair of modalities.
        visual_tokens: input tokens of each item's image, behind those of its ID; 0 for none.
            Ids from `size` on stand for them: nothing generates them.
        visual_items: items that have them.
    """

    modalities: tuple[str, ...]
    num_levels: int
    codebook_size: int
    alignment_tasks: tuple[str, ...]
    visual_tokens: int = 0
    visual_items: int = 0

    pad_id = 0
    end_id = 1

    @property
    def prompts(self) -> list[str]:
        """Prompt tokens in the order of their ids."""
        pairs = list(permutations(self.modalities, 2))
        return [f"<{task}:{a}>{b}>" for task in self.alignment_tasks for a, b in pairs]

    def prompt_id(self, task: str, source: str, target: str) -> int:
        """Token id that marks an alignment task."""
        return 2 + self.prompts.index(f"<{task}:{source}>{target}>")

    @property
    def first_code(self) -> int:
        """Token id of the first modality's first code; prompts come before it."""
        return 2 + len(self.prompts)

    @property
    def item_tokens(self) -> int:
        """Tokens of an item in the encoder's input."""
        return self.num_levels + self.visual_tokens

    @property
    def input_size(self) -> int:
        """Number of ids that the encoder may read: tokens, and visual tokens of every item."""
        return self.size + self.visual_tokens * self.visual_items

    @property
    def size(self) -> int:
        """Number of tokens."""
        codes = len(self.modalities) * self.num_levels * self.codebook_size
        return self.first_code + codes

    def level_offsets(self, modality: str) -> NDArray[np.int64]:
        """Token id of code 0 at each level of a modality: [L]."""
        first = self.first_code
        first += self.modalities.index(modality) * self.num_levels * self.codebook_size
        return first + np.arange(self.num_levels) * self.codebook_size

    def encode(self, modality: str, codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Token ids of codes [..., L].

        Raises:
            MacrecError: a code outside the codebook.
        """
        if codes.size and (codes.min() < 0 or codes.max() >= self.codebook_size):
            raise MacrecError(
                f"{modality} code {codes.min() if codes.min() < 0 else codes.max()}: outside the "
                f"codebook of {self.codebook_size}; the IDs belong to another quantizer"
            )
        return (codes + self.level_offsets(modality)).astype(np.int32)

    def encode_inputs(self, modality: str, codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """What the encoder reads of every item: [N, L + k] ids of its codes [N, L] and its image.

        Raises:
            MacrecError: a code outside the codebook.
        """
        ids = self.encode(modality, codes)
        if not self.visual_tokens:
            return ids
        visual = np.arange(self.size, self.input_size).reshape(self.visual_items, -1)
        return np.concatenate([ids, visual.astype(np.int32)], axis=1)

    def tokens(self) -> list[str]:
        """Every token's text, by token id."""
        codes = [
            code_token(modality, level, code)
            for modality in self.modalities
            for level in range(self.num_levels)
            for code in range(self.codebook_size)
        ]
        return ["<pad>", "</s>", *self.prompts, *codes]

    def to_json(self) -> dict[str, object]:
        """Everything that rebuilds the vocabulary, and the tokens for people.

        Without visual tokens it does not name them: the file is that of a plain T5.
        """
        fields = asdict(self)
        if not self.visual_tokens:
            del fields["visual_tokens"], fields["visual_items"]
        return {**fields, "tokens": self.tokens()}

    @classmethod
    def from_json(cls, value: dict[str, object]) -> Vocabulary:
        """Rebuild from `to_json`.

        Raises:
            MacrecError: the tokens do not fit the numbers.
        """
        try:
            modalities, tasks = value["modalities"], value["alignment_tasks"]
            levels, size = value["num_levels"], value["codebook_size"]
            assert isinstance(modalities, list) and isinstance(tasks, list)
            assert isinstance(levels, int) and isinstance(size, int)
            visual, items = value.get("visual_tokens", 0), value.get("visual_items", 0)
            assert isinstance(visual, int) and isinstance(items, int)
            vocabulary = cls(tuple(modalities), levels, size, tuple(tasks), visual, items)
            assert vocabulary.tokens() == value["tokens"]
        except (KeyError, AssertionError) as error:
            raise MacrecError(
                "vocabulary.json does not fit itself; run build_seq2seq again"
            ) from error
        return vocabulary
