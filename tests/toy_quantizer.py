"""What the quantizer's stages need: items, embeddings, pseudo-labels and params of a toy shop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import typer
from ruamel.yaml import YAML
from typer.testing import CliRunner

from macrec_core.artifacts import fixed_lists, write_artifact
from macrec_core.schemas import ITEMS, embeddings, pseudo_labels
from stages import assign_sids, check, train_rqvae
from stages.console import OneLineErrors

REPOSITORY = Path(__file__).parents[1]
NUM_ITEMS = 90
WIDTHS = {"text": 12, "image": 8}

app = typer.Typer(cls=OneLineErrors)
app.command("train_rqvae")(train_rqvae.main)
app.command("assign_sids")(assign_sids.main)
app.command("check")(check.main)


def write_shop(folder):
    """`toy/items.parquet`, `toy/embeddings/*`, `toy/pseudo_labels.parquet` and params.yaml."""
    home, rng = folder / "toy", np.random.default_rng(4)
    write_items(home / "items.parquet", NUM_ITEMS)
    labels = {"item_id": np.arange(NUM_ITEMS)}
    for name, width in WIDTHS.items():
        labels[name] = rng.integers(0, 7, NUM_ITEMS)
        values = rng.normal(size=(7, width))[labels[name]] + 0.2 * rng.normal(
            size=(NUM_ITEMS, width)
        )
        write_embeddings(home / "embeddings" / f"{name}.parquet", values)
    write_artifact(home / "pseudo_labels.parquet", pa.table(labels), pseudo_labels(list(WIDTHS)))
    write_params(folder / "params.yaml")


def write_items(path, count):
    texts = {name: [""] * count for name in ("title", "description", "brand", "categories")}
    columns = {"item_id": range(count), "item_key": [f"B{i}" for i in range(count)], **texts}
    write_artifact(path, pa.table(columns), ITEMS)


def embeddings_table(values):
    lists = fixed_lists(np.asarray(values, dtype=np.float32))
    return pa.table({"item_id": np.arange(len(values), dtype=np.int32), "embedding": lists})


def write_embeddings(path, values):
    write_artifact(path, embeddings_table(values), embeddings(np.shape(values)[1]))


def write_params(path, quant=(), runtime=()):
    """The project's params with a small quantizer; `twin` and `numbered` quantize as `macrec`."""
    yaml = YAML()
    params = yaml.load(REPOSITORY / "params.yaml")
    params["quant"].update(
        {
            "codebook_size": 6, "num_levels": 3, "latent_dim": 4, "common_width": 12,
            "hidden_sizes": [16], "lambda_con": [0.0, 0.1, 0.1], "batch_size": 32,
            "max_epochs": 4, "learning_rate": 0.003, "kmeans_iterations": 5, "evaluate_every": 2,
        }
        | dict(quant)
    )  # fmt: skip
    params["runtime"] = {
        "device": "cpu", "precision": "float32", "num_threads": 1, "num_processes": 1,
        "checkpoint_every_s": 60.0,
    } | dict(runtime)  # fmt: skip
    both = {"modalities": ["text", "image"], "quant": {}, "ids": {}, "seq2seq": {}, "gr": {}}
    plain = {"lambda_con": [0.0] * 3, "lambda_align": 0.0}
    params["variants"] = ["macrec", "twin", "text_only", "numbered"]
    params["quantized_variants"] = list(params["variants"])
    params["variant_specs"] = {
        "macrec": both,
        "twin": both | {"gr": {"lambda_implicit": 0.0}},
        "numbered": both | {"ids": {"conflicts": "extra_level"}},
        "text_only": both
        | {"modalities": ["text"], "quant": plain, "seq2seq": {"tasks": ["recommend"]}}
        | {"gr": {"lambda_implicit": 0.0}},
    }
    with path.open("w") as file:
        yaml.dump(params, file)


def train_arguments(folder, variant="macrec", seed=0, out="out"):
    return [
        "train_rqvae", "--dataset", "toy", "--variant", variant, "--seed", str(seed),
        "--embeddings", f"{folder}/toy/embeddings",
        "--pseudo-labels", f"{folder}/toy/pseudo_labels.parquet",
        "--quantizer", f"{folder}/{out}/quantizer", "--metrics", f"{folder}/{out}/rqvae.json",
        "--params", f"{folder}/params.yaml",
    ]  # fmt: skip


def assign_arguments(folder, variant="macrec", out="out"):
    return [
        "assign_sids", "--dataset", "toy", "--variant", variant, "--seed", "0",
        "--items", f"{folder}/toy/items.parquet", "--embeddings", f"{folder}/toy/embeddings",
        "--quantizer", f"{folder}/{out}/quantizer",
        "--semantic-ids", f"{folder}/toy/{out}/semantic_ids.parquet",
        "--metrics", f"{folder}/{out}/assign.json", "--params", f"{folder}/params.yaml",
    ]  # fmt: skip


def run(arguments):
    return CliRunner().invoke(app, arguments)


def succeed(arguments):
    result = run(arguments)
    assert result.exit_code == 0, result.output
    return result


def fail(arguments):
    """The one line of an expected error."""
    result = run(arguments)
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert result.output.rstrip().endswith(line)
    return line
