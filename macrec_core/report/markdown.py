"""Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], names: int) -> str:
    """A table whose first `names` columns are names, and the others numbers.

    Args:
        head: of the columns.
        rows: as many texts each.
        names: columns aligned to the left.
    """
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * names + "---:|" * (len(head) - names)]
    for row in rows:
        assert len(row) == len(head)
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"
