"""What baselines may know of items, read from the catalogue and the embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import torch

from macrec_core import schemas
from macrec_core.artifacts import check_same_items, read_artifact, read_embeddings
from macrec_core.baselines.features import ItemFeatures
from macrec_core.errors import MacrecError
from macrec_core.params.baselines import modalities_read

if TYPE_CHECKING:
    from macrec_core.params.baselines import BaselineSpec

# As `clean_categories` joins the steps of a category path. A comma inside a step parts it too.
_BETWEEN_CATEGORIES = ", "


def read_features(items: Path, embeddings: dict[str, Path]) -> ItemFeatures:
    """Attributes of the catalogue's items and the vectors of some modalities.

    Args:
        items: artifact ITEMS.
        embeddings: artifact `embeddings` of each modality, as `embedding_files` names them.

    Raises:
        MacrecError: a file is missing or broken, or they are not of one catalogue.
    """
    table = read_artifact(items, schemas.ITEMS, ["item_id", "brand", "categories"])
    vectors = {}
    for modality, path in embeddings.items():
        matrix = read_embeddings(path)
        check_same_items(path, len(matrix), items, table.num_rows)
        vectors[modality] = torch.from_numpy(matrix)
    attributes, offsets, count = item_attributes(table)
    return ItemFeatures(attributes, offsets, count, vectors)


def embedding_files(spec: BaselineSpec, embeddings: Path | None) -> dict[str, Path]:
    """Files of the vectors that a baseline reads, by modality; none for most.

    Args:
        spec: which model, and its own options.
        embeddings: folder of <modality>.parquet, where one was given.

    Raises:
        MacrecError: the baseline reads vectors and there is no folder.
    """
    modalities = modalities_read(spec)
    if modalities and embeddings is None:
        raise MacrecError(
            f"model {spec.model!r} reads the embeddings of {modalities} and was given none: give "
            "their folder (--embeddings); in params.yaml list it in multimodal_baselines"
        )
    return {} if embeddings is None else {m: embeddings / f"{m}.parquet" for m in modalities}


def item_attributes(items: pa.Table) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Each distinct brand and each distinct category is one attribute.

    Ids count by first appearance, an item's brand before its categories. A brand and a category
    of the same name are two attributes; a category that an item names twice counts once. Empty
    text is none.

    Args:
        items: columns `brand` and `categories` of artifact ITEMS.

    Returns:
        Flat ids, offsets and number of attributes, as in `ItemFeatures`.
    """
    ids: dict[tuple[str, str], int] = {}
    flat: list[int] = []
    offsets = [0]
    columns = (items.column(name).to_pylist() for name in ("brand", "categories"))
    for brand, categories in zip(*columns, strict=True):
        named = [("brand", brand or "")]
        named += [("category", part) for part in (categories or "").split(_BETWEEN_CATEGORIES)]
        kept = dict.fromkeys((kind, text.strip()) for kind, text in named if text.strip())
        flat += [ids.setdefault(key, len(ids)) for key in kept]
        offsets.append(len(flat))
    return torch.tensor(flat, dtype=torch.long), torch.tensor(offsets), len(ids)
