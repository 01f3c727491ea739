"""`manifest.json`: what lies in a raw folder, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from macrec_core.artifacts import read_json, write_json
from macrec_core.errors import MacrecError
from macrec_core.files import file_sha256

Kind = Literal["sample", "amazon", "published", "minionerec", "files"]


@dataclass(frozen=True)
class RawContents:
    """What went into a raw folder.

    Attributes:
        files: per file name, its origin, SHA-256 and size in bytes there, and whether it was
            kept.
        counts: records, items, images and failures.
    """

    files: dict[str, dict[str, object]]
    counts: dict[str, object]


def describe_file(path: Path, origin: str, *, kept: bool) -> dict[str, object]:
    """A manifest entry: origin, hash and size of a file, and whether the raw folder keeps it."""
    return {
        "origin": origin,
        "sha256": file_sha256(path),
        "size": path.stat().st_size,
        "kept": kept,
    }


def write_manifest(raw: Path, source: Kind, contents: RawContents) -> None:
    """Write the manifest of a raw folder."""
    write_json(
        raw / "manifest.json",
        {"source": source, "files": contents.files, "counts": contents.counts},
    )


def source_kind(raw: Path) -> Kind:
    """The kind of source that a raw folder came from.

    Raises:
        MacrecError: no manifest, or one of another program.
    """
    kind = read_json(raw / "manifest.json").get("source")
    for known in get_args(Kind):
        if kind == known:
            return known  # type: ignore[no-any-return]  # get_args is untyped
    raise MacrecError(
        f"{raw / 'manifest.json'}: source={kind!r}, expected one of {list(get_args(Kind))}; "
        "run download again"
    )
