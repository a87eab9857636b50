"""Two logical CPU devices, and small things to test with."""

import numpy as np
import pytest
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

import oneshot_tf as ost  # noqa: E402


@pytest.fixture(scope="session")
def space():
    """The paper's space."""
    return ost.bender2018()


@pytest.fixture(scope="session")
def digits():
    return ost.load_data("digits", num_validation=100)


@pytest.fixture(scope="session")
def small_space():
    """Two blocks: 3 * 7 * 28^2 cells, quick to build."""
    return ost.bender2018(num_blocks=2)


@pytest.fixture(scope="session")
def small_supernet(small_space):
    """Three cells, so that inputs are joined in every way; random weights and offsets."""
    supernet = ost.Supernet(small_space, num_cells=3, filters=4, num_classes=5, seed=1)
    randomize_offsets(supernet)
    return supernet


def randomize_offsets(net, seed=0):
    """Batch-norm offsets away from their initial zeros: zeros hide leaks."""
    rng = np.random.default_rng(seed)
    for variable in net.trainable_variables:
        if "offset" in variable.path or "bias" in variable.path:
            variable.assign(rng.normal(size=variable.shape))


def random_images(count, size=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, 3)).astype(np.float32)


def copy_weights(source, target):
    """Gives every variable of `target` that `source` has too the value it has there."""
    values = {variable.path: variable for variable in source.trainable_variables}
    for variable in target.trainable_variables:
        variable.assign(values[variable.path])
