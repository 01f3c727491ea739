from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from macrec_core.significance import (
    bootstrap_means,
    compare_all,
    holm,
    over_seeds,
    paired_t_test,
)


@pytest.fixture
def params(committed_params):
    """`significance` with 2,000 draws."""
    return committed_params.significance.model_copy(update={"bootstrap_draws": 2000})


# ---------------------------------------------------------------------------------- bootstrap


def test_all_rows_of_a_draw_are_means_over_the_same_resampled_users():
    # The second row is twice the first, the third 1 for everybody.
    first = np.array([0.0, 1.0, 1.0, 5.0])
    values = np.stack([first, 2 * first, np.ones(4)], axis=1)
    means = bootstrap_means(values, 5000, np.random.default_rng(0))
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0])
    np.testing.assert_allclose(means[:, 2], 1.0)
    # 4 users with replacement: the mean takes only values of sums of 4 of them, and both ends.
    assert set(np.unique(means[:, 0] * 4)) <= {float(s) for s in range(21)}
    assert means[:, 0].min() == 0.0
    assert means[:, 0].max() == 5.0


def test_draws_do_not_depend_on_how_many_are_made_at_once(monkeypatch):
    values = np.random.default_rng(1).random((50, 2))
    whole = bootstrap_means(values, 40, np.random.default_rng(3))
    monkeypatch.setattr("macrec_core.significance._DRAWN_AT_ONCE", 350)
    # A sum's last bit is the library's affair.
    again = bootstrap_means(values, 40, np.random.default_rng(3))
    np.testing.assert_allclose(again, whole, rtol=1e-14)


def test_the_bootstrap_agrees_with_the_normal_approximation(params):
    rng = np.random.default_rng(5)
    base = rng.random(3000)
    values = {"a": base + rng.normal(0.01, 0.4, 3000), "b": base}
    found = compare_all(values, params.model_copy(update={"bootstrap_draws": 20000}))["a", "b"]
    apart = values["a"] - values["b"]
    error = apart.std(ddof=1) / np.sqrt(len(apart))
    assert found.difference == pytest.approx(apart.mean())
    assert found.low == pytest.approx(apart.mean() - 1.96 * error, abs=0.05 * error)
    assert found.high == pytest.approx(apart.mean() + 1.96 * error, abs=0.05 * error)
    normal = 2 * stats.norm.sf(abs(apart.mean()) / error)
    assert 0.001 < normal < 0.2, "the example must not be a clear one"
    assert found.p_bootstrap == pytest.approx(normal, abs=0.01)


def test_without_a_difference_p_values_are_uniform(committed_params):
    """200 data sets whose rows differ by chance: 5 % of the p lie below .05, 50 % below .5."""
    params = committed_params.significance.model_copy(update={"bootstrap_draws": 400})
    rng = np.random.default_rng(11)
    bootstrap, t_test = [], []
    for _ in range(200):
        hits = rng.random((300, 2)) < 0.3
        values = {"a": hits[:, 0].astype(float), "b": hits[:, 1].astype(float)}
        found = compare_all(values, params)["a", "b"]
        bootstrap.append(found.p_bootstrap)
        t_test.append(found.p_t)
    for p in (bootstrap, t_test):
        # Three standard deviations of a binomial share.
        assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.047)
        assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.107)


def test_a_clear_difference_has_the_least_p_that_the_draws_allow(params):
    values = {"good": np.ones(100), "bad": np.zeros(100)}
    found = compare_all(values, params)["good", "bad"]
    assert (found.difference, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.p_bootstrap == pytest.approx(1 / 2001)
    assert found.p_t == 0.0


def test_equal_rows_do_not_differ(params):
    same = np.random.default_rng(0).random(80)
    found = compare_all({"a": same, "b": same.copy()}, params)["a", "b"]
    assert (found.difference, found.p_bootstrap, found.p_t) == (0.0, 1.0, 1.0)


def test_pairs_are_all_in_the_order_of_the_rows_and_the_same_every_time(params):
    rng = np.random.default_rng(2)
    values = {name: rng.random(60) for name in ("x", "a", "m")}
    found = compare_all(values, params)
    assert list(found) == [("x", "a"), ("x", "m"), ("a", "m")]
    assert compare_all(values, params) == found
    other = compare_all(values, params.model_copy(update={"seed": 1}))
    assert other["x", "a"].p_t == found["x", "a"].p_t
    assert other["x", "a"].low != found["x", "a"].low
    assert compare_all({"x": values["x"]}, params) == {}


def test_the_interval_widens_with_the_confidence(params):
    rng = np.random.default_rng(2)
    values = {name: rng.random(200) for name in ("a", "b")}
    low = compare_all(values, params.model_copy(update={"confidence": 0.5}))["a", "b"]
    high = compare_all(values, params)["a", "b"]
    assert high.low < low.low < low.high < high.high


# ------------------------------------------------------------------------------------- t-test


def test_the_t_test_is_scipys():
    rng = np.random.default_rng(4)
    one, other = rng.random(25), rng.random(25) + 0.1
    expected = stats.ttest_rel(one, other).pvalue
    assert 0 < expected < 1
    assert paired_t_test(one - other) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("differences", "p"), [([0.0, 0.0], 1.0), ([0.5, 0.5], 0.0), ([3.0], 1.0)])
def test_differences_without_spread(differences, p):
    assert paired_t_test(np.array(differences)) == p


# --------------------------------------------------------------------------------------- Holm


def test_holm_by_hand():
    # Ascending: .01 x 4 = .04, .02 x 3 = .06, .03 x 2 = .06, .5 x 1 = .5.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])


def test_holm_never_decreases_and_ends_at_one():
    # .02 x 3 = .06; .021 x 2 = .042, raised to .06; .9 x 1 = .9.
    assert holm([0.02, 0.021, 0.9]) == pytest.approx([0.06, 0.06, 0.9])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.03]) == [0.03]


# -------------------------------------------------------------------------------------- seeds


def test_the_interval_over_seeds_by_hand():
    # Differences .1, .2, .3: mean .2, deviation .1; t(.975, 2) = 4.30265.
    found = over_seeds([0.3, 0.5, 0.7], [0.2, 0.3, 0.4], 0.95)
    reach = 4.302653 * 0.1 / np.sqrt(3)
    assert found.difference == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.2 - reach, 0.2 + reach), rel=1e-6)
    assert found.count == 3


def test_one_seed_gives_no_interval():
    assert over_seeds([0.3], [0.2], 0.95) is None
    assert over_seeds([], [], 0.95) is None
