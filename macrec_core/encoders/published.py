"""Embeddings that were published beside the interactions, taken over as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from macrec_core.encoders.encoded import Encoded
from macrec_core.errors import MacrecError
from macrec_core.files import file_sha256


def read(raw: Path | None, modality: str, num_items: int) -> Encoded:
    """Read `<raw>/embeddings.<modality>.npy`, a float array [num_items, width].

    Raises:
        MacrecError: no folder given, no such file, no float matrix, or another number of rows.
    """
    if raw is None:
        raise MacrecError(
            f"embed.{modality}.encoder='published': needs the raw folder; give it with --raw"
        )
    path = raw / f"embeddings.{modality}.npy"
    if not path.is_file():
        raise MacrecError(
            f"{path}: does not exist, but embed.{modality}.encoder is 'published'; name the file "
            f"in the dataset's embedding_files.{modality}, or choose another encoder"
        )
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MacrecError(f"{path}: is no readable NumPy array ({error})") from error
    if not (isinstance(vectors, np.ndarray) and vectors.ndim == 2 and vectors.dtype.kind == "f"):
        found = f"{vectors.dtype} {vectors.shape}" if isinstance(vectors, np.ndarray) else "archive"
        raise MacrecError(f"{path}: holds {found}, expected floats [items, width]")
    if len(vectors) != num_items:
        raise MacrecError(
            f"{path}: holds {len(vectors)} rows for {num_items} items; "
            "embeddings and interactions must come from one release"
        )
    info: dict[str, object] = {
        "encoder": "published",
        "model": path.name,
        "weights_sha256": file_sha256(path),
    }
    return Encoded([vectors.astype(np.float32)], info, {})
