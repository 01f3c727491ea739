"""Print the experiments of a sweep: `python -m stages sweep codebook_size | sh`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, ParamsFile


def main(
    name: Annotated[str, typer.Argument(help="Name of the sweep, an entry of `sweeps`.")],
    variant: Annotated[str, typer.Option(help="Variant that is swept.")] = "macrec",
    output: Annotated[Path | None, typer.Option(help="Shell file to write instead.")] = None,
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Write the commands that queue a sweep, one experiment a value, and run nothing."""
    from macrec_core.artifacts import write_text
    from macrec_core.params.loading import read_params
    from macrec_core.sweeps.commands import sweep_commands

    text = "".join(f"{line}\n" for line in sweep_commands(read_params(params_file), name, variant))
    if output is None:
        typer.echo(text, nl=False)
        return
    write_text(output, text)
