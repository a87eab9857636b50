"""A run whose one-shot model has random weights, and its searches and trainings, to share them."""

import os

import auto_runs

import oneshot_tf as ost
from oneshot_tf import retrain, search, settings
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.strategies import PathDropoutSettings, RandomSearchSettings

DEVICE = settings.DeviceSettings(distribution="cpu", log_steps=1, checkpoint_steps=2)
GROUPS = {
    "data": settings.DataSettings(dataset="digits", num_validation=100),
    "model": settings.ModelSettings(num_blocks=1, num_cells=1, filters=2),
    "train": settings.TrainSettings(batch_size=32, augmentation="none"),
    "one_shot": settings.OneShotSettings(train_steps=2),
    "strategy": PathDropoutSettings(),
    "device": DEVICE,
}
SHARED = settings.SharingSettings(share_work=True, claim_seconds=2.0)
ALONE = settings.SharingSettings()
SEARCH = {"num_candidates": 40}
# One net, two runs, of five steps.
RETRAIN = {"top": 1, "count": 1, "repeats": 2, "epochs": 0.1}


def begin(path, digits):
    """Makes the run."""
    space, model = ost.bender2018(1), GROUPS["model"]
    facts = {"class_names": list(digits.class_names), "image_size": 8,
             "mean": digits.mean.tolist(), "std": digits.std.tolist(),
             "fingerprint": digits.fingerprint()}  # fmt: skip
    RunDirectory(path).begin(GROUPS, space, [], facts)
    supernet = ost.Supernet(space, model.stack(), digits.num_classes, seed=1)
    owner = RunDirectory(path).run_id()
    Checkpoints(path / "checkpoints", owner=owner).save(2, supernet.variables)
    return path


def run_search(path, sharing=SHARED, strategy=None, limits=None, device=DEVICE, **values):
    search.main(
        settings.RunSettings(run_dir=str(path)), search.SearchSettings(**{**SEARCH, **values}),
        strategy or RandomSearchSettings(), settings.LocationSettings(), device, limits, sharing,
    )  # fmt: skip


def run_retrain(path, sharing=SHARED, train=GROUPS["train"], device=DEVICE, **values):
    retrain.main(
        settings.RunSettings(run_dir=str(path)), settings.RetrainSettings(**{**RETRAIN, **values}),
        train, device, settings.LocationSettings(), None, None, sharing,
    )  # fmt: skip


def run_auto(path, sharing=SHARED):
    auto_runs.start(path, sharing=sharing)


def contents(path):
    """The files of a run that must be the same, and all other names of files and folders.

    Left out: what differs between two starts of one command.
    """
    found = {}
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if name != "tensorboard"]
        for name in files:
            at = os.path.join(folder, name)
            key = os.path.relpath(at, path)
            with open(at, "rb") as file:
                text = file.read()
            if name == "metrics.jsonl":
                text = [line.partition(b', "images_per_second"')[0] for line in text.splitlines()]
            changing = name == "provenance.jsonl" or name.startswith("live")
            found[key] = None if changing else text
        found |= {os.path.relpath(os.path.join(folder, name), path): "folder" for name in folders}
    return found


def differing(one, other):
    """The names whose contents differ."""
    one, other = contents(one), contents(other)
    return [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
