from __future__ import annotations

import re

import pytest

from macrec_core.report import published


@pytest.mark.parametrize(
    ("dataset", "row", "hr", "ndcg"),
    [
        # design/method.md, "Published numbers to hold ours against".
        ("instruments", "macrec", 0.1363, 0.1046), ("arts", "macrec", 0.1329, 0.0953),
        ("games", "macrec", 0.1078, 0.0565), ("instruments", "mql4grec", 0.1291, 0.0997),
        ("arts", "mql4grec", 0.1254, 0.0898), ("games", "mql4grec", 0.1007, 0.0538),
        ("instruments", "tiger", 0.1221, 0.0950), ("arts", "tiger", 0.1167, 0.0806),
        ("games", "tiger", 0.0857, 0.0453), ("instruments", "sasrec", 0.1233, 0.0746),
        ("arts", "sasrec", 0.1250, 0.0706), ("games", "sasrec", 0.0985, 0.0461),
        ("instruments", "bert4rec", 0.1081, 0.0739), ("arts", "bert4rec", 0.0922, 0.0575),
        ("games", "bert4rec", 0.0725, 0.0366), ("instruments", "missrec", 0.1361, 0.0880),
    ],
)  # fmt: skip
def test_table_2_has_what_the_design_quotes(dataset, row, hr, ndcg):
    found = published.RESULTS[dataset][row]
    assert (found["hr@10"], found["ndcg@10"]) == (hr, ndcg)


def test_every_dataset_has_every_method_and_metric():
    assert list(published.RESULTS) == list(published.STATISTICS) == list(published.ABLATIONS)
    for methods in published.RESULTS.values():
        assert len(methods) == 10
        for figures in methods.values():
            assert list(figures) == ["hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10"]
            # What must hold of any ranking.
            assert figures["hr@1"] <= figures["ndcg@5"] <= figures["ndcg@10"]
            assert figures["hr@1"] <= figures["hr@5"] <= figures["hr@10"]
            assert figures["ndcg@10"] <= figures["hr@10"]


def test_the_tables_agree_with_one_another():
    for dataset, rows in published.ABLATIONS.items():
        assert rows["macrec"] == published.RESULTS[dataset]["macrec"]["hr@10"]
        assert set(rows) == {
            "macrec", "without_contrastive", "without_alignment", "without_implicit",
            "without_explicit",
        }  # fmt: skip
        assert max(rows, key=rows.get) == "macrec"
    for rows in published.COLLISIONS.values():
        assert all(rows["macrec"][m] < rows["mql4grec"][m] for m in ("text", "image"))
    for one in published.STATISTICS.values():
        filled = one["num_interactions"] / one["num_users"] / one["num_items"]
        assert one["sparsity"] == pytest.approx(1 - filled, abs=6e-5)
        assert one["average_length"] == pytest.approx(
            one["num_interactions"] / one["num_users"], abs=6e-3
        )


@pytest.fixture
def paper(shared):
    """The paper's text."""
    path = shared.parent / "paper" / "macrec-aaai2026.txt"
    if not path.exists():
        pytest.skip(f"no text of the paper at {path}")
    return path.read_text()


def test_table_2_is_the_papers_number_for_number(paper):
    """Read by the header line, whatever the order of the columns is."""
    names = {
        "BERT4Rec": "bert4rec", "SASRec": "sasrec", "FDSA": "fdsa", "S³-Rec": "s3rec",
        "MISSRec": "missrec", "P5-CID": "p5_cid", "VIP5": "vip5", "TIGER": "tiger",
        "MQL4GRec": "mql4grec", "MACRec": "macrec",
    }  # fmt: skip
    lines = paper.splitlines()
    (start,) = [i for i, line in enumerate(lines) if line.startswith("Dataset\tMetrics")]
    methods = [names[name] for name in lines[start].replace(" ", "").split("\t")[2:]]
    dataset, seen = "", 0
    for line in lines[start + 1 : start + 16]:
        first, metric, *cells = line.split("\t")
        dataset = first.lower() or dataset
        for method, cell in zip(methods, cells, strict=True):
            (number,) = re.findall(r"0\.\d{4}", cell)
            assert published.RESULTS[dataset][method][metric.lower()] == float(number)
            seen += 1
    assert seen == 150


def test_tables_1_3_and_4_are_the_papers(paper):
    for dataset, one in published.STATISTICS.items():
        counts = "\t".join(str(one[n]) for n in ("num_users", "num_items", "num_interactions"))
        line = f"{counts}\t{100 * one['sparsity']:.2f}%\t{one['average_length']:.2f}"
        assert f"{dataset.capitalize()}\t{line}" in paper
    for row in published.ABLATIONS["arts"]:
        numbers = [f"{published.ABLATIONS[d][row]:.4f}" for d in ("instruments", "arts", "games")]
        assert "\t".join(numbers) in paper
    for dataset, rows in published.COLLISIONS.items():
        numbers = [f"{rows[v][m]:.2f}" for m in ("text", "image") for v in ("mql4grec", "macrec")]
        assert "\t".join([dataset.capitalize(), *numbers]) in paper
