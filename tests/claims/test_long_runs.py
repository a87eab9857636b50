"""What shows only in processes of their own: four devices, flat memory, kills."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

CHAOS = pathlib.Path(__file__).parents[2] / "run_scripts" / "chaos.py"
FOUR = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
import oneshot_tf as ost
digits = ost.load_data("digits", num_validation=100)
space = ost.bender2018(num_blocks=1)
settings = ost.TrainSettings(batch_size=32, ghost_batch_size=4)

def train():
    net = ost.Supernet(space, ost.Stack(2, 4), num_classes=10, seed=3)
    last = ost.fit_supernet(net, digits, ost.PathDropout(space, 0.3, "constant"), 4, settings, 5)
    return np.concatenate([np.ravel(v.numpy()) for v in net.variables]), last["loss"]

one, loss = train()
with tf.distribute.MirroredStrategy([d.name for d in tf.config.list_logical_devices()]).scope():
    four, loss_of_four = train()
np.testing.assert_allclose(four, one, atol=2e-5)
np.testing.assert_allclose(loss_of_four, loss, rtol=1e-4)
print("equal")
"""

MEMORY = """
import gc, json, tempfile
import numpy as np, psutil
import oneshot_tf as ost
from oneshot_tf.learning.loop import Loop
from oneshot_tf.settings import DeviceSettings

def memory():
    gc.collect()
    return psutil.Process().memory_info().rss / 1e6

digits = ost.load_data("digits", num_validation=64)
space = ost.bender2018(num_blocks=2)
net = ost.Supernet(space, ost.Stack(2, 4), num_classes=10)
settings = ost.TrainSettings(batch_size=32)
found = {"training": [], "search": []}
original = Loop._step

def step(self, batch, number):
    original(self, batch, number)
    if (number + 1) % 50 == 0:
        found["training"].append(memory())

Loop._step = step
with tempfile.TemporaryDirectory() as folder:
    device = DeviceSettings(log_steps=10, checkpoint_steps=100)
    sampler = ost.PathDropout(space, 0.5, "constant")  # one graph
    ost.fit_supernet(net, digits, sampler, 500, settings, 0, folder, device=device)
evaluator = ost.CandidateEvaluator(net, digits.validation, digits.normalize)
architectures = ost.RandomSearch(space, seed=0).propose(2000)
for start in range(0, 2000, 50):
    evaluator(architectures[start : start + 50])
    if (start + 50) % 200 == 0:
        found["search"].append(memory())
print(json.dumps(found))
"""


def run(program):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_four_devices_are_one():
    assert run(FOUR) == "equal"


@pytest.mark.slow
def test_memory_is_flat_after_the_first_tenth():
    """Over 500 training steps with their checkpoints, and over 2,000 candidates."""
    for work, megabytes in json.loads(run(MEMORY)).items():
        assert len(megabytes) == 10
        assert max(megabytes[1:]) < 1.05 * megabytes[0], (work, megabytes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "count, flags",
    [(2, ["--only=train", "--kills=1"]), (10, [])],
)
def test_killed_programs_end_with_the_same(count, flags):
    command = [sys.executable, CHAOS, f"--trials={count}", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    kills = int(done.stdout.split(f"survived {count}/{count} (")[1].split()[0])
    assert kills > 0
