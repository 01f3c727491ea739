"""Real sequences come back exactly from raw files full of noise."""

from __future__ import annotations

import pytest
from misbehaving_server import LOOPBACK
from raw_instruments import CATEGORY, real_sequences, write_release

from macrec_core.catalog.catalogue import build_catalogue
from macrec_core.catalog.raw import Places, write_raw
from macrec_core.catalog.scratch import Scratch
from macrec_core.params.data import AmazonSource, FilterParams

REASONS = (
    "interactions_without_metadata",
    "interactions_without_image",
    "repeated_interactions",
    "interactions_outside_core",
    "users_outside_core",
    "items_outside_core",
)


@pytest.fixture
def filtered(tmp_path, image_params):
    """Travels from a release to a catalogue of text and image."""

    def run(sequences, **how):
        write_release(tmp_path / "release", sequences, **how)
        raw = tmp_path / "raw"
        raw.mkdir()
        source = AmazonSource(
            source="amazon", layout="amazon2018", category=CATEGORY, bases=["release"], sha256={}
        )
        with Scratch(tmp_path / "scratch") as scratch:
            places = Places(data_root=tmp_path, scratch=scratch, folder=None)
            write_raw(raw, source, image_params, places, network=LOOPBACK, with_images=True)
        return build_catalogue(raw, ["text", "image"], FilterParams(k_core=5, max_bad_lines=0))

    return run


def sequences_of(catalogue):
    """User key to item keys, in order."""
    users = catalogue.users.column("user_key").to_pylist()
    items = catalogue.items.column("item_key").to_pylist()
    found = {user: [] for user in users}
    user_ids, item_ids = (
        catalogue.interactions.column(name).to_pylist() for name in ("user_id", "item_id")
    )
    for user, item in zip(user_ids, item_ids, strict=True):
        found[users[user]].append(items[item])
    return found


def toy_sequences():
    """A 5-core: nine users who went round a ring of seven items."""
    return {
        f"A{user}": [f"B{(user + step) % 7}" for step in range(5 + user % 3)] for user in range(9)
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_toy_sequences_come_back(filtered, seed, line_end):
    sequences = toy_sequences()
    catalogue = filtered(sequences, seed=seed, line_end=line_end)
    assert sequences_of(catalogue) == sequences


def test_instruments_comes_back_exactly(filtered, shared_data):
    sequences = real_sequences(shared_data)
    catalogue = filtered(sequences)
    metrics = catalogue.metrics
    assert (metrics["num_users"], metrics["num_items"]) == (17_112, 6_250)
    assert metrics["num_interactions"] == 136_226
    assert sequences_of(catalogue) == sequences
    assert len(catalogue.images.keys) == 6_250
    assert metrics["filter"]["rounds"] > 20  # the noise falls in waves
    assert all(metrics["dropped"][reason] > 500 for reason in REASONS)
    assert metrics["items_with_empty_text"] == dict.fromkeys(
        ("title", "description", "brand", "categories"), 0
    )
    first = catalogue.items.slice(0, 1).to_pylist()[0]
    assert first["title"] == f"Item & {first['item_key']}"
