"""Text, image and collaborative embeddings through every stage, on the toy catalogue."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from macrec_core.artifacts import (
    artifact_info,
    read_any,
    read_artifact,
    read_embeddings,
    read_json,
    write_artifact,
)
from macrec_core.inspection import inspect_artifacts
from macrec_core.schemas import IMAGES, INTERACTIONS, ITEMS, USERS, pseudo_labels

NUM_ITEMS = 30
MODALITIES = ["text", "image", "collab"]
WIDTH = 8


@pytest.fixture(scope="module")
def three(params_file):
    """Params of all three modalities."""
    return params_file(
        modalities=MODALITIES,
        variants=["macrec_collab", "letter"],
        embed={
            "text": {"encoder": "tfidf_svd", "fields": ["title"], "width": 6, "seed": 0},
            "image": {"encoder": "hsv_hog", "image_size": 32},
            "collab": {"encoder": "cooccurrence_svd", "width": WIDTH, "shift": 1.0, "seed": 0},
        },
        pseudo_labels={"num_clusters": 5, "n_init": 1},
        quant={
            "codebook_size": 8, "num_levels": 2, "latent_dim": WIDTH, "common_width": 12,
            "hidden_sizes": [10], "lambda_con": 0.1, "batch_size": 15, "max_epochs": 3,
            "evaluate_every": 1, "diversity_clusters": 3,
        },
        eval={"num_beams": 10},
    )  # fmt: skip


@pytest.fixture(scope="module")
def shop(successors, tmp_path_factory):
    """`toy/`: items with titles and pictures, users and interactions."""
    root = tmp_path_factory.mktemp("three")
    home, rng = root / "toy", np.random.default_rng(3)
    interactions, _ = successors
    texts = {name: [""] * NUM_ITEMS for name in ("description", "brand", "categories")}
    titles = [f"red{i % 5} guitar{i % 3} number{i}" for i in range(NUM_ITEMS)]
    keys = [f"B{i}" for i in range(NUM_ITEMS)]
    columns = {"item_id": range(NUM_ITEMS), "item_key": keys, "title": titles, **texts}
    write_artifact(home / "items.parquet", pa.table(columns), ITEMS)
    pictures = {
        "item_id": list(range(NUM_ITEMS)), "url": keys, "width": [32] * NUM_ITEMS,
        "height": [32] * NUM_ITEMS, "image": [jpeg(rng) for _ in range(NUM_ITEMS)],
    }  # fmt: skip
    write_artifact(home / "images.parquet", pa.table(pictures), IMAGES)
    users = sorted(set(interactions.column("user_id").to_pylist()))
    table = pa.table({"user_id": users, "user_key": [f"A{u}" for u in users]})
    write_artifact(home / "users.parquet", table, USERS)
    write_artifact(home / "interactions.parquet", interactions, INTERACTIONS)
    return root


def jpeg(rng):
    buffer = BytesIO()
    Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def run(run_stage, shop, three):
    """Runs stages on the shop; paths are those of dvc.yaml below its root."""
    home = shop / "toy"

    def start(name, variant=None, params=three):
        options = {"dataset": "sample", "params": params}
        if variant is None:
            return run_stage(name, **options, **of_dataset(name))
        cell = home / variant
        options |= {"variant": variant, "seed": 0, "metrics": shop / variant / f"{name}.json"}
        return run_stage(name, **options, **of_cell(name, cell))

    def of_dataset(name):
        metrics = {"metrics": shop / f"{name}.json"}
        if name == "pseudo_labels":
            labels = home / "pseudo_labels.parquet"
            return {"embeddings": home / "embeddings", "output": labels} | metrics
        output = home / "embeddings" / f"{name.removeprefix('embed_')}.parquet"
        return {"catalogue": home, "raw": shop / "raw", "output": output} | metrics

    def of_cell(name, cell):
        ids = {"semantic_ids": cell / "semantic_ids.parquet"}
        known = {
            "train_rqvae": {
                "embeddings": home / "embeddings", "quantizer": cell / "quantizer",
                "pseudo_labels": home / "pseudo_labels.parquet",
            },
            "assign_sids": {
                "items": home / "items.parquet", "embeddings": home / "embeddings",
                "quantizer": cell / "quantizer", **ids,
            },
            "build_seq2seq": {
                "interactions": home / "interactions.parquet", "output": cell / "seq2seq", **ids,
            },
            "train_gr": {
                "seq2seq": cell / "seq2seq", "recommender": cell / "recommender", **ids
            },
            "evaluate": {
                "interactions": home / "interactions.parquet", "seq2seq": cell / "seq2seq",
                "recommender": cell / "recommender",
                "recommendations": cell / "recommendations.parquet", **ids,
            },
        }  # fmt: skip
        return known[name]

    return start


CELL = ("train_rqvae", "assign_sids", "build_seq2seq", "train_gr", "evaluate")


@pytest.fixture(scope="module")
def whole(run, shop):
    """The shop after all stages of `macrec_collab` and `letter`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MACREC_SCRATCH", str(shop / "scratch"))
        names = [*(f"embed_{m}" for m in MODALITIES), "pseudo_labels"]
        for name in names:
            result = run(name)
            assert result.exit_code == 0, result.output
        for variant in ("macrec_collab", "letter"):
            for name in CELL:
                result = run(name, variant)
                assert result.exit_code == 0, result.output
    return shop


