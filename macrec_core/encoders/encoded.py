"""What every encoder returns, and the embeddings artifact made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from macrec_core.artifacts import fixed_lists, write_artifact
from macrec_core.schemas import embeddings


@dataclass(frozen=True)
class Encoded:
    """Embeddings of one modality.

    Attributes:
        vectors: [N, width] float32, row i for item i.
        info: origin: encoder, model, weights_sha256 and the settings that shape the vectors.
        counts: what was truncated, empty or otherwise worth knowing; goes into the metrics.
    """

    vectors: np.ndarray
    info: dict[str, object]
    counts: dict[str, float]

    def metrics(self) -> dict[str, object]:
        """Origin, size, counts and mean norm; equal runs give equal values."""
        norms = np.linalg.norm(self.vectors.astype(np.float64), axis=1)
        return {
            **self.info,
            **self.counts,
            "items": len(self.vectors),
            "width": self.vectors.shape[1],
            "mean_norm": float(norms.mean()),
        }


def write_embeddings(path: Path, encoded: Encoded) -> None:
    """Write the embeddings artifact of one modality.

    Raises:
        MacrecError: a vector holds NaN or infinity; nothing is written.
    """
    num_items, width = encoded.vectors.shape
    columns = [pa.array(np.arange(num_items, dtype=np.int32)), fixed_lists(encoded.vectors)]
    contract = embeddings(width)
    table = pa.table(columns, names=contract.schema.names)
    write_artifact(path, table, contract, {**encoded.info, "width": width})
