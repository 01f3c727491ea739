"""Assembles the stage commands: `python -m stages NAME --help`.

Stage modules import heavy libraries inside their command, so that this answers at once.
"""

from __future__ import annotations

import os
from importlib import import_module

import typer

from stages.console import OneLineErrors

# Read once, when torch loads OpenMP: waiting threads that spin slow a busy machine down by far
# more than waking them costs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The stages draw their own progress; transformers' bars for single files only clutter a log.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

COMMANDS = (
    "download",
    "filter",
    "embed_text",
    "embed_image",
    "pseudo_labels",
    "train_rqvae",
    "assign_sids",
    "import_sids",
    "build_seq2seq",
    "train_gr",
    "evaluate",
    "yardsticks",
    "report",
    "preset",
    "check",
)

app = typer.Typer(
    cls=OneLineErrors,
    help="The stages of the MACRec pipeline, in the order in which an item travels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for name in COMMANDS:
    app.command(name)(import_module(f"stages.{name}").main)

if __name__ == "__main__":
    app(prog_name="python -m stages")