def test_collaborative_embeddings_come_of_training_alone(whole, run, make_interactions, shop):
    path = whole / "toy" / "embeddings" / "collab.parquet"
    before, metrics = path.read_bytes(), read_json(whole / "embed_collab.json")
    assert read_embeddings(path).shape == (NUM_ITEMS, WIDTH)
    assert artifact_info(read_any(path))["encoder"] == "cooccurrence_svd"
    assert metrics["items"] == NUM_ITEMS and metrics["items_without_interactions"] == 0
    interactions = whole / "toy" / "interactions.parquet"
    kept, table = interactions.read_bytes(), read_artifact(interactions, INTERACTIONS)
    held_out = np.asarray(table.column("split")) != "train"
    items = np.where(held_out, 7, np.asarray(table.column("item_id"))).astype(np.int32)
    changed = table.set_column(2, table.schema.field("item_id"), pa.array(items))
    write_artifact(interactions, changed, INTERACTIONS)
    try:
        assert run("embed_collab").exit_code == 0
        assert path.read_bytes() == before
    finally:
        interactions.write_bytes(kept)


def test_every_modality_has_pseudo_labels_and_ids(whole):
    labels = read_artifact(whole / "toy" / "pseudo_labels.parquet", pseudo_labels(MODALITIES))
    assert labels.num_rows == NUM_ITEMS
    metrics = read_json(whole / "macrec_collab" / "assign_sids.json")
    for modality in MODALITIES:
        assert metrics[modality]["collision_rate_after"] == 0.0
    history = read_json(whole / "macrec_collab" / "train_rqvae.json")["history"][-1]
    assert {f"unexplained_{m}" for m in MODALITIES} <= history.keys()
    assert history["positives"] > 0


def test_tasks_and_vocabulary_name_every_ordered_pair(whole):
    metrics = read_json(whole / "macrec_collab" / "build_seq2seq.json")
    pairs = [(a, b) for a in MODALITIES for b in MODALITIES if a != b]
    assert set(metrics["tasks"]) == {f"recommend:{m}>{m}" for m in MODALITIES} | {
        f"{task}:{a}>{b}" for task in ("align_items", "align_sequences") for a, b in pairs
    }
    vocabulary = read_json(whole / "toy" / "macrec_collab" / "seq2seq" / "vocabulary.json")
    tokens = vocabulary["tokens"]
    assert len(set(tokens)) == len(tokens) == 2 + 2 * len(pairs) + 3 * 2 * 8
    assert {"<a_0>", "<A_0>", "<collab:a_0>", "<collab:b_7>"} <= set(tokens)


def test_three_lists_and_their_ensemble_are_measured(whole):
    metrics = json.loads((whole / "macrec_collab" / "evaluate.json").read_text())
    assert {*MODALITIES, "ensemble"} <= metrics["all_items"].keys()
    found = read_any(whole / "toy" / "macrec_collab" / "recommendations.parquet")
    assert {*MODALITIES, "ensemble"} <= set(found.column("list").to_pylist())


def test_every_artifact_keeps_its_contract(whole):
    found = inspect_artifacts(whole, set())
    assert found.problems == []
    assert found.num_files > 10


def test_letter_is_guided_without_ids_of_its_guide(whole):
    history = read_json(whole / "letter" / "train_rqvae.json")["history"][-1]
    assert history["collaborative"] > 0 and history["diversity_text"] > 0
    assert "unexplained_collab" not in history
    assert set(read_json(whole / "letter" / "assign_sids.json")) >= {"text"}
    config = read_json(whole / "toy" / "letter" / "quantizer" / "config.json")
    assert config["widths"].keys() == {"text"}
    metrics = read_json(whole / "letter" / "evaluate.json")
    assert "collab" not in metrics["all_items"]


def test_another_guide_trains_another_quantizer(whole, run, monkeypatch):
    monkeypatch.setenv("MACREC_SCRATCH", str(whole / "scratch"))
    weights = whole / "toy" / "letter" / "quantizer" / "model.safetensors"
    guide = whole / "toy" / "embeddings" / "collab.parquet"
    before, kept = weights.read_bytes(), guide.read_bytes()
    assert run("train_rqvae", "letter").exit_code == 0
    assert weights.read_bytes() == before
    from macrec_core.encoders.encoded import Encoded, write_embeddings

    try:
        other = np.random.default_rng(0).normal(size=(NUM_ITEMS, WIDTH)).astype(np.float32)
        write_embeddings(guide, Encoded([other], {}, {}))
        assert run("train_rqvae", "letter").exit_code == 0
        assert weights.read_bytes() != before
    finally:
        guide.write_bytes(kept)
        assert run("train_rqvae", "letter").exit_code == 0
    assert weights.read_bytes() == before


def test_a_guide_that_is_no_modality_is_an_error(run, params_file):
    params = params_file(modalities=["text", "image"], variants=["letter"])
    result = run("train_rqvae", "letter", params)
    assert result.exit_code == 1
    assert "lambda_collab=0.01 needs collaborative embeddings" in result.output
    assert "lacks 'collab'; add it" in result.output
