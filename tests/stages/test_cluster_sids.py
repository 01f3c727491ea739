"""P5-CID, VIP5 and TIGER's own IDs through the stages, on toys."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from toy_quantizer import (
    NUM_ITEMS,
    assign_arguments,
    succeed,
    train_arguments,
    write_embeddings,
    write_items,
    write_params,
    write_shop,
)

from macrec_core import schemas
from macrec_core.artifacts import matrix, read_artifact, read_json, write_artifact
from macrec_core.id_table import read_ids
from macrec_core.inspection import inspect_artifacts

ITEMS = 30  # of `successors`


@pytest.fixture(scope="module")
def shop(tmp_path_factory, successors, params_file):
    """Folder of a data set `toy` with items, users, interactions and images; and its params."""
    folder = tmp_path_factory.mktemp("shop")
    home, interactions = folder / "toy", successors[0]
    write_items(home / "items.parquet", ITEMS)
    count = interactions.column("user_id").to_numpy().max() + 1
    users = {"user_id": np.arange(count), "user_key": [f"U{i}" for i in range(count)]}
    write_artifact(home / "users.parquet", pa.table(users), schemas.USERS)
    write_artifact(home / "interactions.parquet", interactions, schemas.INTERACTIONS)
    vectors = np.random.default_rng(0).normal(3.0, 2.0, (ITEMS, 6))
    write_embeddings(home / "embeddings" / "image.parquet", vectors)
    params = params_file(
        variants=["p5_cid", "vip5"], clustered_variants=["p5_cid"], visual_variants=["vip5"],
        collaborative_ids={"num_clusters": 3, "max_leaf": 6}, visual={"adapter_width": 5},
    )  # fmt: skip
    return folder, params


@pytest.fixture
def run(shop, run_stage, tmp_path, monkeypatch):
    """Runs a stage of a variant; artifacts beside the shop's, metrics in the test's folder."""
    folder, params = shop
    monkeypatch.setenv("MACREC_SCRATCH", str(tmp_path / "scratch"))

    def run(name, variant, cell=None, **changes):
        home = folder / "toy"
        cell = cell or home / variant / "s0"
        ids = {"semantic_ids": cell / "semantic_ids.parquet"}
        seq2seq, model = {"seq2seq": cell / "seq2seq"}, {"recommender": cell / "recommender"}
        bought = {"interactions": home / "interactions.parquet"}
        items = {"items": home / "items.parquet"}
        options = {
            "cluster_sids": items | bought | ids | (
                {"images": home / "embeddings" / "image.parquet"} if variant == "vip5" else {}
            ),
            "build_seq2seq": bought | ids | {"output": cell / "seq2seq"},
            "train_gr": seq2seq | ids | model,
            "evaluate": bought | seq2seq | ids | model
            | {"recommendations": cell / "recommendations.parquet"},
        }[name]  # fmt: skip
        return run_stage(
            name, dataset="toy", variant=variant, seed=0, params=params,
            metrics=tmp_path / f"{name}.json", **options | changes,
        )  # fmt: skip

    return run


VARIANTS = ("p5_cid", "vip5")  # the second with image vectors


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_goes_all_the_way(shop, run, tmp_path, variant):
    for name in ("cluster_sids", "build_seq2seq", "train_gr", "evaluate"):
        result = run(name, variant)
        assert result.exit_code == 0, result.output
    found = {p.stem: json.loads(p.read_text()) for p in tmp_path.glob("*.json")}
    ids = found["cluster_sids"]["collab"]
    assert (ids["collision_rate_after"], ids["distinct"]) == (0.0, ITEMS)
    assert ids["leaf_size_max"] <= 6
    assert found["evaluate"]["users"] == 40
    assert {"collab", "ensemble"} <= found["evaluate"]["all_items"].keys()
    home = shop[0] / "toy" / variant / "s0"
    vocabulary = read_json(home / "seq2seq" / "vocabulary.json")
    assert vocabulary["num_levels"] == ids["levels"]
    assert vocabulary.get("visual_tokens", 0) == (2 if variant == "vip5" else 0)
    assert (home / "recommender" / "visual.safetensors").exists() is (variant == "vip5")
    train = read_artifact(home / "seq2seq" / "train.parquet", schemas.TRAINING_EXAMPLES)
    lengths = {len(source) for source in train.column("source").to_pylist()}
    width = ids["levels"] + vocabulary.get("visual_tokens", 0)
    assert all((length - 1) % width == 0 for length in lengths)
    assert found["train_gr"]["parameters"] > 0
    assert inspect_artifacts(shop[0], set()).problems == []


def test_both_variants_have_the_same_ids_and_a_second_run_the_same_bytes(shop, run, tmp_path):
    for variant in VARIANTS:
        for again in ("first", "second"):
            cell = tmp_path / variant / again
            assert run("cluster_sids", variant, cell).exit_code == 0
        files = [tmp_path / variant / n / "semantic_ids.parquet" for n in ("first", "second")]
        assert files[0].read_bytes() == files[1].read_bytes()
    plain, visual = (
        read_ids(tmp_path / variant / "first" / "semantic_ids.parquet", ["collab"])
        for variant in VARIANTS
    )
    assert np.array_equal(plain.codes["collab"], visual.codes["collab"])
    assert plain.visual is None
    assert visual.visual.vectors.shape == (ITEMS, 6)
    assert (visual.visual.tokens, visual.visual.adapter_width) == (2, 5)
    assert abs(visual.visual.vectors.mean()) < 1e-6


def test_images_of_another_number_of_items_are_one_line(run, tmp_path):
    path = tmp_path / "image.parquet"
    write_embeddings(path, np.random.default_rng(0).normal(size=(ITEMS + 1, 6)))
    result = run("cluster_sids", "vip5", tmp_path / "cell", images=path)
    assert result.exit_code == 1
    assert f"image.parquet: holds {ITEMS + 1} items" in " ".join(result.output.split())
    assert not (tmp_path / "cell").exists()


def test_interactions_beyond_the_items_are_one_line(run, tmp_path):
    write_items(tmp_path / "items.parquet", ITEMS - 1)
    result = run("cluster_sids", "p5_cid", tmp_path / "cell", items=tmp_path / "items.parquet")
    assert result.exit_code == 1
    assert "make both from one catalogue" in " ".join(result.output.split())


# ------------------------------------------------------------------------- TIGER's extra level


def test_an_extra_level_needs_no_other_quantizer(tmp_path, monkeypatch):
    monkeypatch.setenv("MACREC_SCRATCH", str(tmp_path / "scratch"))
    write_shop(tmp_path)
    write_params(tmp_path / "params.yaml", quant={"codebook_size": 24})
    succeed(train_arguments(tmp_path, variant="macrec"))
    succeed(train_arguments(tmp_path, variant="numbered", out="again"))
    assert len(list((tmp_path / "scratch" / "train_rqvae").iterdir())) == 1
    succeed(assign_arguments(tmp_path))
    succeed(assign_arguments(tmp_path, variant="numbered", out="again"))
    table = read_artifact(
        tmp_path / "toy" / "again" / "semantic_ids.parquet",
        schemas.semantic_ids(["text", "image"], 4),
    )
    plain = read_artifact(
        tmp_path / "toy" / "out" / "semantic_ids.parquet",
        schemas.semantic_ids(["text", "image"], 3),
    )
    metrics, others = (read_json(tmp_path / n / "assign.json") for n in ("again", "out"))
    for modality in ("text", "image"):
        codes, nearest = matrix(table, modality), matrix(table, f"{modality}_nearest")
        assert np.array_equal(codes[:, :3], matrix(plain, f"{modality}_nearest"))
        assert np.array_equal(codes[:, :3], nearest[:, :3]) and not nearest[:, 3].any()
        assert len(np.unique(codes, axis=0)) == NUM_ITEMS
        # What Table 4 compares is the same: it is measured before IDs become unique.
        for name in ("collision_rate", "codebook_use", "items_a_code", "moved"):
            assert metrics[modality][name] == others[modality][name]
    assert inspect_artifacts(tmp_path, set()).problems == []
