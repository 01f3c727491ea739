from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from misbehaving_server import LOOPBACK

from macrec_core.artifacts import check_replaceable
from macrec_core.catalog.catalogue import build_catalogue
from macrec_core.catalog.image_shards import ItemImages
from macrec_core.catalog.manifest import raw_files
from macrec_core.catalog.published import (
    count_items,
    published_embeddings_path,
    published_ids_path,
    read_item_keys,
    read_item_records,
    read_published_embeddings,
    read_published_ids,
    read_sequences,
)
from macrec_core.catalog.raw import Places, write_raw
from macrec_core.catalog.scratch import Scratch
from macrec_core.errors import MacrecError
from macrec_core.params.data import FilterParams, PublishedSource

FILTER = FilterParams(k_core=5, max_bad_lines=0)


def source(**changes):
    values = {
        "source": "published",
        "folder": "toys",
        "name": "Toys",
        "index_files": {},
        "embedding_files": {},
    }
    return PublishedSource(**(values | changes))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data" / "toys"
    folder.mkdir(parents=True)
    (folder / "Toys.inter.json").write_text(json.dumps({"u9": [2, 0, 1, 3], "u1": [3, 1, 0]}))
    return folder


def gather(tmp_path, folder, images, **changes):
    raw = tmp_path / "raw"
    raw.mkdir()
    places = Places(data_root=folder.parent, scratch=Scratch(tmp_path / "scratch"), folder=None)
    contents = write_raw(raw, source(**changes), images, places, network=LOOPBACK, with_images=True)
    check_replaceable(raw, *raw_files(raw))  # by a later download
    return raw, contents


def write_ids(path, letters="abc", count=4):
    table = {str(i): [f"<{letter}_{i}>" for letter in letters] for i in range(count)}
    path.write_bytes(gzip.compress(json.dumps(table).encode()))


def test_sequences_come_out_as_published(tmp_path, folder, image_params):
    raw, contents = gather(tmp_path, folder, image_params)
    catalogue = build_catalogue(raw, ["text", "image"], FILTER)
    assert catalogue.users.to_pylist() == [
        {"user_id": 0, "user_key": "u9"},
        {"user_id": 1, "user_key": "u1"},
    ]
    table = catalogue.interactions
    assert table.column("item_id").to_pylist() == [2, 0, 1, 3, 3, 1, 0]
    assert table.column("position").to_pylist() == [0, 1, 2, 3, 0, 1, 2]
    assert table.column("split").to_pylist() == [
        "train", "train", "valid", "test", "train", "valid", "test",
    ]  # fmt: skip
    assert table.column("timestamp").null_count == 7
    assert catalogue.items.column("item_key").to_pylist() == ["0", "1", "2", "3"]
    assert catalogue.items.column("title").null_count == 4
    assert catalogue.images == ItemImages()
    assert catalogue.metrics["filter"] is None
    assert contents.counts == {"users": 2, "items": 4}


def test_text_and_keys_are_used_where_published(tmp_path, folder, image_params):
    records = {str(i): {"title": "A &amp; B", "description": "['x', 'y']"} for i in range(4)}
    records["2"]["title"] = ""
    (folder / "Toys.item.json").write_text(json.dumps(records))
    (folder / "Toys.item2id.gz").write_bytes(
        gzip.compress("".join(f"KEY{i}\t{i}\n" for i in (2, 0, 1, 3)).encode())
    )
    raw, _ = gather(tmp_path, folder, image_params)
    catalogue = build_catalogue(raw, ["text"], FILTER)
    assert catalogue.items.to_pylist()[0] == {
        "item_id": 0,
        "item_key": "KEY0",
        "title": "A & B",
        "description": "x y",
        "brand": None,
        "categories": None,
    }
    assert catalogue.metrics["items_with_empty_text"] == {
        "title": 1,
        "description": 0,
        "brand": None,
        "categories": None,
    }


def test_ids_and_embeddings_are_kept_uncompressed(tmp_path, folder, image_params):
    write_ids(folder / "text.json.gz")
    write_ids(folder / "image.json.gz", "ABC")
    values = np.arange(8, dtype=np.float64).reshape(4, 2)
    np.save(folder / "emb.npy", values)
    raw, contents = gather(
        tmp_path,
        folder,
        image_params,
        index_files={"text": "text.json", "image": "image.json.gz"},
        embedding_files={"text": "emb.npy"},
    )
    for modality in ("text", "image"):
        ids = read_published_ids(published_ids_path(raw, modality), modality)
        assert ids.dtype == np.int32
        assert ids.tolist() == [[i] * 3 for i in range(4)]
    found = read_published_embeddings(published_embeddings_path(raw, "text"))
    assert found.dtype == np.float32
    assert np.array_equal(found, values)
    assert sorted(contents.files) == [
        "embeddings.text.npy", "ids.image.json", "ids.text.json", "inter.json",
    ]  # fmt: skip
    with pytest.raises(MacrecError, match=r"embeddings\.image\.npy.*embed_image.*embedding_files"):
        published_embeddings_path(raw, "image")


def test_missing_ids_name_file_stage_and_remedy(tmp_path):
    with pytest.raises(MacrecError, match=r"ids\.text\.json.*import_sids.*index_files\.text"):
        published_ids_path(tmp_path, "text")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["<a_1>", "<c_1>"], r"item 1, level 2 is '<c_1>'; expected <b_CODE>"),
        (["<A_1>", "<B_1>"], r"level 1 is '<A_1>'; expected <a_CODE>"),
        (["<a_x>", "<b_1>"], r"level 1 is '<a_x>'"),
        (["<a_-1>", "<b_1>"], r"level 1"),
        (["<a_1>"], r"item 1 has 1 levels, item 0 has 2"),
        ("<a_1>", r"item 1 has '<a_1>'; expected a list"),
        ([3, 4], r"level 1 is 3"),
    ],
)
def test_broken_tokens_name_item_and_level(tmp_path, tokens, message):
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"0": ["<a_0>", "<b_0>"], "1": tokens}))
    with pytest.raises(MacrecError, match=message):
        read_published_ids(path, "text")


