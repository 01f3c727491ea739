"""Gathers a published file family into a raw folder.

The files lie there uncompressed under fixed names: `inter.json`, `item.json`, `item2id`,
`ids.<modality>.json`, `embeddings.<modality>.npy`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from macrec_core.catalog.manifest import RawContents, describe_file
from macrec_core.catalog.published import (
    count_items,
    read_published_embeddings,
    read_published_ids,
    read_sequences,
    uncompressed,
)
from macrec_core.errors import MacrecError
from macrec_core.params.data import PublishedSource

log = logging.getLogger(__name__)


def gather_published(
    source: PublishedSource, folder: Path, label: str, target: Path
) -> RawContents:
    """Check a file family and lay it into a raw folder.

    Args:
        source: names of the files; each may exist with or without `.gz`.
        folder: where they lie.
        label: what the manifest calls the folder.
        target: existing empty folder.

    Raises:
        MacrecError: a needed or named file is missing or breaks a rule; the message names the
            file, and the stage that needs it.
    """
    found = _find_all(source, folder)
    counts = _check(found, source)
    files = {}
    for kept, path in found.items():
        (target / kept).write_bytes(uncompressed(path))
        files[kept] = describe_file(path, f"{label}/{path.name}", kept=True)
    _log_what_is_possible(source, found)
    return RawContents(files, counts)


def _find_all(source: PublishedSource, folder: Path) -> dict[str, Path]:
    """Kept name to published file; files that need not exist may be absent."""
    name = source.name
    needed = {"inter.json": (f"{name}.inter.json", "filter needs it; correct folder or name")}
    for modality, file in source.index_files.items():
        need = f"import_sids needs it; correct or remove index_files.{modality}"
        needed[f"ids.{modality}.json"] = (file, need)
    for modality, file in source.embedding_files.items():
        need = f"embed_{modality} needs it; correct or remove embedding_files.{modality}"
        needed[f"embeddings.{modality}.npy"] = (file, need)
    found = {}
    for kept, (file, need) in needed.items():
        path = find_published(folder, file)
        if path is None:
            raise MacrecError(f"{folder / file}: does not exist, nor with .gz; {need}")
        found[kept] = path
    for kept in ("item.json", "item2id"):
        path = find_published(folder, f"{name}.{kept}")
        if path is not None:
            found[kept] = path
    return found


def find_published(folder: Path, file: str) -> Path | None:
    """A file of a folder, whether it is named with or without `.gz`; None if there is none."""
    name = file.removesuffix(".gz")
    for path in (folder / file, folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def _check(found: Mapping[str, Path], source: PublishedSource) -> dict[str, object]:
    """Check the files against each other; returns counts."""
    num_items = count_items(found["inter.json"], found.get("item2id"), found.get("item.json"))
    rows = {}
    for modality in source.index_files:
        path = found[f"ids.{modality}.json"]
        rows[path] = len(read_published_ids(path, modality))
    for modality in source.embedding_files:
        path = found[f"embeddings.{modality}.npy"]
        rows[path] = len(read_published_embeddings(path))
    for path, count in rows.items():
        if count != num_items:
            raise MacrecError(
                f"{path}: holds {count} items, {found['inter.json'].name} has {num_items}; "
                "use files of one family"
            )
    users = len(read_sequences(found["inter.json"]).user_keys)
    return {"users": users, "items": num_items}


def _log_what_is_possible(source: PublishedSource, found: Mapping[str, Path]) -> None:
    if "item.json" not in found:
        log.warning(
            "%s.item.json is absent: items have no text, embed_text is possible only with "
            "encoder 'published'",
            source.name,
        )
    log.info(
        "published IDs: %s; published embeddings: %s; a file family holds no images",
        sorted(source.index_files) or "none",
        sorted(source.embedding_files) or "none",
    )
