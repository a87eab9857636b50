"""Estimates: planted costs are found, errors come from other nets, margins widen limits."""

import numpy as np
import pytest

import oneshot_tf as ost
from oneshot_tf.cost.counts import unit_costs, usage
from oneshot_tf.cost.estimates import Estimate, fit

STACK = ost.Stack(2, 4)


@pytest.fixture(scope="module")
def planted(space):
    """60 nets, and two columns of units: random times, and multiply-adds."""
    rng = np.random.default_rng(0)
    nets = [space.sample(rng) for _ in range(60)]
    adds = unit_costs(space, STACK, 10, 8)[:, 1] / 1e6
    columns = np.stack([rng.uniform(0.01, 0.1, len(adds)), adds])
    return nets, usage(space, STACK.num_cells, nets), columns


def test_planted_costs_are_found(space, planted):
    nets, used, columns = planted
    true = used @ (1.4 * columns[0] + 3.0 * columns[1]) + 0.7
    found = fit(columns, used, true, 8)
    np.testing.assert_allclose(found.per_unit, 1.4 * columns[0] + 3.0 * columns[1])
    assert found.constant == pytest.approx(0.7) and found.worst_error < 1e-6
    np.testing.assert_allclose(found.of(space, STACK.num_cells, nets), true)


def test_errors_are_those_of_nets_that_were_not_fitted(planted):
    _, used, columns = planted
    true = used @ columns[0] + 1.0
    wrong = true.copy()
    wrong[40:] *= np.linspace(1.0, 1.25, 20)  # only checked nets
    found = fit(columns, used, wrong, 40)
    assert found.worst_error == pytest.approx(1 - 1 / 1.25)
    assert found.mean_error == pytest.approx(np.mean(1 - 1 / np.linspace(1.0, 1.25, 20)))
    assert fit(columns, used, true, len(used)).worst_error is None


def test_no_weight_is_negative(planted):
    _, used, columns = planted
    true = 10.0 - used @ columns[0]  # falls with the time of the units
    found = fit(columns, used, true, 50)
    assert min(*found.per_unit, found.constant) >= 0 and found.worst_error > 0.01


def test_a_weight_is_negative_where_it_may_be(planted):
    _, used, columns = planted
    columns = np.stack([columns[0], np.ones(len(columns[0]))])
    true = used @ (columns[0] - 0.002) + 1.0
    found = fit(columns, used, true, 8, any_sign=(1,))
    np.testing.assert_allclose(found.per_unit, columns[0] - 0.002, atol=1e-9)
    assert fit(columns, used, true, 8).worst_error > 0.001 > 1e-6 > found.worst_error


def test_the_margin_is_the_worst_error_until_a_net_is_measured(space, planted):
    nets, used, columns = planted
    estimate = Estimate(columns[0], 0.5, worst_error=0.1, known={nets[0]: 7.0})
    expected = 1.1 * (used @ columns[0] + 0.5)
    expected[0] = 7.0
    np.testing.assert_allclose(estimate.at_most(space, STACK.num_cells, nets), expected)
