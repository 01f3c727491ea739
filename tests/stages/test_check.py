"""`check`: params and a folder of artifacts."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML
from toy_quantizer import run, succeed, write_embeddings, write_shop


@pytest.fixture
def shop(tmp_path):
    write_shop(tmp_path / "artifacts")
    return tmp_path / "artifacts"


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
        ({"source": "files", "folder": "here", "interactions": "a.csv", "items": "b.csv"}, []),
    ],
)  # fmt: skip
def test_what_download_would_refuse_at_once_is_told(shop, tmp_path, monkeypatch, spec, told):
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("MACREC_DATA", str(tmp_path))
    yaml, path = YAML(typ="safe", pure=True), shop / "params.yaml"
    values = yaml.load(path)
    values["dataset_specs"][values["datasets"][0]] = spec
    yaml.dump(values, path)
    result = run(arguments(shop))
    errors = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert [line.startswith("error: dataset_specs.") for line in errors] == [True] * len(told)
    assert all(text in line for text, line in zip(told, errors, strict=True))
    assert result.exit_code == bool(told)
    assert ("parameters are valid" in result.output) is not bool(told)
    # What was downloaded once may have gone at its source.
    (shop / values["datasets"][0] / "raw").mkdir(parents=True)
    assert succeed(arguments(shop)).exit_code == 0
