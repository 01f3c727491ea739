"""exp_show.json was recorded: `dvc exp show --json` (DVC 3.67.1) after a toy's queued sweep of
quant.codebook_size over 2, 4 and 8, of which 2 failed (too few IDs for the items). Parameters and
metrics that are not read here were cut out, and the variant was put into the names later."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from macrec_core.errors import MacrecError
from macrec_core.sweeps.outcomes import outcomes_csv, read_outcomes

RECORDED = Path(__file__).parent / "exp_show.json"


@pytest.fixture
def change(tmp_path):
    """Writes the recorded JSON after a change of its experiments."""

    def write(edit):
        shown = json.loads(RECORDED.read_text())
        edit(shown[1]["experiments"])
        path = tmp_path / "shown.json"
        path.write_text(json.dumps(shown))
        return path

    return write


def read(path=RECORDED, values=(2, 4, 8), variant="macrec", datasets=("sample",)):
    return read_outcomes(path, "codebook_size", list(values), variant, list(datasets))


def summary_of(entry):
    return entry["revs"][0]["data"]["metrics"]["metrics/summary.json"]["data"]["sample"]


def test_outcomes_are_those_of_the_experiments(caplog):
    failed, four, eight = read()
    assert (four.missing, four.seeds, eight.missing) == ("", 1, "")
    assert four.figures["hr@10"] == {"mean": pytest.approx(20 / 59)}
    assert eight.figures["hr@10"] == {"mean": pytest.approx(19 / 59)}
    assert eight.figures["collision_rate_text"]["mean"] == pytest.approx(2 / 36)
    # DVC shows a failed experiment with the metrics of the commit that it started from.
    recorded = json.loads(RECORDED.read_text())[1]["experiments"]
    (entry,) = [e for e in recorded if e["name"] == "sweep-codebook_size-macrec-2"]
    assert summary_of(entry)["macrec"]["hr@10"]["mean"] > 0
    assert (failed.missing, failed.figures) == ("failed", {})
    assert "1 of 3 points of the sweep are missing" in caplog.text
    assert "sweep-codebook_size-macrec-2 on sample: failed" in caplog.text


def test_a_value_without_experiment_and_a_data_set_without_row_are_missing(caplog):
    four, never = read(values=(4, 1024))
    assert (four.missing, never.missing) == ("", "no such experiment")
    assert "1 of 2 points" in caplog.text
    found = read(values=(4,), datasets=("sample", "games"))
    assert [o.missing for o in found] == ["", "no row of macrec"]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda e: e["executor"].update(state="running"), "running"),
        (lambda e: e["executor"].update(state="queued"), "queued"),
        (lambda e: e["revs"][0].update(error={"msg": "broken", "type": ""}), "broken"),
        (lambda e: e["revs"][0]["data"].update(metrics={}), "no metrics/summary.json"),
        (lambda e: e["revs"][0].update(data=None), "no metrics/summary.json"),
        (lambda e: summary_of(e).pop("macrec"), "no row of macrec"),
        (
            lambda e: summary_of(e).update(macrec={"missing": "seed 3", "seeds": 2}),
            "missing: seed 3",
        ),
    ],
)
def test_an_experiment_without_figures_says_why(change, edit, reason):
    path = change(lambda experiments: edit(experiments[0]))
    _, eight = read(path, values=(4, 8))
    assert (eight.missing, eight.figures) == (reason, {})


def test_an_experiment_that_is_kept_without_its_task_counts(change):
    path = change(lambda experiments: experiments[0].update(executor=None))
    assert read(path, values=(8,))[0].missing == ""


def test_two_experiments_of_one_name_are_an_error(change):
    path = change(lambda experiments: experiments.append(experiments[0]))
    with pytest.raises(MacrecError, match="sweep-codebook_size-macrec-8 occurs 2 times"):
        read(path)


def test_a_sweep_without_any_figures_is_an_error():
    with pytest.raises(MacrecError, match="no experiment of sweep codebook_size has figures"):
        read(values=(2, 1024))
    with pytest.raises(MacrecError, match="has figures of tiger"):
        read(variant="tiger")


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 1}', "3"])
def test_what_is_no_output_of_dvc_is_an_error(tmp_path, text):
    path = tmp_path / "shown.json"
    path.write_text(text)
    with pytest.raises(MacrecError, match=r"shown\.json: is no output of `dvc exp show --json`"):
        read(path)


def test_the_csv_has_a_line_a_value_and_nothing_for_what_is_missing(change):
    def spread(experiments):
        summary_of(experiments[0])["macrec"]["hr@10"]["std"] = 0.25

    rows = list(csv.DictReader(io.StringIO(outcomes_csv(read(change(spread))))))
    assert [row["value"] for row in rows] == ["2", "4", "8"]
    assert rows[0]["missing"] == "failed"
    assert {v for k, v in rows[0].items() if k.endswith(("mean", "std"))} == {""}
    assert float(rows[2]["hr@10 mean"]) == pytest.approx(19 / 59)
    assert (rows[1]["hr@10 std"], rows[2]["hr@10 std"]) == ("", "0.25")
