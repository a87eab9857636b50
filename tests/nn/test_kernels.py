"""Every operation of a net computes the same with oneDNN's kernels and without them.

The package turns oneDNN on, also on CPUs for which TensorFlow leaves it off by default.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
COMPUTE = """if True:
    import sys
    import numpy as np, tensorflow as tf
    from oneshot_tf.nn.convolutions import convolve, depthwise_convolve
    from oneshot_tf.nn.ghost_batch_norm import normalize_ghosts
    from oneshot_tf.nn.operations import pooling

    found = {}

    def compute(name, function, *shapes):
        rng = np.random.default_rng(0)
        given = [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]
        with tf.GradientTape() as tape:
            tape.watch(given)
            y = function(*given)
            loss = tf.reduce_sum(y * tf.constant(rng.normal(size=y.shape), tf.float32))
        for i, value in enumerate([y, *tape.gradient(loss, given)]):
            found[f"{name}, {i}"] = value.numpy()

    for batch, size, c, d in ((2, 8, 4, 8), (32, 16, 3, 8), (32, 9, 8, 8), (64, 8, 6, 12)):
        x = (batch, size, size, c)
        for h, w, stride in ((1, 1, 1), (1, 1, 2), (3, 3, 1), (3, 3, 2), (1, 7, 1), (7, 1, 1)):
            conv = lambda x, k, stride=stride: convolve(x, k, stride)
            compute(f"{x} by {h}x{w} to {d}, stride {stride}", conv, x, (h, w, c, d))
        for k in (3, 5, 7):
            compute(f"{x} depthwise {k}", depthwise_convolve, x, (k, k, c, 1))
        for kind, k, stride in (("MAX", 3, 1), ("AVG", 3, 1), ("AVG", 2, 2)):
            compute(f"{x} {kind} {k}, stride {stride}", pooling(kind, k, stride), x)
        norm = lambda x, b: normalize_ghosts(x, b, num_ghosts=2, epsilon=1e-3)[0]
        compute(f"{x} ghost batch norm", norm, x, (c,))
    np.savez(sys.argv[1], **found)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    for kernels in ("0", "1"):
        env = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": kernels, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", COMPUTE, str(folder / f"{kernels}.npz")]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    with np.load(folder / "0.npz") as plain, np.load(folder / "1.npz") as onednn:
        return {name: (plain[name], onednn[name]) for name in plain.files}


def test_outputs_and_gradients_agree(outcomes):
    errors = {
        name: float(np.abs(one - other).max() / np.abs(one).max())
        for name, (one, other) in outcomes.items()
    }
    assert len(errors) == 4 * (6 * 3 + 3 * 3 + 3 * 2 + 3)
    assert {name: error for name, error in errors.items() if error > 1e-4} == {}
