"""The table of all works: `cpu.json` for programs, `cpu.md` for people, both of one content."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Row

_HEADER = ("work", "unit", "ours", "plain", "ratio", "ceiling", "share of ceiling", "peak MB")


def merged(older: Sequence[Row], measured: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Older rows in their places, those of the measured works replaced by the new ones.

    Args:
        older: what the file held.
        measured: new rows by work; a work without older rows goes to the end.
    """
    waiting = dict(measured)
    rows: list[Row] = []
    for row in older:
        name = row.work.split(" ")[0]
        if name not in measured:
            rows.append(row)
        else:
            rows.extend(waiting.pop(name, ()))
    return rows + [row for new in waiting.values() for row in new]


def in_order(rows: Iterable[Row], works: Sequence[str]) -> list[Row]:
    """Rows in the order of the works; those of works no longer known last."""
    places = {name: place for place, name in enumerate(works)}
    return sorted(rows, key=lambda row: places.get(row.work.split(" ")[0], len(places)))


def read_rows(path: Path) -> list[Row]:
    """Rows of an earlier run; none where there is no file."""
    if not path.exists():
        return []
    return [Row(**entry) for entry in json.loads(path.read_text())]


def write_results(
    path: Path, rows: Sequence[Row], machine: str, measured: Iterable[str], everything: bool
) -> None:
    """Write the rows, and beside them the same table with the machine that each was measured on.

    Args:
        path: the JSON file; the table goes to the same name ending in `.md`.
        rows: all of them.
        machine: of this run, one line.
        measured: works of this run.
        everything: no work keeps a row of an earlier run.
    """
    page = path.with_suffix(".md")
    machines = {} if everything else _machines(page)
    machines |= dict.fromkeys(measured, machine)
    lines = [f"- `{name}`: {where}" for name, where in machines.items()]
    text = f"# Speed on a CPU\n\n{table(rows)}\nMeasured:\n\n" + "\n".join(lines) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, json.dumps([asdict(row) for row in rows], indent=2, allow_nan=False) + "\n")
    _replace(page, text)


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, padded so that it also reads well on a terminal."""
    cells = [list(_HEADER)] + [_cells(row) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADER))]
    left = 2  # columns of names; the others are numbers
    lines = [
        "| " + " | ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ) + " |"
        for line in cells
    ]  # fmt: skip
    rule = [
        "-" * (width + 2) if column < left else "-" * (width + 1) + ":"
        for column, width in enumerate(widths)
    ]
    return "\n".join([lines[0], "|" + "|".join(rule) + "|", *lines[1:]]) + "\n"


def describe_machine() -> str:
    """Date, processor, cores, torch and how busy the machine is, in one line."""
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, "
        f"torch {version('torch')}, load average {load:.1f} at the start"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in lines)
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    name = facts.get("model name") or platform.processor() or platform.machine()
    half = sorted({"avx512_bf16", "amx_bf16"} & set(facts.get("flags", "").split()))
    return f"{name} ({', '.join(half) or 'no bfloat16 instructions'})"


def _cells(row: Row) -> list[str]:
    ratio = "" if row.ratio is None else f"{row.ratio:.1f} x"
    share = "" if row.share_of_ceiling is None else f"{100 * row.share_of_ceiling:.1f} %"
    return [
        row.work, row.unit, _number(row.ours), _number(row.plain), ratio,
        _number(row.ceiling), share, _number(row.peak_memory_mb),
    ]  # fmt: skip


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _machines(page: Path) -> dict[str, str]:
    """What an earlier page says of each work's machine."""
    lines = page.read_text().splitlines() if page.exists() else []
    entries = (line[3:].partition("`: ") for line in lines if line.startswith("- `"))
    return {name: where for name, _, where in entries}


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