def test_an_item_without_id_is_named(tmp_path):
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"0": ["<a_0>"], "2": ["<a_2>"]}))
    with pytest.raises(MacrecError, match=r"item 1 has no ID"):
        read_published_ids(path, "text")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no readable JSON"),
        ("[]", "holds list"),
        ("{}", "holds no user"),
        ('{"u": [0, 1, 2], "u": [0, 1, 2]}', "a key occurs twice"),
        ('{"u": [0, 1]}', "has 2 interactions; leave-one-out needs 3"),
        ('{"u": [0, 1, "2"]}', "no list of item ids"),
        ('{"u": [0, 1, true]}', "no list of item ids"),
        ('{"u": [0, 1, -2]}', "no list of item ids"),
    ],
)
def test_broken_sequences_are_refused(tmp_path, text, message):
    path = tmp_path / "X.inter.json"
    path.write_text(text)
    with pytest.raises(MacrecError, match=message):
        read_sequences(path)


def test_gaps_and_contradictions_between_files_are_refused(tmp_path):
    inter, keys = tmp_path / "inter.json", tmp_path / "item2id"
    inter.write_text('{"u": [0, 1, 3]}')
    with pytest.raises(MacrecError, match="item id 2 is missing"):
        count_items(inter, None, None)
    keys.write_text("a\t0\nb\t1\nc\t2\n")
    with pytest.raises(MacrecError, match="has item id 3, but item2id end at 2"):
        count_items(inter, keys, None)
    keys.write_text("a\t0\nb\t1\nc\t2\nd\t3\ne\t4\n")
    assert count_items(inter, keys, None) == 5
    records = tmp_path / "item.json"
    records.write_text('{"0": {}}')
    with pytest.raises(MacrecError, match="numbers of items differ"):
        count_items(inter, keys, records)


@pytest.mark.parametrize("text", ["a\t0\nb\t0\n", "a 0\n", "a\t-1\n", "\t0\n", "a\t²\n"])
def test_broken_item_keys_name_the_line(tmp_path, text):
    path = tmp_path / "X.item2id"
    path.write_text(text)
    with pytest.raises(MacrecError, match=r"line [12] is no item key"):
        read_item_keys(path)


def test_item_records_must_be_complete(tmp_path):
    path = tmp_path / "X.item.json"
    path.write_text('{"0": {}, "5": {}}')
    with pytest.raises(MacrecError, match="item 1 has no record"):
        read_item_records(path)


def test_named_but_missing_files_say_which_stage_needs_them(tmp_path, folder, image_params):
    with pytest.raises(MacrecError, match=r"no\.json.*import_sids needs it.*index_files\.text"):
        gather(tmp_path, folder, image_params, index_files={"text": "no.json"})


def test_ids_of_another_family_are_refused(tmp_path, folder, image_params):
    write_ids(folder / "text.json.gz", count=3)
    with pytest.raises(
        MacrecError, match=r"text\.json\.gz: holds 3 items, Toys\.inter\.json has 4"
    ):
        gather(tmp_path, folder, image_params, index_files={"text": "text.json"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(4, np.float32), "two-dimensional"),
        (np.zeros((4, 2), np.int64), "floating-point"),
        (np.full((4, 2), np.nan), "NaN"),
        (np.array([[{}]]), "no readable .npy"),
    ],
)
def test_broken_embeddings_are_refused(tmp_path, values, message):
    path = tmp_path / "x.npy"
    np.save(path, values, allow_pickle=True)
    with pytest.raises(MacrecError, match=message):
        read_published_embeddings(path)


def test_real_instruments_come_out_exactly(tmp_path, shared_data, image_params):
    spec = source(
        folder="instruments",
        name="Instruments",
        index_files={
            "text": "Instruments.index_lemb.mql4grec.json",
            "image": "Instruments.index_vitemb.mql4grec.json.gz",
        },
    )
    places = Places(data_root=shared_data, scratch=Scratch(tmp_path), folder=None)
    write_raw(tmp_path, spec, image_params, places, network=LOOPBACK, with_images=True)
    catalogue = build_catalogue(tmp_path, ["text", "image"], FILTER)
    path = shared_data / "instruments" / "Instruments.inter.json.gz"
    published = json.loads(gzip.decompress(path.read_bytes()))
    table = catalogue.interactions
    items, users = (table.column(c).to_numpy() for c in ("item_id", "user_id"))
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    found = [part.tolist() for part in np.split(items, starts[1:])]
    assert found == list(published.values())
    assert catalogue.users.column("user_key").to_pylist() == list(published)
    metrics = catalogue.metrics
    assert (metrics["num_users"], metrics["num_items"]) == (17_112, 6_250)
    assert metrics["num_interactions"] == 136_226
    assert round(metrics["average_length"], 2) == 7.96
    assert round(100 * metrics["sparsity"], 2) == 99.87
    text = read_published_ids(published_ids_path(tmp_path, "text"), "text")
    image = read_published_ids(published_ids_path(tmp_path, "image"), "image")
    assert text.shape == image.shape == (6_250, 4)
    assert len(np.unique(text, axis=0)) == 5_988
    assert text[0].tolist() == [170, 224, 251, 151]
