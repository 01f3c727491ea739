"""The field's file family: `X.inter.json`, `X.item.json`, `X.item2id`, index and embedding files.

Shared by LC-Rec, LETTER, MQL4GRec, MACRec and MiniOneRec. What is missing decides which stages
are possible. Every reader here takes a file as published, maybe gzip-compressed, or from a raw
folder (see `family.gather_published`).
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from macrec_core.errors import MacrecError

# A token names its level by a letter, whose case tells the modality.
_FIRST_LETTER = {"text": "a", "image": "A"}
_TOKEN = re.compile(r"<([a-zA-Z])_(0|[1-9][0-9]{0,8})>")


@dataclass(frozen=True)
class Sequences:
    """Published interactions.

    Attributes:
        user_keys: in file order; a user's place here is its id.
        items: item ids of each user, chronological.
    """

    user_keys: list[str]
    items: list[np.ndarray]


def published_ids_path(raw: Path, modality: str) -> Path:
    """Where a raw folder keeps the published semantic IDs of a modality.

    Raises:
        MacrecError: it has none.
    """
    path = raw / f"ids.{modality}.json"
    if not path.is_file():
        raise MacrecError(
            f"{path}: does not exist, import_sids needs it; name the file under "
            f"index_files.{modality} of the dataset and run download again"
        )
    return path


def published_embeddings_path(raw: Path, modality: str) -> Path:
    """Where a raw folder keeps the published embeddings of a modality.

    Raises:
        MacrecError: it has none.
    """
    path = raw / f"embeddings.{modality}.npy"
    if not path.is_file():
        raise MacrecError(
            f"{path}: does not exist, embed_{modality} with encoder 'published' needs it; name "
            f"the file under embedding_files.{modality} of the dataset and run download again"
        )
    return path


def read_published_ids(path: Path, modality: str) -> np.ndarray:
    """Codes of every item, [N, L] int32.

    Args:
        path: JSON of item id to tokens such as `["<a_170>", "<b_224>"]`, maybe gzip-compressed;
            text is lower case, image upper case, the letter counts the levels.
        modality: `text` or `image`.

    Raises:
        MacrecError: an item is missing, or a token breaks the pattern.
    """
    if modality not in _FIRST_LETTER:
        raise MacrecError(
            f"{path}: modality '{modality}' has no published token form; expected one of "
            f"{sorted(_FIRST_LETTER)}"
        )
    table = _object(path)
    count = len(table)
    rows = []
    for item in range(count):
        tokens = table.get(str(item))
        if tokens is None:
            raise MacrecError(
                f"{path}: item {item} has no ID; expected items 0..{count - 1} without gaps"
            )
        rows.append(_codes(path, item, tokens, _FIRST_LETTER[modality]))
        if len(rows[-1]) != len(rows[0]):
            raise MacrecError(
                f"{path}: item {item} has {len(rows[-1])} levels, item 0 has {len(rows[0])}; "
                "expected equally many"
            )
    if not rows:
        raise MacrecError(f"{path}: holds no item; expected one ID an item")
    return np.asarray(rows, dtype=np.int32)


def read_published_embeddings(path: Path) -> np.ndarray:
    """Embeddings of every item, [N, width] float32, from a `.npy` file, maybe gzip-compressed.

    Raises:
        MacrecError: no readable array, not two-dimensional, or not finite.
    """
    try:
        values = np.load(io.BytesIO(uncompressed(path)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise MacrecError(f"{path}: is no readable .npy file ({error})") from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind != "f":
        raise MacrecError(f"{path}: expected a two-dimensional array of floating-point numbers")
    if not np.isfinite(values).all():
        raise MacrecError(f"{path}: holds NaN or infinite values; expected none")
    return values.astype(np.float32)


def read_sequences(path: Path) -> Sequences:
    """Read `X.inter.json`.

    Raises:
        MacrecError: no object of user key to list of item ids, or a user with fewer than three.
    """
    table = _object(path)
    for user, items in table.items():
        if not isinstance(items, list) or not all(_is_id(item) for item in items):
            raise MacrecError(f"{path}: user '{user}' has no list of item ids counting from 0")
        if len(items) < 3:
            raise MacrecError(
                f"{path}: user '{user}' has {len(items)} interactions; leave-one-out needs 3, "
                "remove the user"
            )
    if not table:
        raise MacrecError(f"{path}: holds no user; expected user keys with lists of item ids")
    return Sequences(list(table), [np.asarray(items, np.int32) for items in table.values()])


def count_items(inter: Path, item2id: Path | None, item_json: Path | None) -> int:
    """Number of items: of `item2id`, else of `item.json`, else of the interactions.

    Raises:
        MacrecError: the files contradict each other, or ids have gaps.
    """
    used = np.unique(np.concatenate(read_sequences(inter).items))
    counts = {}
    if item2id is not None:
        counts[item2id.name] = len(read_item_keys(item2id))
    if item_json is not None:
        counts[item_json.name] = len(read_item_records(item_json))
    if not counts:
        _check_dense(inter, used.tolist())
        return len(used)
    if len(set(counts.values())) > 1:
        raise MacrecError(f"{inter.parent}: numbers of items differ: {counts}; use one file family")
    count = next(iter(counts.values()))
    if used[-1] >= count:
        raise MacrecError(
            f"{inter}: has item id {used[-1]}, but {' and '.join(counts)} end at {count - 1}; "
            "use one file family"
        )
    return count


def read_item_keys(path: Path) -> list[str]:
    """Read `X.item2id`, lines of item key, tab, item id; returns the keys in the order of ids.

    Raises:
        MacrecError: a broken line, or ids that are not 0..N-1, each once.
    """
    keys: dict[int, str] = {}
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        key, _, item = line.rstrip().rpartition("\t")
        if not key or not item.isascii() or not item.isdecimal() or int(item) in keys:
            raise MacrecError(f"{path}: line {number} is no item key, tab, and new item id")
        keys[int(item)] = key
    _check_dense(path, sorted(keys))
    return [keys[item] for item in range(len(keys))]


def read_item_records(path: Path) -> list[Mapping[str, object]]:
    """Read `X.item.json`; returns the records in the order of ids.

    Raises:
        MacrecError: no object of item id to record, or ids that are not 0..N-1.
    """
    table = _object(path)
    records: list[Mapping[str, object]] = []
    for item in range(len(table)):
        record = table.get(str(item))
        if not isinstance(record, dict):
            raise MacrecError(
                f"{path}: item {item} has no record; expected items 0..{len(table) - 1}"
            )
        records.append(record)
    return records


def uncompressed(path: Path) -> bytes:
    """The file's bytes, decompressed if it is a gzip file.

    Raises:
        MacrecError: missing, or no whole gzip file.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except FileNotFoundError as error:
        raise MacrecError(f"{path}: does not exist; run the stage that makes it") from error
    except (OSError, EOFError, zlib.error) as error:
        raise MacrecError(f"{path}: cannot be read ({error}); fetch it again") from error


