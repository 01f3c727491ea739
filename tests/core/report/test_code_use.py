from __future__ import annotations

import numpy as np

from macrec_core.report.cells import Cells
from macrec_core.report.code_use import code_uses, draw_all


def test_lines_are_means_over_seeds_by_modality_and_variant(cell):
    one, other = cell(), cell(seed=1)
    other.semantic_ids["text"]["items_a_code"] = [[4, 0], [2, 2]]
    other.semantic_ids["text"]["code_entropy"] = [0.25, 0.75]
    other.semantic_ids["text"]["codebook_use"] = [0.5, 1.0]
    found = code_uses(Cells([one, other, cell("tiger")]), "toys", ["image", "text"])
    assert list(found) == ["image", "text"]
    assert list(found["text"]) == ["macrec", "tiger"]
    use = found["text"]["macrec"]
    np.testing.assert_allclose(use.items, [[3.5, 0.5], [3.0, 1.0]])
    np.testing.assert_allclose(use.entropy, [0.5, 0.5])
    np.testing.assert_allclose(use.share, [0.75, 0.75])


def test_rows_that_lack_a_seed_and_other_data_sets_are_left_out(cell, absent):
    cells = Cells([cell(), cell("tiger")], [absent("macrec", 3)])
    assert list(code_uses(cells, "toys", ["text"])["text"]) == ["tiger"]
    assert code_uses(cells, "games", ["text"]) == {}


def test_a_data_set_with_codes_gets_a_picture(cell):
    found = draw_all(Cells([cell()]), ["toys", "games"], ["text", "image"])
    assert list(found) == ["toys"]
    assert found["toys"].startswith(b"\x89PNG")


def test_clusters_have_no_codebooks(cell):
    clustered = cell("p5_cid")
    ids = clustered.semantic_ids["text"]
    for name in ("items_a_code", "code_entropy", "codebook_use"):
        del ids[name]
    del clustered.semantic_ids["image"]
    assert list(code_uses(Cells([cell(), clustered]), "toys", ["text"])["text"]) == ["macrec"]
    assert code_uses(Cells([clustered]), "toys", ["text"]) == {}
