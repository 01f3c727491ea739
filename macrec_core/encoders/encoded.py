"""What every encoder returns, and the embeddings artifact made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from macrec_core.artifacts import artifact_writer, fixed_lists
from macrec_core.schemas import embeddings


@dataclass(frozen=True)
class Encoded:
    """Embeddings of one modality.

    Attributes:
        parts: float32 arrays [n, width] in the order of the items; iterated more than once, and
            maybe read from files each time.
        info: origin: encoder, model, weights_sha256 and the settings that shape the vectors.
        counts: what was truncated, empty or otherwise worth knowing; goes into the metrics.
        discard: removes what the parts were kept in; called once they are written.
    """

    parts: Iterable[np.ndarray]
    info: dict[str, object]
    counts: dict[str, float]
    discard: Callable[[], None] = lambda: None

    @property
    def vectors(self) -> np.ndarray:
        """All vectors [N, width] in memory."""
        return np.concatenate(list(self.parts))

    def metrics(self) -> dict[str, object]:
        """Origin, size, counts and mean norm; equal runs give equal values."""
        items, total, width = 0, 0.0, 0
        for part in self.parts:
            items, width = items + len(part), part.shape[1]
            total += float(np.linalg.norm(part.astype(np.float64), axis=1).sum())
        return {
            **self.info,
            **self.counts,
            "items": items,
            "width": width,
            "mean_norm": total / items,
        }


def write_embeddings(path: Path, encoded: Encoded) -> None:
    """Write the embeddings artifact of one modality, one part in memory at a time.

    Raises:
        MacrecError: a vector holds NaN or infinity; nothing is written.
    """
    width = next(iter(encoded.parts)).shape[1]
    contract = embeddings(width)
    first = 0
    with artifact_writer(path, contract, {**encoded.info, "width": width}) as writer:
        for part in encoded.parts:
            ids = pa.array(np.arange(first, first + len(part), dtype=np.int32))
            writer.write(pa.table([ids, fixed_lists(part)], names=contract.schema.names))
            first += len(part)
