"""Units as functions of their own: the sums of their costs are the costs of whole nets."""

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf.cost import counts
from oneshot_tf.cost.unit_names import unit_names
from oneshot_tf.nn.operations import run_stages
from oneshot_tf.space.stacking import num_units
from oneshot_tf.timing.units import units_of

SIZE = 12
STACKS = [ost.Stack(3, 4), ost.Stack(2, 6, 0), ost.Stack(2, 4, stem_stride=4)]


def counted(unit):
    """The multiply-adds of a unit's function for one image, from the shapes in its graph."""
    spec = tf.TensorSpec([1, *unit.shape])
    graph = tf.function(unit.function, autograph=False).get_concrete_function(spec).graph
    total = 0
    for op in graph.get_operations():
        if op.type in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
            given, kernel = op.inputs[0].shape, op.inputs[1].shape
            reads = np.prod(kernel[:3]) if op.type == "Conv2D" else np.prod(kernel[:2])
            outputs = np.prod([n or 1 for n in op.outputs[0].shape])
            total += given[-1] * outputs if op.type == "MatMul" else reads * outputs
    return total


@pytest.mark.parametrize("stack", STACKS, ids=str)
def test_units_compute_what_is_counted(small_space, stack):
    net = ost.Standalone(small_space, small_space.all_on(), stack, 10)
    names = unit_names(small_space, stack, SIZE)
    assert len(names) == num_units(small_space, stack.num_cells)
    costs = counts.unit_costs(small_space, stack, 10, SIZE)
    units = units_of(net, SIZE)
    assert [unit.name for unit in units] == list(dict.fromkeys(names))
    for unit in units:
        same = {int(adds) for name, (_, adds) in zip(names, costs) if name == unit.name}
        assert same == {counted(unit)}, unit.name


def test_units_put_together_are_the_net(small_space):
    """A chain of units gives the logits of a net without choices."""
    architecture = ost.Architecture.from_text("prev2:sep3x3 | block0:max3x3")
    stack = ost.Stack(1, 4, 0)
    net = ost.Standalone(small_space, small_space.all_on(), stack, 10, seed=3)
    names = unit_names(small_space, stack, SIZE)
    functions = {unit.name: unit.function for unit in units_of(net, SIZE)}
    assert len(functions) < len(names)  # units of one name are timed once
    images = tf.random.stateless_normal([2, SIZE, SIZE, 3], (0, 1))
    alone = ost.Standalone(small_space, architecture, stack, 10, seed=0)
    for variable in alone.trainable_variables:
        (same,) = [v for v in net.trainable_variables if v.path == variable.path]
        variable.assign(same)
    (cell,) = net.cells
    x = functions["stem 12x12x3 to 4"](images)
    first = cell.path_layers[small_space.input_paths(0)[0]]
    stages = first.stages()
    read = functions["read 12x12x4"](x)
    block0 = functions["sep3x3 12x12x4"](run_stages(stages, read))
    second = cell.path_layers[small_space.input_paths(1)[2]]
    block1 = functions["max3x3 12x12x4"](
        run_stages(second.stages(), functions["read 12x12x4"](block0))
    )
    found = functions["classifier 12x12x8"](tf.concat([block0, block1], axis=-1))
    np.testing.assert_allclose(found, tf.nn.softmax(alone(images)), atol=1e-6)