def _codes(path: Path, item: int, tokens: object, first: str) -> list[int]:
    codes = []
    if not isinstance(tokens, list) or not 1 <= len(tokens) <= 26:
        raise MacrecError(f"{path}: item {item} has {tokens!r}; expected a list of 1 to 26 tokens")
    for level, token in enumerate(tokens):
        letter = chr(ord(first) + level)
        match = _TOKEN.fullmatch(token) if isinstance(token, str) else None
        if match is None or match[1] != letter:
            raise MacrecError(
                f"{path}: item {item}, level {level + 1} is {token!r}; expected <{letter}_CODE>"
            )
        codes.append(int(match[2]))
    return codes


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _check_dense(path: Path, ids: list[int]) -> None:
    for expected, found in enumerate(ids):
        if found != expected:
            raise MacrecError(
                f"{path}: item id {expected} is missing; expected ids 0..N-1 without gaps"
            )


def _object(path: Path) -> dict[str, object]:
    """A JSON object whose keys occur once each."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise ValueError("a key occurs twice")
        return table

    try:
        value = json.loads(text_of(path), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise MacrecError(f"{path}: is no readable JSON file ({error})") from error
    if not isinstance(value, dict):
        raise MacrecError(f"{path}: holds {type(value).__name__}, expected a JSON object")
    return value


def text_of(path: Path) -> str:
    """The file's text, decompressed if it is a gzip file.

    Raises:
        MacrecError: missing, no whole gzip file, or no UTF-8.
    """
    try:
        return uncompressed(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MacrecError(f"{path}: is no UTF-8 text ({error})") from error
