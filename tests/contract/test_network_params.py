"""The section `network`, and the sources that it guards."""

from __future__ import annotations

import pytest

from macrec_core.catalog.connections import allowed_url
from macrec_core.errors import MacrecError
from macrec_core.params.loading import load_params, validate_params

SOURCE = {
    "source": "amazon",
    "layout": "amazon2018",
    "category": "Instruments",
    "bases": ["https://example.com"],
    "sha256": {},
}


def problem(raw):
    with pytest.raises(MacrecError) as caught:
        validate_params(raw, "test.yaml")
    return str(caught.value).split("\n  ")[1]


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("allowed_hosts", [], "should have at least 1 item"),
        ("allowed_hosts", ["*"], "should match pattern"),
        ("allowed_hosts", ["https://example.com"], "should match pattern"),
        ("allowed_hosts", ["example.com:80"], "should match pattern"),
        ("allowed_hosts", ["Example.com"], "should match pattern"),
        ("allow_private_addresses", "no", "should be a valid boolean"),
        ("max_redirects", -1, "greater than or equal to 0"),
        ("attempts", 0, "greater than or equal to 1"),
        ("timeout_s", 0.0, "greater than 0"),
        ("max_unpacked_ratio", 0.0, "greater than 0"),
        ("max_wait_s", 0.5, "must be at least first_wait_s=1.0"),
    ],
)
def test_a_bad_value_is_named(raw_params, name, value, rule):
    raw_params["network"][name] = value
    assert problem(raw_params).startswith("network")
    assert rule in problem(raw_params)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"layout": "amazon2014"}, "should be 'amazon2018' or 'amazon2023'"),
        ({"bases": []}, "should have at least 1 item"),
        ({"sha256": {"ratings": "abc"}}, "should match pattern"),
        ({"sha256": {"images": "0" * 64}}, "should be 'ratings', 'metadata' or 'reviews'"),
    ],
)
def test_a_bad_source_is_named(raw_params, change, rule):
    raw_params["dataset_specs"]["sample"] = SOURCE | change
    assert problem(raw_params).startswith("dataset_specs.sample.")
    assert rule in problem(raw_params)


def test_every_base_of_every_preset_is_on_its_list(root):
    for preset in sorted((root / "presets").glob("*.yaml")):
        params = load_params(preset)
        for spec in params.dataset_specs.values():
            for base in getattr(spec, "bases", []):
                assert allowed_url(base, params.network).scheme == "https"
        allowed_url("https://m.media-amazon.com/images/I/x.jpg", params.network)
        allowed_url("https://images-na.ssl-images-amazon.com/images/I/x.jpg", params.network)
