"""Check every artifact present against its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, ParamsFile


def main(
    artifacts: Annotated[Path, typer.Option(help="Folder of the artifacts.")] = Path("artifacts"),
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Check parameters and all artifacts: schema, keys, values, counts, unique semantic IDs."""
    from macrec_core.inspection import inspect_artifacts
    from macrec_core.params.loading import load_params

    params = load_params(params_file)
    found = inspect_artifacts(artifacts, set(params.imported_datasets))
    for problem in found.problems:
        typer.echo(f"error: {problem}", err=True)
    typer.echo(f"{params_file}: parameters are valid")
    typer.echo(f"{found.num_files} artifacts checked, {len(found.problems)} with problems")
    if found.problems:
        raise typer.Exit(1)
