"""Assembles the stage commands: `python -m stages NAME --help`.

Stage modules import heavy libraries inside their command, so that this answers at once.
"""

from __future__ import annotations

import atexit
import gc
import os
from importlib import import_module

import typer

from stages.console import OneLineErrors

# Read once, when torch loads OpenMP: how often a thread without work looks for some before it
# sleeps. At OpenMP's own 300,000 it slows a busy machine down by far more than waking it costs;
# not to look at all costs a quarter of the speed on a quiet one.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# oneDNN compiles a kernel for each shape of a bfloat16 product and forgets the oldest; a T5
# training meets more shapes than the 1,024 that it keeps by default.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
# The stages draw their own progress; transformers' bars for single files only clutter a log.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

COMMANDS = (
    "download",
    "filter",
    "embed_text",
    "embed_image",
    "embed_collab",
    "pseudo_labels",
    "train_rqvae",
    "assign_sids",
    "import_sids",
    "cluster_sids",
    "build_seq2seq",
    "train_gr",
    "evaluate",
    "yardsticks",
    "train_baseline",
    "evaluate_baseline",
    "ensembles",
    "significance",
    "plot_embeddings",
    "report",
    "preset",
    "sweep",
    "draw_sweep",
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
    # A stage is short, and torch's modules are 200,000 objects that nobody frees: looking
    # through them for garbage while they load, and again when the process ends, takes most of a
    # second. Rarely is often enough for what a stage itself leaves behind.
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)
    app(prog_name="python -m stages")
