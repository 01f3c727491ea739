from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image
from ruamel.yaml import YAML
from typer.testing import CliRunner

from macrec_core.artifacts import read_artifact
from macrec_core.catalog.sample import write_sample
from macrec_core.params.data import SampleSource
from macrec_core.schemas import IMAGES, INTERACTIONS, ITEMS, USERS
from stages import download, filter
from stages.console import OneLineErrors

ROOT = Path(__file__).parents[2]
OUTPUTS = {"items": ITEMS, "images": IMAGES, "users": USERS, "interactions": INTERACTIONS}

app = typer.Typer(cls=OneLineErrors)
app.command("download")(download.main)
app.command("filter")(filter.main)


@pytest.fixture
def params(tmp_path, monkeypatch):
    """A params file with a tiny sample, a published set, and one that is missing."""
    monkeypatch.setenv("MACREC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MACREC_SCRATCH", str(tmp_path / "scratch"))
    values = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    values["dataset_specs"]["sample"] |= {"num_items": 40, "num_users": 60, "image_size": 32}
    published = {"source": "published", "name": "Toys", "index_files": {}, "embedding_files": {}}
    values["dataset_specs"] |= {
        "toys": published | {"folder": "toys"},
        "lost": published | {"folder": "lost"},
        "mine": {
            "source": "files", "folder": "mine", "interactions": "sales.csv", "items": "shop.csv",
        },
    }  # fmt: skip
    write_tables(tmp_path / "data" / "mine")
    folder = tmp_path / "data" / "toys"
    folder.mkdir(parents=True)
    (folder / "Toys.inter.json").write_text('{"u": [0, 1, 2], "v": [2, 1, 0]}')
    path = tmp_path / "params.yaml"
    YAML(pure=True).dump(values, path)
    return path


def write_tables(folder):
    """Six users who bought all of six items, each with a picture."""
    folder.mkdir(parents=True)
    sales = [f"u{user},i{item},{user + item}" for user in range(6) for item in range(6)]
    (folder / "sales.csv").write_text("\n".join(["user,item,timestamp", *sales]))
    shop = [f"i{item},Item {item},i{item}.png" for item in range(6)]
    (folder / "shop.csv").write_text("\n".join(["item,title,image", *shop]))
    for item in range(6):
        Image.new("RGB", (8, 8), (40 * item, 0, 0)).save(folder / f"i{item}.png")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_download(params, folder, dataset="sample", *more):
    return run("download", "--dataset", dataset, "--raw", folder / "raw", "--params", params, *more)


def run_filter(params, folder, dataset="sample"):
    outputs = [f"--{name}={folder / name}.parquet" for name in OUTPUTS]
    return run(
        "filter", "--dataset", dataset, "--raw", folder / "raw", "--params", params, *outputs,
        "--metrics", folder / "filter.json",
    )  # fmt: skip


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_sample_travels_from_source_to_interactions(params, tmp_path):
    folder = tmp_path / "out"
    for result in (run_download(params, folder), run_filter(params, folder)):
        assert result.exit_code == 0, result.output
    tables = {
        name: read_artifact(folder / f"{name}.parquet", contract)
        for name, contract in OUTPUTS.items()
    }
    figures = json.loads((folder / "filter.json").read_text())
    assert figures["num_users"] == tables["users"].num_rows > 10
    assert figures["num_items"] == tables["items"].num_rows == tables["images"].num_rows
    assert figures["num_interactions"] == tables["interactions"].num_rows
    splits = tables["interactions"].column("split").to_pylist()
    assert splits.count("test") == splits.count("valid") == figures["num_users"]
    assert (folder / "raw" / "truth.npz").is_file()
    assert list((tmp_path / "scratch" / "downloads").iterdir()) == []


def test_two_runs_give_the_same_bytes(params, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        assert run_download(params, folder).exit_code == 0
        assert run_filter(params, folder).exit_code == 0
    assert run_download(params, folders[0]).exit_code == 0  # over what is there
    assert contents(folders[0]) == contents(folders[1])


def test_published_sequences_travel_too(params, tmp_path):
    folder = tmp_path / "out"
    assert run_download(params, folder, "toys").exit_code == 0
    assert run_filter(params, folder, "toys").exit_code == 0
    table = read_artifact(folder / "interactions.parquet", INTERACTIONS)
    assert table.column("item_id").to_pylist() == [0, 1, 2, 2, 1, 0]


def test_tables_of_ones_own_travel_too(params, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        for result in (run_download(params, folder, "mine"), run_filter(params, folder, "mine")):
            assert result.exit_code == 0, result.output
    table = read_artifact(folders[0] / "items.parquet", ITEMS)
    assert table.column("item_key").to_pylist() == [f"i{item}" for item in range(6)]
    assert table.column("title").to_pylist() == [f"Item {item}" for item in range(6)]
    assert read_artifact(folders[0] / "images.parquet", IMAGES).num_rows == 6
    assert contents(folders[0]) == contents(folders[1])
    (folders[0] / "raw" / "items.csv").unlink()
    result = run_filter(params, folders[0], "mine")
    assert result.exit_code == 1
    assert "holds no table 'items'; run download again" in result.output


def test_the_folder_option_overrides_the_params(params, tmp_path):
    result = run_download(params, tmp_path, "lost", "--folder", tmp_path / "data" / "toys")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "raw" / "inter.json").is_file()


@pytest.mark.parametrize(
    ("dataset", "more", "message"),
    [
        ("unknown", [], "--dataset=unknown: has no entry in dataset_specs"),
        ("lost", [], "lost: is no folder"),
        ("toys", ["--folder", "nowhere"], "nowhere: is no folder"),
        ("sample", ["--folder", "x"], "source 'sample' makes its own files"),
    ],
)
def test_bad_input_of_download_is_one_line_and_leaves_nothing(
    params, tmp_path, dataset, more, message
):
    folder = tmp_path / "out"
    result = run_download(params, folder, dataset, *more)
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not folder.exists() or contents(folder) == {}


@pytest.mark.parametrize(
    "foreign", ["raw/thesis.txt", "raw/images/1.jpg", "raw/manifest.json", "raw"]
)
def test_download_replaces_nothing_but_a_raw_folder(params, tmp_path, foreign):
    path = tmp_path / "out" / foreign
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    before = contents(tmp_path / "out")
    result = run_download(params, tmp_path / "out", "toys")
    assert result.exit_code == 1
    assert "raw: " in result.output and "would be lost" in result.output
    assert result.output.count("\n") == 1
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    "text",
    ['{"name": "a web page"}', '["x"]', '{"source": "sample"}', '{"source": {}, "files": []}'],
)
def test_another_programs_manifest_makes_no_raw_folder(params, tmp_path, text):
    (tmp_path / "out" / "raw").mkdir(parents=True)
    (tmp_path / "out" / "raw" / "manifest.json").write_text(text)
    result = run_download(params, tmp_path / "out", "toys")
    assert result.exit_code == 1
    assert (
        "holds manifest.json, which no earlier run is known to have written, and would be lost"
        in result.output
    )


