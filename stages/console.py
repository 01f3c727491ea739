"""What a person sees: log lines, progress, one-line errors."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import typer
from typer.core import TyperGroup

from macrec_core.errors import MacrecError

Dataset = Annotated[str, typer.Option(help="Name of the dataset, an entry of dataset_specs.")]
Variant = Annotated[str, typer.Option(help="Name of the variant, an entry of variant_specs.")]
Baseline = Annotated[str, typer.Option(help="Name of the baseline, of baseline_specs.")]
Seed = Annotated[int, typer.Option(help="Random seed of this run.")]
Embeddings = Annotated[
    Path | None, typer.Option(help="Folder of <modality>.parquet, for baselines that read them.")
]
Recommendations = Annotated[Path, typer.Option(help="Artifact to write, a row a user and list.")]
ParamsFile = Annotated[Path, typer.Option("--params", help="Parameters file.")]
DEFAULT_PARAMS = Path("params.yaml")


class OneLineErrors(TyperGroup):
    """Prints a `MacrecError` as one message and exits with its code."""

    # Typer's type of the context differs between its releases (click's, or its own copy).
    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - above
        """Run the chosen command with logging set up."""
        _log_to_stderr()
        try:
            return super().invoke(ctx)
        except MacrecError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from error


class Console:
    """Draws progress: a bar on a terminal, a plain line every few seconds elsewhere.

    Satisfies `macrec_core.progress.Progress`; use as a context manager.

    Args:
        shown: False draws nothing; of several processes only the first draws.
    """

    _SECONDS_BETWEEN_LINES = 10.0

    def __init__(self, shown: bool = True) -> None:
        self._shown = shown
        self._bar: Any = None
        self._description, self._total, self._done = "", 0, 0
        self._last_line = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close_bar()

    def start(self, description: str, total: int) -> None:
        """Begin a task of `total` units."""
        self._close_bar()
        self._description, self._total, self._done = description, total, 0
        self._last_line = time.monotonic()
        if self._shown and sys.stderr.isatty():
            from rich.console import Console as Terminal
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[status]}"),
                console=Terminal(stderr=True),
            )
            self._bar.start()
            self._bar.add_task(description, total=total, status="")

    def advance(self, units: int = 1, status: str = "") -> None:
        """Report `units` more done."""
        self._done += units
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=units, status=status)
            return
        if not self._shown:
            return
        finished = self._done >= self._total
        if finished or time.monotonic() - self._last_line >= self._SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            line = f"{self._description}: {self._done}/{self._total} {status}".rstrip()
            typer.echo(line, err=True)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _log_to_stderr() -> None:
    # force: a second command in one process (tests) must not keep the first one's stream.
    logging.basicConfig(
        level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True
    )
    for noisy in ("httpx", "httpcore", "matplotlib", "PIL", "fontTools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
