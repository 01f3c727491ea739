"""Items to embed: the sample's, and the real texts of Amazon Industrial where they are at hand."""

from __future__ import annotations

import gzip
import json
import logging
import os
from pathlib import Path

import pyarrow as pa

from macrec_core.artifacts import write_artifact
from macrec_core.catalog.catalogue import build_catalogue
from macrec_core.catalog.raw import Places, write_raw
from macrec_core.catalog.scratch import Scratch
from macrec_core.params.loading import load_params
from macrec_core.params.whole import Params
from macrec_core.schemas import ITEMS

ROOT = Path(__file__).resolve().parents[1]
REAL = "data/industrial/Industrial_and_Scientific.item.json.gz"

log = logging.getLogger(__name__)


def params() -> Params:
    """The sample preset."""
    return load_params(ROOT / "presets/sample.yaml")


def sample(folder: Path) -> Path:
    """The sample's catalogue below a folder: items.parquet and images.parquet."""
    preset = params()
    raw, target = folder / "raw", folder / "catalogue"
    raw.mkdir(parents=True)
    with Scratch(folder / "scratch") as scratch:
        write_raw(
            raw,
            preset.dataset_specs["sample"],
            preset.images,
            Places(ROOT, scratch, None),
            network=preset.network,
            with_images=True,
        )
    built = build_catalogue(raw, preset.modalities, preset.filter)
    write_artifact(target / "items.parquet", built.items, ITEMS)
    built.images.write(target / "images.parquet")
    return target


def real_items() -> pa.Table | None:
    """3,686 items with real titles and descriptions; None where the data is not at hand.

    It lies in `$MACREC_SHARED`, or in `shared` beside the project.
    """
    path = Path(os.environ.get("MACREC_SHARED", ROOT.parent / "shared")) / REAL
    if not path.is_file():
        log.info("%s: not there; the sample's texts take its place", path)
        return None
    records = list(json.loads(gzip.decompress(path.read_bytes())).values())
    columns = {
        field: [str(record.get(field) or "") for record in records]
        for field in ("title", "description", "brand", "categories")
    }
    keys = {"item_id": range(len(records)), "item_key": [str(i) for i in range(len(records))]}
    return pa.table({**keys, **columns}).cast(ITEMS.schema)
