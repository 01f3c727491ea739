from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from stages.console import OneLineErrors


@pytest.fixture(scope="session")
def run_stage():
    """Runs one stage's command: `run_stage("train_gr", seed=0, ...)`, `_` standing for `-`."""
    from importlib import import_module

    app = typer.Typer(cls=OneLineErrors)
    names = (
        "download", "filter", "import_sids", "build_seq2seq", "train_gr", "evaluate", "report",
        "train_baseline", "evaluate_baseline", "yardsticks", "ensembles", "embed_text",
        "embed_image", "embed_collab", "pseudo_labels", "train_rqvae", "assign_sids",
        "cluster_sids", "significance", "plot_embeddings",
    )  # fmt: skip
    for name in names:
        app.command(name)(import_module(f"stages.{name}").main)

    def run(name, **options):
        arguments = [name]
        for option, value in options.items():
            arguments += [f"--{option.replace('_', '-')}", str(value)]
        return CliRunner().invoke(app, arguments)

    return run


@pytest.fixture(scope="session")
def run_cell(run_stage, toy_stage_inputs):
    """Runs build_seq2seq, train_gr or evaluate on the toy, with all paths below one folder."""

    def run(name, folder, params, variant="macrec", seed=0):
        options = {
            "dataset": "sample",
            "variant": variant,
            "seed": seed,
            "semantic_ids": toy_stage_inputs / "semantic_ids.parquet",
            "metrics": folder / f"{name}.json",
            "params": params,
        }
        own = {
            "build_seq2seq": {
                "interactions": toy_stage_inputs / "interactions.parquet",
                "output": folder / "seq2seq",
            },
            "train_gr": {"seq2seq": folder / "seq2seq", "recommender": folder / "recommender"},
            "evaluate": {
                "interactions": toy_stage_inputs / "interactions.parquet",
                "seq2seq": folder / "seq2seq",
                "recommender": folder / "recommender",
                "recommendations": folder / "recommendations.parquet",
            },
        }
        return run_stage(name, **options, **own[name])

    return run


@pytest.fixture(scope="session")
def toy_cell(run_cell, params_file, tmp_path_factory):
    """The toy, built and trained: the folder of its artifacts."""
    folder = tmp_path_factory.mktemp("cell")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MACREC_SCRATCH", str(folder / "scratch"))
        for name in ("build_seq2seq", "train_gr"):
            result = run_cell(name, folder, params_file())
            assert result.exit_code == 0, result.output
    return folder
