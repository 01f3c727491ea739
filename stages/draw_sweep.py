"""Draw what came of a sweep: `dvc exp show --json > FILE`, then this with `--experiments FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, ParamsFile


def main(
    name: Annotated[str, typer.Argument(help="Name of the sweep, an entry of `sweeps`.")],
    experiments: Annotated[Path, typer.Option(help="Output of `dvc exp show --json`.")],
    variant: Annotated[str, typer.Option(help="Variant that was swept.")] = "macrec",
    output: Annotated[Path, typer.Option(help="Folder of NAME-VARIANT.png and .csv.")] = Path(
        "metrics/sweeps"
    ),
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Draw HR@10, NDCG@10 and collisions against the values of a sweep; write them as CSV."""
    from macrec_core.artifacts import atomic_path, write_text
    from macrec_core.figures.sweep import draw_sweep
    from macrec_core.params.loading import load_params
    from macrec_core.sweeps.commands import grid_of
    from macrec_core.sweeps.outcomes import outcomes_csv, read_outcomes

    params = load_params(params_file)
    values = grid_of(params.sweeps, name)
    outcomes = read_outcomes(experiments, name, values, variant, params.datasets)
    stem = f"{name}-{variant}"
    with atomic_path(output / f"{stem}.png") as temporary:
        temporary.write_bytes(draw_sweep(name, variant, outcomes))
    write_text(output / f"{stem}.csv", outcomes_csv(outcomes))
    drawn = sum(not outcome.missing for outcome in outcomes)
    typer.echo(f"{output / stem}.png, .csv: {drawn} of {len(outcomes)} points")
