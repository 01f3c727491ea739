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
    """Check parameters and all artifacts: schema, keys, values, counts, unique semantic IDs.

    Of datasets without a raw folder also what `download` would refuse at once.
    """
    from macrec_core.catalog.source import data_root
    from macrec_core.catalog.source_check import source_problems
    from macrec_core.inspection import inspect_artifacts
    from macrec_core.params.loading import load_params

    params = load_params(params_file)
    sources = [
        problem
        for name in params.datasets
        if not (artifacts / name / "raw").exists()
        for problem in source_problems(
            name, params.dataset_specs[name], params.network, data_root()
        )
    ]
    found = inspect_artifacts(artifacts, set(params.imported_datasets))
    for problem in [*sources, *found.problems]:
        typer.echo(f"error: {problem}", err=True)
    if not sources:
        typer.echo(f"{params_file}: parameters are valid")
    typer.echo(f"{found.num_files} artifacts checked, {len(found.problems)} with problems")
    if sources or found.problems:
        raise typer.Exit(1)
