"""Pictures: the same bytes every time, other bytes for other data, whatever the data is like."""

from __future__ import annotations

import io
import warnings

import matplotlib
import numpy as np
import pytest
from PIL import Image

from macrec_core.embedding_agreement import classes_of
from macrec_core.figures.code_use import CodeUse, draw_code_use
from macrec_core.figures.embeddings import draw_embeddings
from macrec_core.figures.sweep import draw_sweep
from macrec_core.sweeps.outcomes import Outcome

FIGURES = {
    "purity": 0.5, "purity_chance": 0.2, "neighbours": 0.4, "neighbours_chance": 0.1,
}  # fmt: skip


@pytest.fixture
def embeddings():
    """Arguments of `draw_embeddings`: 12 brands, of which two items have none; one type."""
    points = np.random.default_rng(0).random((40, 2)).astype(np.float32)
    brands = [None, None, *(f"brand {n % 12} of $2" for n in range(38))]
    attributes = {"brand": classes_of(brands), "type": classes_of(["_guitar"] * 40)}
    found = {"text": {"brand": FIGURES, "type": FIGURES}}
    return ["toys", {"text": points}, attributes, found, 10]


def test_signs_that_the_font_lacks_are_drawn_without_a_warning(embeddings):
    embeddings[2]["brand"] = classes_of([f"\N{WATER WAVE} {n % 3}" for n in range(40)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw_embeddings(*embeddings)


def use(first):
    items = np.array([[first, 2.0, 0.0], [3.0, 3.0, 1.0]])
    return CodeUse(items, np.array([0.5, 0.9]), np.array([0.66, 1.0]))


def outcome(value, mean, missing=""):
    figures = {
        "hr@10": {"mean": mean, "std": 0.01}, "ndcg@10": {"mean": mean / 2},
        "collision_rate_text": {"mean": 0.1},
    }  # fmt: skip
    return Outcome("toys", value, missing, 2, {} if missing else figures)


def drawings(embeddings):
    return {
        "embeddings": draw_embeddings(*embeddings),
        "codes": draw_code_use("toys", {"text": {"a": use(5.0)}, "image": {"b": use(6.0)}}),
        "sweep": draw_sweep("x", "macrec", [outcome(1, 0.2), outcome(2, 0, "failed")]),
    }


def test_pictures_are_the_same_bytes_without_date_or_version(embeddings, monkeypatch):
    first = drawings(embeddings)
    # Nor does it matter how the user has matplotlib draw.
    with matplotlib.rc_context({"font.size": 30, "figure.dpi": 300, "lines.linewidth": 9}):
        assert drawings(embeddings) == first
    for picture in first.values():
        image = Image.open(io.BytesIO(picture))
        assert image.format == "PNG"
        assert set(image.info) <= {"dpi"}


def test_other_data_draws_another_picture(embeddings):
    first = drawings(embeddings)
    embeddings[1]["text"][0] += 0.2
    assert draw_embeddings(*embeddings) != first["embeddings"]
    assert (
        draw_code_use("toys", {"text": {"a": use(4.0)}, "image": {"b": use(6.0)}}) != first["codes"]
    )
    assert draw_sweep("x", "macrec", [outcome(1, 0.2), outcome(2, 0.1)]) != first["sweep"]


def test_the_brands_beyond_the_colours_are_grey_and_counted(embeddings):
    from macrec_core.figures import embeddings as module

    panel = matplotlib.figure.Figure().subplots()
    classes = embeddings[2]["brand"]
    module._scatter(panel, embeddings[1]["text"], classes, [module._colour(n) for n in range(10)])
    labels = [text.get_text() for text in panel.get_legend().get_texts()]
    assert len(labels) == 11
    assert labels[-1] == "2 others, 2 without"
    shown = {tuple(c.get_facecolor()[0]) for c in panel.collections}
    assert len(shown) == 11, "a colour occurs twice"
    drawn = sum(len(c.get_offsets()) for c in panel.collections)
    assert drawn == 40


def test_variants_with_fewer_levels_or_other_codebooks_are_drawn(embeddings):
    short = CodeUse(np.array([[4.0, 1.0]]), np.array([0.7]), np.array([1.0]))
    picture = draw_code_use("toys", {"text": {"a": use(5.0), "tiger": short}})
    assert Image.open(io.BytesIO(picture)).size[0] > 400


def test_no_line_leads_over_a_missing_value(monkeypatch):
    from macrec_core.figures import sweep as module

    drawn = []
    monkeypatch.setattr(module, "png", lambda figure: drawn.append(figure) or b"")
    draw_sweep("x", "macrec", [outcome(1, 0.2), outcome(2, 0, "failed"), outcome(4, 0.3)])
    axes = drawn[0].axes
    values = axes[0].lines[0].get_ydata()
    assert values[0] == 0.2
    assert np.isnan(values[1])
    assert values[2] == 0.3
    cross = axes[0].collections[-1]
    assert cross.get_offsets().tolist() == [[1, 0.03]]
    assert [t.get_text() for t in axes[0].get_xticklabels()] == ["1", "2", "4"]
    assert "1 of 3 missing" in drawn[0].get_suptitle()
