"""Collect all cells into the summary, the results table and the plots' data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, ParamsFile


def main(
    cells: Annotated[Path, typer.Option(help="Folder of the metric files.")],
    summary: Annotated[Path, typer.Option(help="JSON file for `dvc metrics diff`.")],
    table: Annotated[Path, typer.Option(help="Markdown file of the results table.")],
    plots: Annotated[Path, typer.Option(help="Folder of the plots' CSV files.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Report all datasets, variants and seeds that params.yaml names."""
    from macrec_core.artifacts import atomic_folder, write_json, write_text
    from macrec_core.params import load_params
    from macrec_core.report.cells import read_baselines, read_cells, read_datasets
    from macrec_core.report.plots import plot_tables
    from macrec_core.report.summary import results_table, summarise

    params = load_params(params_file)
    measured = read_cells(
        cells, params.datasets, params.variants, params.seeds, params.imported_datasets
    )
    multimodal = params.multimodal_baselines
    measured += read_baselines(cells, params.datasets, params.baselines, params.seeds)
    measured += read_baselines(cells, params.learned_datasets, multimodal, params.seeds)
    unseen = params.eval.exclude_seen
    numbers = summarise(measured, read_datasets(cells, params.datasets), unseen)
    rows = [*params.baselines, *multimodal, *params.variants]
    text = results_table(numbers, params.datasets, rows, params.modalities)
    with atomic_folder(plots) as folder:
        for name, csv in plot_tables(measured, unseen).items():
            write_text(folder / name, csv)
    write_json(summary, numbers)
    write_text(table, text)
