"""Estimates of costs that can only be measured: a value for each unit, and a constant.

The latency of a net and the size of its file are nearly sums over the units in use. The values of
the units come from nets that were measured. Other nets that were measured give the error.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import nnls

from oneshot_tf.cost.counts import usage
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.space import Space


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A cost of architectures.

    Args:
        per_unit: The cost of each unit, float `[U]`, in the order of
            `space.kinds.unit_usage`.
        constant: The cost that all nets have.
        mean_error, worst_error: Relative errors on nets that the values do not come from. None if
            no such net was measured.
        known: The cost of architectures that were measured.
    """

    per_unit: np.ndarray
    constant: float
    mean_error: float | None = None
    worst_error: float | None = None
    known: Mapping[Architecture, float] = dataclasses.field(default_factory=dict)

    def of(self, space: Space, num_cells: int, architectures: Sequence[Architecture]) -> np.ndarray:
        """Returns the estimated costs, float `[A]`, whether or not they were measured."""
        return usage(space, num_cells, architectures) @ self.per_unit + self.constant

    def at_most(
        self, space: Space, num_cells: int, architectures: Sequence[Architecture]
    ) -> np.ndarray:
        """Returns what the architectures should cost at most, float `[A]`.

        This is the measured cost where it is known. Otherwise it is the estimate, plus the worst
        error.
        """
        estimated = self.of(space, num_cells, architectures) * (1 + (self.worst_error or 0.0))
        pairs = zip(architectures, estimated.tolist())
        return np.array([self.known.get(a, value) for a, value in pairs], float)


def fit(
    columns: np.ndarray,
    used: np.ndarray,
    measured: np.ndarray,
    num_fitted: int,
    any_sign: Sequence[int] = (),
) -> Estimate:
    """Fits an estimate to measured nets.

    The value of a unit is a weighted sum of the columns. Relative errors count.

    Args:
        columns: Values of each unit that the cost may depend on, float `[C, U]`.
        used: The units that each net uses, `[A, U]` of 0 and 1.
        measured: The cost of each net, float `[A]`, all above 0.
        num_fitted: Number of nets, the first ones, that the weights come from. The others give
            the errors.
        any_sign: Columns whose weights may be negative. The other weights and the constant may
            not.

    Returns:
        The estimate. Its `known` is empty.
    """
    features = np.concatenate([used @ columns.T, np.ones([len(used), 1])], axis=1)
    scales = np.maximum(np.abs(features).max(axis=0), 1e-30)  # nnls wants columns of like size
    relative = features[:num_fitted] / scales / measured[:num_fitted, np.newaxis]
    # A negative weight is a weight of the negated column.
    both = np.concatenate([relative, -relative[:, list(any_sign)]], axis=1)
    found = nnls(both, np.ones(num_fitted))[0]
    weights, negative = found[: len(scales)], found[len(scales) :]
    weights[list(any_sign)] -= negative
    weights /= scales
    per_unit, constant = weights[:-1] @ columns, float(weights[-1])
    checked = slice(num_fitted, None)
    errors = np.abs((used[checked] @ per_unit + constant) / measured[checked] - 1)
    if not len(errors):
        return Estimate(per_unit, constant)
    return Estimate(per_unit, constant, float(errors.mean()), float(errors.max()))