def test_a_file_laid_into_a_raw_folder_is_not_lost(params, tmp_path):
    assert run_download(params, tmp_path / "out", "toys").exit_code == 0
    (tmp_path / "out" / "raw" / "notes.txt").write_text("precious")
    result = run_download(params, tmp_path / "out", "toys")
    assert result.exit_code == 1
    assert "holds notes.txt, which no earlier run" in result.output
    assert (tmp_path / "out" / "raw" / "notes.txt").read_text() == "precious"


def test_a_link_to_a_raw_folder_stays_a_link(params, tmp_path):
    (tmp_path / "large_disk").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "raw").symlink_to(tmp_path / "large_disk" / "raw")
    for _ in range(2):
        result = run_download(params, tmp_path / "out", "toys")
        assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "raw").is_symlink()
    assert (tmp_path / "large_disk" / "raw" / "manifest.json").is_file()
    assert [path.name for path in (tmp_path / "large_disk").iterdir()] == ["raw"]


def test_download_writes_into_an_empty_folder_and_over_an_older_one(params, tmp_path):
    (tmp_path / "out" / "raw").mkdir(parents=True)
    for _ in range(2):
        result = run_download(params, tmp_path / "out", "toys")
        assert result.exit_code == 0, result.output


def test_a_failed_download_leaves_the_older_folder(params, tmp_path):
    folder = tmp_path / "out"
    assert run_download(params, folder, "toys").exit_code == 0
    before = contents(folder)
    (tmp_path / "data" / "toys" / "Toys.inter.json").write_text('{"u": [0, 1]}')
    result = run_download(params, folder, "toys")
    assert result.exit_code == 1
    assert "leave-one-out needs 3" in result.output
    assert contents(folder) == before


def test_images_found_by_a_failed_download_are_kept_until_one_succeeds(params, tmp_path):
    spec = SampleSource(source="sample", num_items=40, num_users=60, image_size=32, seed=0)
    write_sample(tmp_path / "data" / "shop", spec)
    values = YAML(typ="safe", pure=True).load(params)
    values["dataset_specs"]["sample"] = {
        "source": "amazon", "layout": "amazon2018", "category": "Sample", "bases": ["shop"],
        "sha256": {},
    }  # fmt: skip
    kept = tmp_path / "scratch" / "downloads"
    for rate, images in ((0.0, 1), (0.5, 0)):
        values["images"]["max_failure_rate"] = rate
        YAML(pure=True).dump(values, params)
        result = run_download(params, tmp_path)
        assert result.exit_code == bool(images), result.output
        assert len(list(kept.glob("images-*/*.parquet"))) == images
    assert [path.name for path in kept.iterdir()] == ["locks"]
    assert run_filter(params, tmp_path).exit_code == 0


def test_filter_refuses_the_raw_folder_of_another_source(params, tmp_path):
    assert run_download(params, tmp_path, "toys").exit_code == 0
    result = run_filter(params, tmp_path, "sample")
    assert result.exit_code == 1
    assert "was made from source 'published', the params say 'sample'" in result.output


@pytest.mark.parametrize(
    "name", ["manifest.json", "ratings.csv", "metadata.json.gz", "images/part-00000.parquet"]
)
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_filter_of_a_damaged_raw_folder_writes_nothing(params, tmp_path, name, damage):
    assert run_download(params, tmp_path).exit_code == 0
    path = tmp_path / "raw" / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 100])
    result = run_filter(params, tmp_path)
    assert result.exit_code == 1, result.output
    assert "error: " in result.output
    assert not list(tmp_path.glob("*.parquet")) and not (tmp_path / "filter.json").exists()


def test_these_stages_do_not_import_torch():
    code = (
        "import sys, macrec_core.catalog.raw, macrec_core.catalog.catalogue, macrec_core.files;"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
