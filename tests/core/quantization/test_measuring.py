"""Signs of collapse in the last measurement."""

from __future__ import annotations

from macrec_core.quantization.measuring import warn_of_collapse


def row(unexplained, *use):
    """A measured row of modality `text`."""
    return {"unexplained_text": unexplained, **{f"use_text_{i}": u for i, u in enumerate(use)}}


def test_a_good_quantizer_gives_no_warning(caplog):
    warn_of_collapse(row(0.7, 0.5, 1.0), ["text"], 2)
    assert caplog.records == []


def test_much_unexplained_variance_is_a_warning(caplog):
    warn_of_collapse(row(0.75, 1.0, 1.0), ["text"], 2)
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("text: the quantizer looks collapsed: 75 % of the variance")
    assert "lower quant.lambda_con or see quant.reduction" in message


def test_every_level_that_leaves_most_codes_idle_is_named(caplog):
    warn_of_collapse(row(0.1, 0.25, 1.0, 0.125), ["text"], 3)
    (record,) = caplog.records
    assert "text: few codes in use (level 0: 25 %, level 2: 12 %)" in record.getMessage()


def test_each_modality_is_judged_by_itself(caplog):
    image = {"unexplained_image": 0.9, "use_image_0": 0.1}
    warn_of_collapse(row(0.1, 1.0) | image, ["text", "image"], 1)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["image", "image"]
