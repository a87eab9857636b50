"""Run directories and candidates to test with, as a search would have made them."""

import json

import numpy as np

import oneshot_tf as ost
from oneshot_tf import settings
from oneshot_tf.cost import counts
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.runs.directory import RunDirectory

STACK, CLASSES, SIZE, IMAGES = ost.Stack(2, 4), 10, 8, 400


def candidates(space, count=50):
    rng = np.random.default_rng(0)
    architectures = ost.RandomSearch(space, seed=0).propose(count)
    costs = zip(*map(np.ndarray.tolist, counts.costs(space, architectures, STACK, CLASSES, SIZE)))
    return [
        Candidate(a, int(rng.integers(IMAGES + 1)) / IMAGES, float(rng.random()), IMAGES, *each)
        for a, each in zip(architectures, costs)
    ]


def begin(path, space):
    """A run directory whose validation set has `IMAGES` images."""
    directory = RunDirectory(path)
    groups = {
        "data": settings.DataSettings(dataset="digits"),
        "model": settings.ModelSettings(
            num_blocks=space.num_blocks, num_cells=STACK.num_cells, filters=STACK.filters
        ),
        "train": settings.TrainSettings(),
        "one_shot": settings.OneShotSettings(train_steps=6),
        "device": settings.DeviceSettings(),
    }
    counts = {"train": [1000, 1, 1], "validation": [IMAGES, 1, 1], "test": [10, 1, 1]}
    names = [str(i) for i in range(CLASSES)]
    facts = {"class_names": names, "image_size": SIZE, "mean": [0.5] * 3, "std": [0.2] * 3,
             "fingerprint": counts}  # fmt: skip
    directory.begin(groups, space, [], facts)
    return directory


def earlier(directory):
    """Makes of a run directory one that an earlier version began: it has no id."""
    config = json.loads((directory.path / "config.json").read_text())
    del config["run_id"], config["checksum"]
    (directory.path / "config.json").write_text(json.dumps({**config, "version": 1}))
    return directory


def note_search(directory, **values):
    """Writes search.json."""
    path = directory.path / "search.json"
    path.write_text(json.dumps({"run_id": directory.run_id(), **values}))
