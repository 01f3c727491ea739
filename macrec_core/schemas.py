"""Every Parquet artifact's contract: name, version, columns, key.

A schema is a function of what the artifact's width depends on (modalities, levels), so that
nothing below the embeddings hard-codes two modalities. Item-level artifacts start with
`item_id`: one filter follows an item through all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Contract:
    """What an artifact must look like.

    Attributes:
        name: artifact name, written into the file's metadata.
        version: raised whenever columns change meaning.
        schema: columns and types; non-nullable fields hold no nulls (and, if float, no NaN).
        key: columns whose combination is unique and ascending; empty for no key.
        dense_key: whether the single key column counts 0..rows-1 without gaps.
    """

    name: str
    version: int
    schema: pa.Schema
    key: tuple[str, ...] = ()
    dense_key: bool = False


# Column of semantic IDs that is no modality.
VISUAL = "visual"


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


RAW_IMAGES = Contract(
    "raw_images",
    1,
    pa.schema(
        [
            _required("item_key", pa.string()),
            _required("url", pa.string()),
            _required("width", pa.int32()),
            _required("height", pa.int32()),
            _required("image", pa.binary()),
        ]
    ),
    key=("item_key",),
)

IMAGE_FAILURES = Contract(
    "image_failures",
    1,
    pa.schema(
        [
            _required("item_key", pa.string()),
            _required("url", pa.string()),
            _required("cause", pa.string()),
        ]
    ),
)

# What `download` keeps in its scratch folder: one row a URL that was asked for.
IMAGE_TRIALS = Contract(
    "image_trials",
    1,
    pa.schema(
        [
            _required("item_key", pa.string()),
            _required("url", pa.string()),
            # Why the URL gave no usable image; empty where it did.
            _required("cause", pa.string()),
            _required("width", pa.int32()),
            _required("height", pa.int32()),
            _required("image", pa.binary()),
        ]
    ),
)

ITEMS = Contract(
    "items",
    1,
    pa.schema(
        [
            _required("item_id", pa.int32()),
            _required("item_key", pa.string()),
            # Null means that the source has no such field; an empty string, that it is empty.
            pa.field("title", pa.string()),
            pa.field("description", pa.string()),
            pa.field("brand", pa.string()),
            pa.field("categories", pa.string()),
        ]
    ),
    key=("item_id",),
    dense_key=True,
)

IMAGES = Contract(
    "images",
    1,
    pa.schema(
        [
            _required("item_id", pa.int32()),
            _required("url", pa.string()),
            _required("width", pa.int32()),
            _required("height", pa.int32()),
            _required("image", pa.binary()),
        ]
    ),
    key=("item_id",),
)

USERS = Contract(
    "users",
    1,
    pa.schema([_required("user_id", pa.int32()), _required("user_key", pa.string())]),
    key=("user_id",),
    dense_key=True,
)

INTERACTIONS = Contract(
    "interactions",
    1,
    pa.schema(
        [
            _required("user_id", pa.int32()),
            _required("position", pa.int32()),
            _required("item_id", pa.int32()),
            # Null where the source publishes only the order.
            pa.field("timestamp", pa.int64()),
            _required("split", pa.string()),
        ]
    ),
    key=("user_id", "position"),
)


def embeddings(width: int) -> Contract:
    """Embeddings of one modality: `width` float32 values an item."""
    return Contract(
        "embeddings",
        1,
        pa.schema(
            [
                _required("item_id", pa.int32()),
                _required("embedding", pa.list_(_required("item", pa.float32()), width)),
            ]
        ),
        key=("item_id",),
        dense_key=True,
    )


def pseudo_labels(modalities: Sequence[str]) -> Contract:
    """K-means cluster of each item, one column a modality (Eq. 1)."""
    return Contract(
        "pseudo_labels",
        1,
        pa.schema(
            [_required("item_id", pa.int32()), *(_required(m, pa.int32()) for m in modalities)]
        ),
        key=("item_id",),
        dense_key=True,
    )


def semantic_ids(
    modalities: Sequence[str], num_levels: int, visual_width: int | None = None
) -> Contract:
    """Codes of each item: `<modality>` as used, `<modality>_nearest` before they became unique.

    Where a level was added that numbers equal IDs, `<modality>_nearest` has 0 there. With
    `visual_width` a column `visual` holds so many values of the item's image, which the
    recommender reads beside the codes.
    """
    codes = pa.list_(_required("item", pa.int32()), num_levels)
    columns = [_required("item_id", pa.int32())]
    for modality in modalities:
        columns += [_required(modality, codes), _required(f"{modality}_nearest", codes)]
    if visual_width is not None:
        kind = pa.list_(_required("item", pa.float32()), visual_width)
        columns.append(_required(VISUAL, kind))
    return Contract("semantic_ids", 1, pa.schema(columns), key=("item_id",), dense_key=True)


_TOKENS = pa.list_(_required("item", pa.int32()))

TRAINING_EXAMPLES = Contract(
    "training_examples",
    1,
    pa.schema(
        [
            _required("example_id", pa.int64()),
            _required("task", pa.string()),
            _required("source_modality", pa.string()),
            _required("target_modality", pa.string()),
            # Null for item-level tasks, which belong to no user.
            pa.field("user_id", pa.int32()),
            pa.field("position", pa.int32()),
            _required("target_item", pa.int32()),
            _required("source", _TOKENS),
            _required("target", _TOKENS),
        ]
    ),
    key=("example_id",),
    dense_key=True,
)

EVALUATION_EXAMPLES = Contract(
    "evaluation_examples",
    1,
    pa.schema(
        [
            _required("split", pa.string()),
            _required("modality", pa.string()),
            _required("user_id", pa.int32()),
            _required("target_item", pa.int32()),
            _required("source", _TOKENS),
        ]
    ),
    key=("split", "modality", "user_id"),
)

RECOMMENDATIONS = Contract(
    "recommendations",
    2,
    pa.schema(
        [
            # A modality's own list, "ensemble", or the name of a baseline or yardstick.
            _required("list", pa.string()),
            # "all_items", or "unseen_items": without those that the user bought before.
            _required("candidates", pa.string()),
            _required("user_id", pa.int32()),
            _required("target_item", pa.int32()),
            # 1 for the first place; 0 where the target is not ranked. Beyond the end of `items`
            # where every item has a score.
            _required("rank", pa.int32()),
            _required("items", pa.list_(_required("item", pa.int32()))),
            _required("scores", pa.list_(_required("item", pa.float32()))),
        ]
    ),
    key=("list", "candidates", "user_id"),
)

FIXED = {
    contract.name: contract
    for contract in (
        RAW_IMAGES,
        IMAGE_FAILURES,
        ITEMS,
        IMAGES,
        USERS,
        INTERACTIONS,
        TRAINING_EXAMPLES,
        EVALUATION_EXAMPLES,
        RECOMMENDATIONS,
    )
}


def contract_of(name: str, schema: pa.Schema) -> Contract | None:
    """The contract that a file of this artifact name and column layout claims to meet.

    Used by `python -m stages check`, which meets files without being told their widths.
    Returns None for an unknown name; a known name whose columns do not fit gives the contract
    it comes closest to, so that the comparison can name the difference.
    """
    if name in FIXED:
        return FIXED[name]
    columns = [column for column in schema.names if column != "item_id"]
    if name == "embeddings":
        return embeddings(_list_size(schema, "embedding"))
    if name == "pseudo_labels":
        return pseudo_labels(columns)
    if name == "semantic_ids":
        modalities = [c for c in columns if not c.endswith("_nearest") and c != VISUAL]
        visual_width = _list_size(schema, VISUAL) if VISUAL in columns else None
        return semantic_ids(modalities, _list_size(schema, *modalities[:1]), visual_width)
    return None


def _list_size(schema: pa.Schema, *columns: str) -> int:
    """Width of a fixed-size-list column; 1 where there is none to measure."""
    kinds = [schema.field(column).type for column in columns if column in schema.names]
    return kinds[0].list_size if kinds and pa.types.is_fixed_size_list(kinds[0]) else 1
