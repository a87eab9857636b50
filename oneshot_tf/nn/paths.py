"""How masks enter the computation. No other module applies masks.

A model sums its paths through `sum` and reads its tensors through `read`. The class of the object
decides what a dropped path costs. All classes give the same numbers. A path is a triple: its
number, its input, and its stages.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.nn.operations import Stage, run_stages


class AllPaths:
    """Paths that are all used, as in stand-alone models."""

    def in_cell(self, cell: int) -> "AllPaths":
        """Returns the paths of a cell, by its index. Here all cells have the same ones."""
        return self

    def sum(self, terms: Sequence[Any], like: tf.Tensor):
        """Runs each path's stages on its input and returns the sum of the results.

        Args:
            terms: For each path its number, its input `[B, H, W, C]`, and its stages.
            like: The shape `[B, H, W, C]` of the sum.
        """
        return tf.add_n([run_stages(stages, x) for _, x, stages in terms])

    def read(self, paths: Any, x: tf.Tensor, stages: Any, like: tf.Tensor):
        """Applies the stages to `x`. Returns a tensor of shape `like` for all `paths` to read."""
        return run_stages(stages, x)


class DroppedPaths(AllPaths):
    """Paths of stand-alone models that single images drop, as `learning.drop_path` draws them.

    Args:
        factors: A factor for each image, `[B, 1, 1, 1]`, by cell and path. Others are used as they
            are.
        cell: Index of the cell.
    """

    def __init__(self, factors: Mapping[tuple[int, int], tf.Tensor], cell: int = 0):
        self.factors, self.cell = factors, cell

    def in_cell(self, cell: int) -> "DroppedPaths":
        return DroppedPaths(self.factors, cell)

    def sum(self, terms: Sequence[Any], like: tf.Tensor):
        results = []
        for path, x, stages in terms:
            y = run_stages(stages, x)
            factor = self.factors.get((self.cell, path))
            results.append(y if factor is None else factor * y)
        return tf.add_n(results)


class MaskedPaths(AllPaths):
    """Paths multiplied by masks. Each image uses the row of masks of its ghost batch.

    All paths are computed, dropped ones too. This suits accelerators. XLA needs it, because its
    shapes must not depend on values.

    Args:
        masks: `[G, P]`.
        batch: B, a multiple of G.
    """

    def __init__(self, masks: Any, batch: int):
        weights = tf.repeat(masks, batch // masks.shape[0], axis=0)
        self.weights = weights[:, :, None, None, None]

    def sum(self, terms: Sequence[Any], like: tf.Tensor):
        return tf.add_n(
            [self.weights[:, path] * run_stages(stages, x) for path, x, stages in terms]
        )


class SkippedPaths(AllPaths):
    """Paths that are skipped when dropped, with their gradients. All images share one row of masks.

    Args:
        mask: `[P]`.
    """

    def __init__(self, mask: Any):
        self.weights = tf.unstack(mask)
        self.used = tf.unstack(tf.not_equal(mask, 0))

    def sum(self, terms: Sequence[Any], like: tf.Tensor):
        total = None
        for path, x, stages in terms:
            stages = _weighted(stages, self.weights[path])
            total = _add_if(self.used[path], total, x, stages, like)
        return total

    def read(self, paths: Any, x: tf.Tensor, stages: Any, like: tf.Tensor):
        used = tf.reduce_any(tf.stack([self.used[path] for path in paths]))
        return _add_if(used, None, x, stages, like)


def _weighted(stages: Any, weight: Any):
    """Returns stages whose result is `weight` times that of `stages`."""
    if stages and stages[-1].linear:  # scaling the kernel is cheaper: it is smaller than images
        last = stages[-1]
        return [*stages[:-1], last._replace(weights=(weight * last.weights[0], *last.weights[1:]))]
    return [*stages, Stage(tf.multiply, (weight,))]


def _add_if(used: Any, total: Any, x: tf.Tensor, stages: Any, like: tf.Tensor):
    """Applies the stages to `x` and adds the result to `total` if `used`, else returns `total`.

    A `total` of None stands for zero. An unused path costs nothing, neither forwards nor backwards.
    """
    weights = [w for stage in stages for w in stage.weights]
    totals = [] if total is None else [total]
    chain = _chain(
        tuple(stage.function for stage in stages),
        tuple(len(stage.weights) for stage in stages),
        tuple((tuple(t.shape), t.dtype) for t in [x, *weights]),
        tuple(like),
        len(totals),
    )

    @tf.custom_gradient
    def add(used: Any, x: tf.Tensor, *tensors: Any):
        result, *kept = chain.add_if(used, x, *tensors)

        def gradient(dy: tf.Tensor):
            dx, *gradients = chain.gradient_if(used, dy, x, *kept, *tensors[len(totals) :])
            return [None, dx, *([dy] * len(totals)), *gradients]

        return result, gradient

    return add(used, x, *totals, *weights)


@functools.cache
def _chain(functions: Any, counts: Any, specs: Any, like: tf.Tensor, num_totals: int):
    """Returns the one `_Chain` of a kind of path and shape.

    Cells share their chains, so more cells do not add graphs to trace and compile.
    """
    specs = [tf.TensorSpec(*spec) for spec in specs]
    return _Chain(functions, counts, specs, like, num_totals)


class _Chain:
    """A run of stages, one after another, and its gradient, each under a condition.

    The forward pass keeps the input of each stage. The backward pass runs each stage again from
    its input. TensorFlow drops this repetition where the gradient needs only the input, as that of
    a convolution does.

    Args:
        functions: The functions of the stages.
        counts: The number of weights that each stage takes.
        specs: Shapes and types of x and of all weights.
        like: Shape of the result.
        num_totals: 1 if the result is added to a total, otherwise 0.
    """

    def __init__(self, functions: Any, counts: Any, specs: Any, like: tf.Tensor, num_totals: int):
        self.functions, self.counts, self.like = functions, counts, like
        self.num_totals, self.num_kept = num_totals, max(0, len(functions) - 1)
        x, *weights = specs
        total = [tf.TensorSpec(like, x.dtype)] * num_totals
        self._forward_specs = [x, *total, *weights]
        self.add_if = _Conditional(self._add, self._keep, self._forward_specs)
        kept = [tf.TensorSpec(t.shape, t.dtype) for t in self.add_if.outputs[1:]]
        self._backward_specs = [tf.TensorSpec(like, x.dtype), x, *kept, *weights]

    @functools.cached_property
    def gradient_if(self):
        return _Conditional(self._gradient, self._no_gradient, self._backward_specs)

    def _add(self, x: tf.Tensor, *tensors: Any):
        """Returns the sum, and the inputs of all stages except the first."""
        totals, weights = tensors[: self.num_totals], tensors[self.num_totals :]
        given = []
        for function, ws in zip(self.functions, self._by_stage(weights)):
            given.append(x)
            x = function(x, *ws)
        return [tf.add_n([*totals, x]), *given[1:]]

    def _keep(self, x: tf.Tensor, *tensors: Any):
        if self.num_totals:
            total = tensors[0]
        else:
            # A zero for every x. A constant zero would not do: TensorFlow would store megabytes.
            one = x[0, 0, 0, 0]
            total = tf.fill(self.like, tf.cast(tf.less(one, one), x.dtype))
        return [total] + [tf.zeros([0], x.dtype)] * self.num_kept

    def _gradient(self, dy: tf.Tensor, *rest: Any):
        """Returns the gradients of x and of the weights, from the inputs that `_add` kept."""
        given = rest[: self.num_kept + 1]
        weights = self._by_stage(rest[self.num_kept + 1 :])
        gradients: list[Any] = []
        for function, x, ws in reversed(list(zip(self.functions, given, weights))):
            sources = [x, *ws]
            with tf.GradientTape() as tape:
                tape.watch(sources)
                y = function(*sources)
            dy, *more = tape.gradient(y, sources, dy)
            gradients = more + gradients
        return [dy, *gradients]

    def _no_gradient(self, dy: tf.Tensor, x: tf.Tensor, *rest: Any):
        del dy
        return [tf.raw_ops.ZerosLike(x=t) for t in (x, *rest[self.num_kept :])]

    def _by_stage(self, weights: Sequence[tf.Tensor]):
        ends = np.cumsum(self.counts).tolist()
        return [weights[end - n : end] for n, end in zip(self.counts, ends)]


class _Conditional:
    """Callable: computes `then(*args)` if a condition holds, otherwise `otherwise(*args)`.

    tf.cond would trace both functions again at every place. A step of six cells has 564 places of
    84 kinds. Here each kind is traced once, and all its places share the graphs.

    Args:
        then: A function of tensors.
        otherwise: A function of the same tensors. Its results have the number and types of those
            of `then`.
        specs: Shapes and types of the arguments.
    """

    def __init__(self, then: Callable[[tf.Tensor], tf.Tensor], otherwise: Any, specs: Any):
        # Not inlined, so that TensorFlow optimises it as a separate graph. Inside a branch it would
        # not use the kernels of oneDNN, and it would be 2.5 times slower.
        inner = _trace(then, specs, _noinline=True)
        self.then = _trace(lambda *args: inner(*args), specs)
        self.otherwise = _trace(otherwise, specs)
        self.outputs = self.then.structured_outputs

    def __call__(self, condition: tf.Tensor | bool, *args: Any):
        if tf.executing_eagerly():
            return (self.then if condition else self.otherwise)(*args)
        outputs = tf.raw_ops.StatelessIf(
            cond=condition,
            input=args,
            Tout=[t.dtype for t in self.outputs],
            then_branch=self.then,
            else_branch=self.otherwise,
        )
        for output, spec in zip(outputs, self.outputs):
            output.set_shape(spec.shape)
        return outputs


def _trace(function: Any, specs: Any, **attributes: Any):
    function = tf.function(function, autograph=False, experimental_attributes=attributes)
    return function.get_concrete_function(*specs)
