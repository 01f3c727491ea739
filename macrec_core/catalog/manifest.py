"""`manifest.json`: what lies in a raw folder, and where it came from."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from macrec_core.artifacts import read_json, write_json
from macrec_core.errors import MacrecError
from macrec_core.files import file_sha256

MANIFEST = "manifest.json"

# Beside those that the manifest lists: what is made here, and what is rewritten from 2023.
_MADE = (
    MANIFEST,
    "image_failures.parquet",
    "images/part-[0-9]*.parquet",
    "metadata.json.gz",
    "ratings.csv",
)

Kind = Literal["sample", "amazon", "published", "minionerec", "files"]


@dataclass(frozen=True)
class RawContents:
    """What went into a raw folder.

    Attributes:
        files: per file name, its origin, SHA-256 and size in bytes there, and whether it was
            kept; `failed` names the mirrors that were asked before, and why they failed.
        counts: records, items, images and failures.
        layout: of the release that the files come from; None if there is only one.
    """

    files: dict[str, dict[str, object]]
    counts: dict[str, object]
    layout: str | None = None


def describe_file(
    path: Path, origin: str, *, kept: bool, failed: Mapping[str, str] | None = None
) -> dict[str, object]:
    """A manifest entry of a file; see `RawContents`."""
    entry = {
        "origin": origin,
        "sha256": file_sha256(path),
        "size": path.stat().st_size,
        "kept": kept,
    }
    return entry | ({"failed": dict(failed)} if failed else {})


def write_manifest(raw: Path, source: Kind, contents: RawContents) -> None:
    """Write the manifest of a raw folder."""
    layout = {} if contents.layout is None else {"layout": contents.layout}
    write_json(
        raw / MANIFEST,
        {"source": source, "files": contents.files, "counts": contents.counts} | layout,
    )


def source_kind(raw: Path) -> Kind:
    """The kind of source that a raw folder came from.

    Raises:
        MacrecError: no manifest, or one of another program.
    """
    kind = read_json(raw / MANIFEST).get("source")
    for known in get_args(Kind):
        if kind == known:
            return known  # type: ignore[no-any-return]  # get_args is untyped
    raise MacrecError(
        f"{raw / MANIFEST}: source={kind!r}, expected one of {list(get_args(Kind))}; "
        "run download again"
    )


def raw_files(raw: Path) -> list[str]:
    """Patterns of all files of an earlier raw folder, which alone a new one may replace.

    Without a manifest of ours there are none: the folder may be the very source.
    """
    try:
        manifest = read_json(raw / MANIFEST)
    except MacrecError:
        return []
    files = manifest.get("files")
    if manifest.get("source") not in get_args(Kind) or not isinstance(files, dict):
        return []
    kept = [name for name, entry in files.items() if isinstance(entry, dict) and entry.get("kept")]
    return [*_MADE, *map(glob.escape, kept)]
