"""How masks enter the computation: the one place that knows.

A net sums its paths through `sum` and reads its tensors through `read`; which
object it does that with decides what a dropped path costs. All give the same
numbers. A path is (its number, what it reads, the stages that it runs).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from oneshot_tf.nn.operations import Stage, run_stages


class AllPaths:
    """Every path that was built is used: stand-alone nets."""

    def sum(self, terms: Sequence[Any], like: tf.Tensor):
        """The sum of what the paths make of their inputs.

        Args:
            terms: for each path its number, input `[B, H, W, C]`, and stages.
            like: the shape `[B, H, W, C]` of the sum.
        """
        return tf.add_n([run_stages(stages, x) for _, x, stages in terms])

    def read(self, paths: Any, x: tf.Tensor, stages: Any, like: tf.Tensor):
        """What the stages make of `x`: a tensor of shape `like` that each of `paths` reads."""
        return run_stages(stages, x)


class MaskedPaths(AllPaths):
    """Each image weights the paths by the row of masks of its ghost batch.

    Everything is computed: right for accelerators, and for XLA, which wants
    shapes that do not depend on values.

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
    """All images share one row of masks, and what it drops is not computed, nor its gradient.

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
    """The same stages with `weight` times their result."""
    if stages and stages[-1].linear:  # cheaper: the kernel is smaller than the images
        last = stages[-1]
        return [*stages[:-1], last._replace(weights=(weight * last.weights[0], *last.weights[1:]))]
    return [*stages, Stage(tf.multiply, (weight,))]


def _add_if(used: Any, total: Any, x: tf.Tensor, stages: Any, like: tf.Tensor):
    """`total` plus what the stages make of `x`, if `used`; otherwise `total`, None for zero.

    Neither forwards nor backwards does an unused path cost anything.
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
    """One for each kind of path and shape: what is traced and compiled does not grow with cells."""
    specs = [tf.TensorSpec(*spec) for spec in specs]
    return _Chain(functions, counts, specs, like, num_totals)


class _Chain:
    """Stages run one after another, and their gradients, each under a condition.

    Backwards, each stage runs again from the input that was kept for it; where
    its gradient needs only that (convolutions), the graph drops the repetition.

    Args:
        functions: of the stages.
        counts: how many weights each takes.
        specs: of x and of all weights.
        like: shape of the result.
        num_totals: 1 if there is something to add to, or 0.
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
        """The sum, and what each stage but the first was given."""
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
            # A zero, whatever x is, but not a constant: TensorFlow would store megabytes of them.
            one = x[0, 0, 0, 0]
            total = tf.fill(self.like, tf.cast(tf.less(one, one), x.dtype))
        return [total] + [tf.zeros([0], x.dtype)] * self.num_kept

    def _gradient(self, dy: tf.Tensor, *rest: Any):
        """Gradients of x and of the weights, from what `_add` kept."""
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
    """`then(*args)` if a condition holds, `otherwise(*args)` if not, computed only if so.

    tf.cond would trace both anew at every place; a six-cell step has 564 of them
    and 84 kinds. Here a kind is traced once and all its places share the graphs.

    Args:
        then, otherwise: functions of tensors with results of equal number and type.
        specs: of their arguments.
    """

    def __init__(self, then: Callable[[tf.Tensor], tf.Tensor], otherwise: Any, specs: Any):
        # Not inlined, so that TensorFlow optimises it as it does a graph of its own: in a branch
        # it would leave out the kernels of oneDNN, and be 2.5 times slower.
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
