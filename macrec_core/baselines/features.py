"""What is known of items beside who bought them: attributes and vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from macrec_core.errors import MacrecError


@dataclass(frozen=True)
class ItemFeatures:
    """Content of all items, in the order of their ids.

    Attributes:
        attributes: attribute ids of item 0, then of item 1, ...; int64.
        offsets: [N + 1], where each item's attributes begin; the last is their number.
        num_attributes: K, distinct ones.
        vectors: by modality, [N, width] float32.
    """

    attributes: Tensor
    offsets: Tensor
    num_attributes: int
    vectors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.offsets) - 1

    @property
    def without_attributes(self) -> int:
        """Items that have none."""
        return int((self.offsets.diff() == 0).sum())

    @property
    def widths(self) -> dict[str, int]:
        """Width of each modality's vectors."""
        return {name: matrix.shape[1] for name, matrix in self.vectors.items()}

    def require_attributes(self, model: str) -> None:
        """Refuse a catalogue without attributes.

        Raises:
            MacrecError: no item has any.
        """
        if not self.num_attributes:
            raise MacrecError(
                f"{model}: none of {self.num_items} items has a brand or a category, of which the "
                "model makes its attributes; choose a dataset with metadata or another baseline"
            )

    def attribute_table(self) -> Tensor:
        """[N + 1, most] attribute ids of every item and, in the last row, of the padding.

        K stands where an item has no more attributes; the padding has none.
        """
        counts = self.offsets.diff()
        most = max(int(counts.max()), 1) if len(counts) else 1
        table = torch.full((self.num_items + 1, most), self.num_attributes)
        items = torch.repeat_interleave(torch.arange(self.num_items), counts)
        places = torch.arange(len(self.attributes)) - self.offsets[items]
        table[items, places] = self.attributes
        return table
