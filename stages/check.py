"""Check parameters, and every artifact present against its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, ParamsFile


def main(
    artifacts: Annotated[Path, typer.Option(help="Folder of the artifacts.")] = Path("artifacts"),
    params_file: ParamsFile = DEFAULT_PARAMS,
    params_only: Annotated[
        bool, typer.Option("--params-only", help="Leave the artifacts out, as before a run.")
    ] = False,
) -> None:
    """Check parameters and all artifacts: schema, keys, values, counts, unique semantic IDs.

    Of the datasets also what `download` would refuse at once: an error where it has yet to run,
    a warning where there is a raw folder.
    """
    from macrec_core.catalog.source import data_root
    from macrec_core.catalog.source_check import source_problems
    from macrec_core.inspection import inspect_artifacts, made_by
    from macrec_core.params.loading import load_params

    params = load_params(params_file)
    problems = []
    for name in params.datasets:
        downloaded = (artifacts / name / "raw").exists()
        for problem in source_problems(
            name, params.dataset_specs[name], params.network, data_root()
        ):
            if downloaded:
                typer.echo(f"warning: {problem} (should download run again)", err=True)
            else:
                problems.append(problem)
    if not problems:
        typer.echo(f"{params_file}: parameters are valid")
    if not params_only:
        found = inspect_artifacts(artifacts, set(params.imported_datasets), made_by(params))
        problems += found.problems
        typer.echo(f"{found.num_files} artifacts checked, {len(found.problems)} with problems")
        if found.left_over:
            typer.echo(
                f"{len(found.left_over)} artifacts of what {params_file} does not name are left "
                f"out, such as {found.left_over[0]}; they may be deleted"
            )
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(1)
