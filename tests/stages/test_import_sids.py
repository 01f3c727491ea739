from __future__ import annotations

import json

import pytest

from macrec_core.id_table import read_ids


def published(params_file, folder, name, index_files, **changes):
    """A params file whose only data set is a published file family."""
    spec = {
        "source": "published", "folder": str(folder), "name": name,
        "index_files": index_files, "embedding_files": {},
    }  # fmt: skip
    return params_file(
        datasets=["toys"], imported_datasets=["toys"], learned_datasets=[],
        dataset_specs={"toys": spec}, **changes,
    )  # fmt: skip


@pytest.fixture
def run_until_ids(run_stage):
    """Runs download, filter and import_sids; returns the results."""

    def run(params, folder):
        common = {"dataset": "toys", "params": params}
        outputs = {n: folder / f"{n}.parquet" for n in ("items", "images", "users", "interactions")}
        results = [run_stage("download", raw=folder / "raw", **common)]
        results.append(
            run_stage(
                "filter", raw=folder / "raw", metrics=folder / "filter.json", **outputs, **common
            )
        )
        results.append(
            run_stage(
                "import_sids", variant="macrec", seed=0, raw=folder / "raw",
                items=outputs["items"], semantic_ids=folder / "semantic_ids.parquet",
                metrics=folder / "import_sids.json", **common,
            )
        )  # fmt: skip
        return results

    return run


def write_family(folder, text):
    folder.mkdir()
    inter = {"u": [0, 1, 2, 3, 4], "v": [4, 3, 2, 1, 0]}
    (folder / "Toys.inter.json").write_text(json.dumps(inter))
    ids = {"text": ("a", "b", text), "image": ("A", "B", [(i, i) for i in range(5)])}
    for modality, (first, second, codes) in ids.items():
        table = {str(i): [f"<{first}_{a}>", f"<{second}_{b}>"] for i, (a, b) in enumerate(codes)}
        (folder / f"Toys.{modality}.json").write_text(json.dumps(table))
    return {m: f"Toys.{m}.json" for m in ids}


def test_ambiguous_ids_are_kept_counted_and_warned_of(params_file, run_until_ids, tmp_path):
    codes = [(0, 1), (0, 1), (2, 6), (0, 1), (3, 0)]
    files = write_family(tmp_path / "toys", codes)
    params = published(params_file, tmp_path / "toys", "Toys", files)
    results = run_until_ids(params, tmp_path)
    assert [r.exit_code for r in results] == [0, 0, 0], results[-1].output
    assert "toys: 3 published text IDs stand for 5 items" in results[-1].output
    assert "image IDs" not in results[-1].output
    found = read_ids(tmp_path / "semantic_ids.parquet", ["text", "image"])
    assert found.codes["text"].tolist() == [list(row) for row in codes]
    # The parameter, whatever the largest published code.
    assert found.codebook_size == 32
    figures = json.loads((tmp_path / "import_sids.json").read_text())
    assert figures["text"]["collision_rate"] == pytest.approx(2 / 5)
    assert figures["image"]["collision_rate"] == 0.0
    assert (figures["text"]["distinct"], figures["image"]["distinct"]) == (3, 5)


def test_a_code_beyond_the_codebook_is_refused(params_file, run_until_ids, tmp_path):
    files = write_family(tmp_path / "toys", [(0, 1), (0, 2), (2, 32), (0, 3), (3, 0)])
    params = published(params_file, tmp_path / "toys", "Toys", files)
    result = run_until_ids(params, tmp_path)[-1]
    assert result.exit_code == 1
    assert "text code 32 in a codebook of 32; set quant.codebook_size" in result.output
    assert not (tmp_path / "semantic_ids.parquet").exists()


def test_ids_of_another_catalogue_are_refused(params_file, run_until_ids, tmp_path):
    files = write_family(tmp_path / "toys", [(0, 0), (1, 1), (2, 2), (3, 3)])
    params = published(params_file, tmp_path / "toys", "Toys", files)
    download, *_ = run_until_ids(params, tmp_path)
    assert download.exit_code == 1
    assert "holds 4 items" in download.output


def test_instruments_with_published_ids_has_the_documented_counts(
    shared, params_file, run_until_ids, run_stage, tmp_path
):
    files = {
        "text": "Instruments.index_lemb.mql4grec.json",
        "image": "Instruments.index_vitemb.mql4grec.json",
    }
    size = {"codebook_size": 256}
    params = published(params_file, shared / "instruments", "Instruments", files, quant=size)
    results = run_until_ids(params, tmp_path)
    assert [r.exit_code for r in results] == [0, 0, 0], results[-1].output
    assert "5988 published text IDs stand for 6250 items" in results[-1].output
    result = run_stage(
        "build_seq2seq", dataset="toys", variant="macrec", seed=0,
        interactions=tmp_path / "interactions.parquet",
        semantic_ids=tmp_path / "semantic_ids.parquet", output=tmp_path / "seq2seq",
        metrics=tmp_path / "build.json", params=params,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "build.json").read_text())
    assert figures["examples"] == 352_060
    assert figures["tasks"] == {
        "recommend:text>text": 84_890,
        "recommend:image>image": 84_890,
        "align_sequences:text>image": 84_890,
        "align_sequences:image>text": 84_890,
        "align_items:text>image": 6_250,
        "align_items:image>text": 6_250,
    }
    assert (figures["valid_users"], figures["test_users"]) == (17_112, 17_112)
    codes = read_ids(tmp_path / "semantic_ids.parquet", ["text", "image"]).codes
    assert len({tuple(row) for row in codes["text"].tolist()}) == 5_988
