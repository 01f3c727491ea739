"""Collect all cells into the summary, the page of tables and figures, and the plots' data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.console import DEFAULT_PARAMS, ParamsFile


def main(
    cells: Annotated[Path, typer.Option(help="Folder of the metric files.")],
    summary: Annotated[Path, typer.Option(help="JSON file for `dvc metrics diff`.")],
    table: Annotated[Path, typer.Option(help="Markdown file of all tables and figures.")],
    plots: Annotated[Path, typer.Option(help="Folder of the plots' CSV files and of Figure 4.")],
    params_file: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Report all datasets, variants and seeds that params.yaml names; say which are missing."""
    from macrec_core.artifacts import atomic_folder, write_json, write_text
    from macrec_core.params.loading import load_params
    from macrec_core.report.cells import read_baselines, read_cells, read_ensembles
    from macrec_core.report.code_use import draw_all
    from macrec_core.report.datasets import read_datasets
    from macrec_core.report.page import Layout, results_page
    from macrec_core.report.plots import plot_tables
    from macrec_core.report.summary import summarise

    params = load_params(params_file)
    clustered = params.clustered_variants + params.visual_variants
    unseen, imported = params.eval.exclude_seen, params.imported_datasets
    multimodal = params.multimodal_baselines
    measured = read_baselines(cells, params.datasets, params.baselines, params.seeds)
    measured += read_baselines(
        cells, params.learned_datasets, multimodal, params.seeds, params.modalities
    )
    measured += read_cells(
        cells, params.datasets, params.variants, params.seeds, imported, params.modalities,
        clustered, params.visual_variants,
    )  # fmt: skip
    ensembles = {name: params.ensemble_specs[name] for name in params.ensembles}
    measured += read_ensembles(cells, params.datasets, ensembles, params.seeds, measured)
    measured.log_missing()
    datasets = read_datasets(cells, params.datasets, imported, params.modalities)
    numbers = summarise(measured, datasets, unseen)
    pictures = draw_all(measured, params.datasets, params.modalities)
    layout = Layout(
        [*params.baselines, *multimodal],
        params.variants,
        params.ensembles,
        params.modalities,
        params.report.ours,
        unseen,
        params.eval.split,
        {name: f"{plots.name}/items_a_code_{name}.png" for name in pictures},
        {d.name: f"figures/{d.name}_embeddings.png" for d in datasets if d.embeddings},
    )
    tables = plot_tables(measured.measured, unseen)
    with atomic_folder(plots, *tables, "items_a_code_*.png") as folder:
        for name, csv in tables.items():
            write_text(folder / name, csv)
        for name, picture in pictures.items():
            (folder / f"items_a_code_{name}.png").write_bytes(picture)
    write_json(summary, numbers)
    write_text(table, results_page(numbers, measured, datasets, layout))
