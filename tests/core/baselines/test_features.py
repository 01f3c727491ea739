from __future__ import annotations

import pytest
import torch

from macrec_core.baselines.features import ItemFeatures
from macrec_core.errors import MacrecError


def features_of(rows, count):
    flat = torch.tensor([a for row in rows for a in row], dtype=torch.long)
    return ItemFeatures(flat, torch.tensor([0, *map(len, rows)]).cumsum(0), count)


def test_attributes_side_by_side_end_where_an_item_has_no_more():
    features = features_of([[2, 0], [], [1], [0, 1, 3]], 4)
    assert features.num_items == 4
    assert features.without_attributes == 1
    assert features.attribute_table().tolist() == [
        [2, 0, 4], [4, 4, 4], [1, 4, 4], [0, 1, 3], [4, 4, 4],
    ]  # fmt: skip


def test_items_without_any_attribute_are_legal_until_a_model_needs_them():
    features = features_of([[], []], 0)
    assert features.attribute_table().tolist() == [[0], [0], [0]]
    with pytest.raises(MacrecError, match="fdsa: none of 2 items has a brand or a category"):
        features.require_attributes("fdsa")


@pytest.mark.parametrize("name", ["fdsa", "s3rec"])
def test_such_models_are_not_made_of_them(make_model, name):
    with pytest.raises(MacrecError, match=rf"{name}: none of 3 items has a brand or a category"):
        make_model(name, features=features_of([[], [], []], 0))
