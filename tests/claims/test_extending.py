"""Every code block of docs/extending.md and docs/examples/ runs, and what it adds can be used."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conformance_checks import check_proposer, check_sampler

import oneshot_tf as ost
from oneshot_tf import search, settings
from oneshot_tf.runs.selection import SELECTIONS, select
from oneshot_tf.serving.formats import FORMATS, write_formats
from oneshot_tf.serving.measuring import Judged
from oneshot_tf.serving.source import Source
from oneshot_tf.settings import RetrainSettings, command_line
from oneshot_tf.strategies import (
    DEFAULT_STRATEGY,
    LEARNERS,
    PROPOSERS,
    SAMPLERS,
    STRATEGIES,
    Outcome,
)

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = dict(re.findall(r"## An? ([\w ]+)\n.*?```python\n(.*?)```", TEXT, re.DOTALL))
REGISTRIES = {"sampler": SAMPLERS, "learner": LEARNERS, "proposer": PROPOSERS,
              "selection": SELECTIONS, "export format": FORMATS}  # fmt: skip


@pytest.fixture
def added(request):
    """Runs a block; yields the name that it adds, and takes it away again."""
    registry = REGISTRIES[request.param]
    before = dict(registry)
    exec(compile(BLOCKS[request.param], request.param, "exec"), {"__name__": "example"})
    (name,) = registry.keys() - before.keys()
    yield name
    del registry[name]


def test_there_is_an_example_of_each_dict():
    assert set(BLOCKS) == set(REGISTRIES)


@pytest.mark.parametrize("added", ["sampler"], indirect=True)
def test_the_sampler(added, space, digits):
    check_sampler(SAMPLERS[added])
    group = command_line.strategy(STRATEGIES, DEFAULT_STRATEGY)
    (chosen,) = command_line.parse(["train", f"--strategy={added}"], [group])
    sampler = SAMPLERS[added].make(space, chosen, 2)
    masks = sampler.sample(3, 0, 1).numpy()
    for paths in (list(d.paths) for d in space.decisions):
        np.testing.assert_array_equal(masks[:, paths].sum(axis=1), 1.0)
    small = ost.bender2018(num_blocks=1)
    net = ost.Supernet(small, ost.Stack(1, 4), num_classes=10)
    sampler = SAMPLERS[added].make(small, chosen, 2)
    line = ost.fit_supernet(net, digits, sampler, 2, ost.TrainSettings(batch_size=64))
    assert np.isfinite(line["loss"])


@pytest.mark.parametrize("added", ["learner"], indirect=True)
def test_the_learner(added, digits):
    check_sampler(LEARNERS[added])
    group = command_line.strategy(STRATEGIES, DEFAULT_STRATEGY)
    (chosen,) = command_line.parse(["train", f"--strategy={added}"], [group])
    space = ost.bender2018(num_blocks=1)
    learner = LEARNERS[added].make(space, chosen, 2)
    good = space.architecture((2, 20))  # two inputs and two operations; its paths are good
    for update in range(40):
        masks = learner.trial(8, tf.constant(update), 0)
        accuracies = tf.linalg.matvec(masks, tf.constant(space.masks([good])[0])) / 4
        learner.learn(Outcome(None, 1 - accuracies, accuracies), tf.constant(update), 0)
    assert learner.mode() == good
    learner = LEARNERS[added].make(space, chosen, 2)
    net = ost.Supernet(space, ost.Stack(1, 4), num_classes=10)
    line = ost.fit_supernet(net, digits, learner, 2, ost.TrainSettings(batch_size=64))
    assert "largest_value" in line and np.abs(learner.values.numpy()).max() > 0


@pytest.mark.parametrize("added", ["proposer"], indirect=True)
def test_the_proposer(added):
    check_proposer(PROPOSERS[added])
    groups = [settings.RunSettings, search.SearchSettings,
              command_line.strategy(PROPOSERS, "random")]  # fmt: skip
    line = ["search", "--run_dir=x", f"--strategy={added}", "--share=0.9"]
    assert command_line.parse(line, groups)[2].share == 0.9


@pytest.mark.parametrize("added", ["selection"], indirect=True)
def test_the_selection(added, space):
    from candidate_runs import candidates

    rows = candidates(space, 10)
    chosen = SELECTIONS[added](rows, RetrainSettings(count=3), np.random.default_rng(0))
    assert chosen == rows[-3:] and select(rows, RetrainSettings(count=3, top=10))


@pytest.mark.parametrize("added", ["export format"], indirect=True)
def test_the_export_format(added, tmp_path):
    net = ost.Standalone(
        ost.bender2018(1), ost.Architecture.from_text("prev1:sep3x3"), ost.Stack(1, 4), 3
    )
    net(tf.zeros([2, 8, 8, 3]))
    given = Judged(np.zeros([1, 8, 8, 3], np.uint8), np.zeros([1]), np.zeros([1, 3], "f"))
    assert write_formats(Source(net, None, tmp_path), tmp_path, [added], given) == []
    assert (tmp_path / "net.weights.h5").exists()


EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_each_example_is_short_and_runs(path, tmp_path):
    assert len(path.read_text().splitlines()) < 40
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
