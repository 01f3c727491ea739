"""`check`: params and a folder of artifacts."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML
from toy_quantizer import run, succeed, write_embeddings, write_shop


@pytest.fixture
def shop(tmp_path):
    write_shop(tmp_path / "artifacts")
    change(tmp_path / "artifacts" / "params.yaml", datasets=["toy"], learned_datasets=["toy"])
    return tmp_path / "artifacts"


def change(path, **sections):
    yaml = YAML(typ="safe", pure=True)
    values = yaml.load(path)
    values["dataset_specs"]["toy"] = values["dataset_specs"]["sample"]
    yaml.dump(values | sections, path)


def arguments(shop):
    return ["check", "--artifacts", str(shop), "--params", str(shop / "params.yaml")]


def test_good_artifacts_are_counted(shop):
    assert "4 artifacts checked, 0 with problems" in succeed(arguments(shop)).output


def test_each_problem_is_a_line_and_the_exit_code_is_one(shop):
    path = shop / "toy" / "embeddings" / "text.parquet"
    write_embeddings(path, [[1.0, 2.0]])
    labels = shop / "toy" / "pseudo_labels.parquet"
    labels.write_bytes(labels.read_bytes()[:-10])
    result = run(arguments(shop))
    assert result.exit_code == 1
    errors = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert errors[0].startswith(f"error: {path}: holds 1 items")
    assert errors[1].startswith(f"error: {labels}: is no readable Parquet file")
    assert "4 artifacts checked, 2 with problems" in result.output


def test_without_artifacts_the_parameters_are_still_checked(shop, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    result = run(["check", "--artifacts", str(empty), "--params", str(shop / "params.yaml")])
    assert result.exit_code == 0
    assert "parameters are valid" in result.output
    assert "0 artifacts checked, 0 with problems" in result.output


def test_bad_params_are_an_error(shop):
    params = shop / "params.yaml"
    params.write_text(params.read_text().replace("num_levels: 3", "num_levels: 0"))
    result = run(arguments(shop))
    assert result.exit_code == 1
    assert "quant.num_levels=0" in result.output


AMAZON = {"source": "amazon", "layout": "amazon2018", "category": "Books", "sha256": {}}
SERVER = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (AMAZON | {"bases": [SERVER]}, []),
        (AMAZON | {"bases": ["nowhere", SERVER]}, []),  # which is asked then
        (AMAZON | {"bases": ["nowhere", "here"]}, []),
        (AMAZON | {"bases": ["nowhere"]}, ["nowhere: is no folder; correct it in dataset_specs"]),
        (AMAZON | {"bases": [SERVER], "category": "Boks"}, ["category='Boks': layout amazon2018"]),
        (AMAZON | {"bases": ["here"], "category": "Boks"}, []),  # one's own
        (
            AMAZON | {"bases": ["https://example.com/x", "ftp://x"]},
            ["'example.com' is not in network.allowed_hosts; add it", "no http or https URL"],
        ),
        ({"source": "files", "folder": "nowhere", "interactions": "a.csv", "items": "b.csv"},
         ["nowhere: is no folder"]),
        ({"source": "published", "folder": "here", "name": "X", "index_files": {},
          "embedding_files": {}}, []),
    ],
)  # fmt: skip
def test_what_download_would_refuse_at_once_is_told(shop, tmp_path, monkeypatch, spec, told):
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("MACREC_DATA", str(tmp_path))
    change(shop / "params.yaml", dataset_specs={"toy": spec})
    result = run([*arguments(shop), "--params-only"])
    errors = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert [line.startswith("error: dataset_specs.") for line in errors] == [True] * len(told)
    assert all(text in line for text, line in zip(told, errors, strict=True))
    assert result.exit_code == bool(told)
    assert ("parameters are valid" in result.output) is not bool(told)
    # What was downloaded once may have gone at its source.
    (shop / "toy" / "raw").mkdir(parents=True)
    again = succeed(arguments(shop)).output
    warnings = [line for line in again.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        line.replace("error: ", "warning: ") + " (should download run again)" for line in errors
    ]


def test_a_table_that_is_not_there_is_told_too(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("MACREC_DATA", str(tmp_path))
    (tmp_path / "a.csv").write_text("user,item,timestamp\n")
    spec = {"source": "files", "folder": ".", "interactions": "a.csv", "items": "b.csv"}
    change(shop / "params.yaml", dataset_specs={"toy": spec})
    result = run(arguments(shop))
    assert "b.csv: is no file; correct the dataset's folder or items" in result.output
    assert result.exit_code == 1


def test_artifacts_alone_may_be_left_out(shop):
    (shop / "toy" / "pseudo_labels.parquet").write_bytes(b"damaged")
    assert run(arguments(shop)).exit_code == 1
    output = succeed([*arguments(shop), "--params-only"]).output
    assert "parameters are valid" in output and "checked" not in output


def test_what_other_parameters_left_is_no_problem_but_told(shop):
    home = shop / "toy"
    for name in ("gone/s0/semantic_ids", "macrec/s7/semantic_ids", "embeddings/collab",
                 "recommendations/gone/s0", "recommendations/macrec/s7",
                 "ensembles/gone/s0", "../other/items"):  # fmt: skip
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / f"{name}.parquet").write_bytes(b"damaged")
    output = succeed(arguments(shop)).output
    assert "4 artifacts checked, 0 with problems" in output
    assert f"7 artifacts of what {shop / 'params.yaml'} does not name are left out, such" in output
    for name in ("macrec/s0/semantic_ids", "embeddings/image", "recommendations/macrec/s0",
                 "recommendations/yardsticks", "raw/images/part-00000"):  # fmt: skip
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / f"{name}.parquet").write_bytes(b"damaged")
    assert "8 artifacts checked, 5 with problems" in run(arguments(shop)).output
