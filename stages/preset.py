"""Copy a preset over the parameters file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, ParamsFile


def main(
    name: Annotated[str, typer.Argument(help="Name of a file in the presets folder.")],
    presets: Annotated[Path, typer.Option(help="Folder of the presets.")] = Path("presets"),
    params_file: ParamsFile = DEFAULT_PARAMS,
    force: Annotated[bool, typer.Option("--force", help="Overwrite edits of your own.")] = False,
) -> None:
    """Copy a preset (a whole parameters file) over params.yaml."""
    from macrec_core.artifacts import write_text
    from macrec_core.errors import MacrecError
    from macrec_core.params.loading import load_params

    source = presets / f"{name}.yaml"
    if not source.is_file():
        known = sorted(path.stem for path in presets.glob("*.yaml"))
        raise MacrecError(f"preset {name!r}: no file {source}; choose one of {known}")
    load_params(source)
    kept = {path.read_text() for path in presets.glob("*.yaml")}
    if params_file.exists() and params_file.read_text() not in kept and not force:
        raise MacrecError(
            f"{params_file}: has edits of your own, which a preset would overwrite; keep a copy as "
            f"{presets}/<name>.yaml, or give --force"
        )
    write_text(params_file, source.read_text())
    typer.echo(f"{params_file} is now {source}; run `dvc repro`")
