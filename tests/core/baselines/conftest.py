"""Small sequence models, and a catalogue whose right recommendation is provable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch.nn import functional

from macrec_core.baselines.features import ItemFeatures
from macrec_core.baselines.histories import (
    Batch,
    Histories,
    held_out_histories,
    training_histories,
    whole_sequences,
)
from macrec_core.baselines.saved import new_model
from macrec_core.cases import cases_of, training_sequences
from macrec_core.params.baselines import BaselineSpec
from macrec_core.runtime import generator

SPECS = {
    "sasrec": {"model": "sasrec", "num_heads": 2, "sequential": {}},
    "bert4rec": {
        "model": "bert4rec", "num_heads": 2, "mask_ratio": 0.2, "last_item_ratio": 0.25,
        "sequential": {},
    },
    "gru4rec": {"model": "gru4rec", "sequential": {}},
    "narm": {"model": "narm", "representation_dropout": 0.1, "sequential": {}},
    "stamp": {"model": "stamp", "sequential": {}},
    "fdsa": {"model": "fdsa", "num_heads": 2, "sequential": {}},
    "s3rec": {
        "model": "s3rec", "num_heads": 2, "pretrain_epochs": 3, "mask_ratio": 0.2,
        "aap_weight": 0.2, "mip_weight": 1.0, "map_weight": 1.0, "sp_weight": 0.5,
        "sequential": {},
    },
    "missrec": {
        "model": "missrec", "modalities": ["text", "image"], "num_heads": 2, "item_ids": True,
        "standardize": "unit_variance", "temperature": 0.07, "interest_ratio": 0.25,
        "kmeans_iterations": 3, "orthogonality": 1e-4, "sequential": {},
    },
}  # fmt: skip
NAMES = list(SPECS)
# STAMP's items start ten times as near to zero as others', and its scores are of third order.
LOUDER = {"stamp": 10.0}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors: on a busy machine threads would wait for each other more than compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


NUM_ITEMS = 30


@pytest.fixture(scope="session")
def tiny(committed_params):
    """`sequential` for models of a moment."""
    return committed_params.sequential.model_copy(
        update={"hidden_size": 16, "inner_size": 32, "num_layers": 1, "dropout": 0.0,
                "max_history": 6, "batch_size": 32, "learning_rate": 0.01, "max_epochs": 30}
    )  # fmt: skip


@pytest.fixture(scope="session")
def spec_of():
    """Specification of a model by name."""
    return lambda name: TypeAdapter(BaselineSpec).validate_python(SPECS[name])


@pytest.fixture(scope="session")
def make_features():
    """Items of random vectors; attributes: the item's remainder of 7, and of 3 but for every 5th.

    Item 0 has none.
    """

    def make(num_items=NUM_ITEMS):
        rows = [
            [item % 7, *([7 + item % 3] if item % 5 else [])] if item else []
            for item in range(num_items)
        ]
        draws = generator(0, "features")
        return ItemFeatures(
            torch.tensor([attribute for row in rows for attribute in row]),
            torch.tensor([0, *map(len, rows)]).cumsum(0),
            10,
            {name: torch.randn(num_items, width, generator=draws)
             for name, width in (("text", 6), ("image", 9))},
        )  # fmt: skip

    return make


@pytest.fixture
def make_model(spec_of, tiny, make_features):
    """A model with weights scaled up, so that its scores are far from equal."""

    def make(name, num_items=NUM_ITEMS, seed=0, scale=1.0, features=None, spec=None, **changes):
        params = tiny.model_copy(update=changes)
        features = features or make_features(num_items)
        spec = spec_of(name).model_copy(update=spec or {})
        model = new_model(spec, params, features, generator(seed, "weights"))
        for weights in model.parameters():
            weights.data *= scale if scale == 1.0 else scale * LOUDER.get(name, 1.0)
        return model.eval()

    return make


def batch_of(histories, targets, num_items=NUM_ITEMS):
    """Histories side by side, filled up."""
    width = max(map(len, histories))
    items = [[*row, *[num_items] * (width - len(row))] for row in histories]
    lengths = [len(row) for row in histories]
    return Batch(torch.tensor(items), torch.tensor(lengths), torch.tensor(targets))


@dataclass(frozen=True)
class Content:
    """Items of five kinds, item i of kind i % 5; a purchase of one kind is followed by the next.

    The last ten items are never in a history to learn from: only what they are tells what follows
    them. Each is somebody's only training purchase, which pre-training may look at.

    Attributes:
        features: of each item the attributes kind (0-4) and i % 4 (5-8), and vectors that show
            the kind.
        train: examples.
        validation: the same, of other users.
        sequences: whole ones.
    """

    features: ItemFeatures
    train: Histories
    validation: Histories
    sequences: Histories

    def share_right(self, model):
        """Of the new items, the share after which the next kind is the likeliest."""
        new = torch.arange(self.features.num_items - 10, self.features.num_items)
        alone = Batch(new[:, None], torch.ones_like(new), new)
        with torch.no_grad():
            likely = model.scores(alone).softmax(dim=1)
        best = likely.view(len(new), -1, 5).sum(dim=1).argmax(dim=1)
        return float((best == (new + 1) % 5).float().mean())


def content_of(known_of_a_kind):
    """See `Content`."""
    rng, num_items = np.random.default_rng(3), 5 * known_of_a_kind + 10

    def walk(start, length):
        return [
            (start + step) % 5 + 5 * int(rng.integers(known_of_a_kind)) for step in range(length)
        ]

    def examples(kind, rows):
        users = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        return kind(users, np.concatenate(rows), num_items, 6)

    known = [walk(user, 3 + user % 4) for user in range(150)]
    new = [[item] for item in range(num_items - 10, num_items)]
    others = [walk(user, 3) for user in range(20)]
    kinds = torch.arange(num_items) % 5
    noise = torch.randn(num_items, 12, generator=generator(0, "noise"))
    vectors = functional.pad(functional.one_hot(kinds, 5).float(), (0, 7)) + 0.1 * noise
    attributes = torch.stack([kinds, 5 + torch.arange(num_items) % 4], dim=1)
    features = ItemFeatures(
        attributes.flatten(), torch.arange(0, 2 * num_items + 1, 2), 9,
        {"text": vectors[:, :8], "image": vectors},
    )  # fmt: skip
    return Content(
        features,
        examples(training_histories, known),
        examples(training_histories, others),
        examples(whole_sequences, known + new),
    )


@pytest.fixture(scope="session")
def content():
    """So many items of a kind that what an item is tells more than which one it is."""
    return content_of(24)


@pytest.fixture(scope="session")
def small_content():
    """Few items of a kind."""
    return content_of(4)


@pytest.fixture(scope="session")
def toy(make_interactions, tiny):
    """Training, validation and test histories: item i is always followed by i + 1 (modulo 30).

    120 users of five to twelve purchases, so that every step occurs in training.
    """
    lengths = np.random.default_rng(7).integers(5, 12, 120)
    interactions = make_interactions(
        [[(user + step) % NUM_ITEMS for step in range(n)] for user, n in enumerate(lengths)]
    )
    train = training_histories(*training_sequences(interactions), NUM_ITEMS, tiny.max_history)
    cases = {split: cases_of(interactions, split, None) for split in ("valid", "test")}
    held_out = {
        split: held_out_histories(part, NUM_ITEMS, tiny.max_history)
        for split, part in cases.items()
    }
    return train, held_out["valid"], held_out["test"], cases["test"]
