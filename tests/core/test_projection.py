from __future__ import annotations

import numpy as np
import pytest

from macrec_core.errors import MacrecError
from macrec_core.projection import project


def test_clusters_stay_together_and_apart():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 20)
    vectors = (10 * np.eye(3, 64)[groups] + rng.normal(0, 0.1, (60, 64))).astype(np.float32)
    points = project(vectors, 5.0, 0)
    assert points.shape == (60, 2)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    alike = groups[:, None] == groups[None]
    assert apart[alike].max() < apart[~alike].min()
    np.testing.assert_array_equal(project(vectors, 5.0, 0), points)


def test_a_perplexity_beyond_the_items_is_lowered_and_told(caplog):
    vectors = np.random.default_rng(0).random((7, 3), dtype=np.float32)
    assert project(vectors, 30.0, 0).shape == (7, 2)
    assert "embedding_plot.perplexity=30 is too high for 7 items; taking 2" in caplog.text


def test_three_items_are_too_few():
    with pytest.raises(MacrecError, match="t-SNE of 3 items"):
        project(np.eye(3, dtype=np.float32), 5.0, 0)
