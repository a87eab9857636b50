"""A changed file of a run directory: refused, or read as it was; never a silent change.

Every file that a program reads back is changed in every way of `run_scripts/mutations.py`, over
and over, and everything is read again by all readers.
"""

import json
import pathlib
import shutil
import signal
import sys

import keras
import numpy as np
import pytest
from conftest import complete_result

import oneshot_tf as ost
from oneshot_tf.cost import counts
from oneshot_tf.evaluation.racing import Race
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.learning.not_finite import Rollbacks
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate, ranked
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.results import read_results
from oneshot_tf.settings import (
    DataSettings,
    DeviceSettings,
    ModelSettings,
    OneShotSettings,
    TrainSettings,
)
from oneshot_tf.system.files import append_line
from oneshot_tf.system.json_files import check_run, read_json, read_json_lines, write_json

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "run_scripts"))
import mutations

SPACE = ost.bender2018(num_blocks=1)
CELLS = ost.RandomSearch(SPACE, 0).propose(12)
GROUPS = {
    "data": DataSettings(dataset="digits"),
    "model": ModelSettings(num_cells=2, filters=2, num_blocks=1),
    "train": TrainSettings(),
    "one_shot": OneShotSettings(train_steps=3),
    "device": DeviceSettings(),
}
READ_BACK = (
    "config.json",
    "space.json",
    "search.json",
    "candidates.csv",
    "race.npz",
    "rollbacks.json",
    "checkpoints/step_000000003.npz",
    "retrain/top/result.json",
)
PLOTTED = ("metrics.jsonl", "tracked.jsonl", "provenance.jsonl")


class Evaluator:
    num_images, chunk_size = 200, 50


def race_of(path, run_id):
    return Race(path, Evaluator, CELLS, 2, 0.9, run_id=run_id)


def variables():
    return [keras.Variable(np.zeros([3, 2]), name="a"), keras.Variable(np.zeros(4), name="b")]


def make(path, seed) -> None:
    """A finished run, without its nets: what readers read, of made-up numbers."""
    directory = RunDirectory(path)
    rng = np.random.default_rng(seed)
    split = {name: [200, seed, 7] for name in ("train", "validation", "test")}
    facts = {"class_names": ["a", "b"], "image_size": 8, "mean": [0.5] * 3, "std": [0.2] * 3,
             "fingerprint": split}  # fmt: skip
    directory.begin(GROUPS, SPACE, ["--filters=2"], facts)
    directory.note_provenance("test")
    run_id = directory.run_id()
    checkpoint = Checkpoints(directory.path / "checkpoints", owner=run_id)
    values = variables()
    for value in values:
        value.assign(rng.normal(size=value.shape))
    checkpoint.save(3, values)
    counted = (SPACE, CELLS, directory.stack(), 2)
    costs = [
        tuple(map(int, each))
        for each in zip(counts.parameters(*counted), counts.multiply_adds(*counted, 8))
    ]
    write_json(directory.path / "search.json",
               {"seed": 0, "step": 3, "rank_by": "accuracy", "num_images": 200, "run_id": run_id,
                "all_on_accuracy": 0.5, "chunk_size": 50})  # fmt: skip
    candidate_file(directory).write(
        ranked(
            Candidate(a, int(rng.integers(200)) / 200, 1.5, 200, *each)
            for a, each in zip(CELLS, costs)
        )
    )
    race_of(directory.path / "race.npz", run_id)._save()
    Rollbacks(directory.path / "rollbacks.json").add(9, 5)
    for name in ("metrics.jsonl", "tracked.jsonl"):
        for step in range(4):
            append_line(directory.path / name, json.dumps({"step": step, "loss": 2.0 - step / 4}))
    nets = [
        {"architecture": str(a), "rank": i + 1, "candidate_accuracy": 0.5, "parameters": p,
         "multiply_adds": m, "folder": [f"top/net_{i:02d}/run_0"], "accuracies": [0.25 + i / 100]}
        for i, (a, (p, m)) in enumerate(zip(CELLS[:3], costs))
    ]  # fmt: skip
    (directory.path / "retrain" / "top").mkdir(parents=True)
    retrain = {"select": "top", "num_cells": 2, "filters": 2, "seed": 0, "name": "top"}
    result = {"retrain": retrain, "nets": nets, "evaluated_on": "validation", "num_steps": 5}
    path = directory.path / "retrain" / "top" / "result.json"
    write_json(path, complete_result(directory, result))


def candidate_file(directory):
    return CandidateFile(directory)


def searched(directory):
    path = directory.path / "search.json"
    value = read_json(path)
    check_run(path, value, directory.run_id())
    return value


def restored(directory):
    values = variables()
    checkpoints = Checkpoints(directory.path / "checkpoints", owner=directory.run_id())
    checkpoints.restore_step(3, values)
    return [value.numpy().tolist() for value in values]


READERS = {
    "config": lambda d: (d.config(), d.facts(), d.space()),
    "groups": lambda d: [d.group(type(g), name) for name, g in GROUPS.items()],
    "search": lambda d: searched(d),
    "candidates": lambda d: candidate_file(d).read(),
    "results": read_results,
    "checkpoint": restored,
    "race": lambda d: [
        getattr(race_of(d.path / "race.npz", d.run_id()), name).tolist()
        for name in ("seen", "num_right", "entropy", "running")
    ],
    "rollbacks": lambda d: Rollbacks(d.path / "rollbacks.json").at(7, 0),
}


def read_all(path) -> dict:
    """What each reader makes of a run directory; the error if it refuses."""
    found = {}
    for name, read in READERS.items():
        try:
            found[name] = read(RunDirectory(path))
        except ost.InputError as error:
            assert str(error) and "\n" not in str(error), error
            found[name] = error
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make(folder / "run", seed=0)
    make(folder / "other", seed=1)
    return folder


def alarm(*_):
    raise TimeoutError("reading took more than 20 seconds")


@pytest.mark.parametrize("name", [*READ_BACK, *PLOTTED])
def test_no_change_goes_unnoticed(runs, tmp_path, name):
    whole = read_all(runs / "run")
    assert not any(isinstance(value, Exception) for value in whole.values()), whole
    rng = np.random.default_rng(len(name))
    before = signal.signal(signal.SIGALRM, alarm)
    refused = 0
    for _ in range(200):
        run, outside = tmp_path / "run", tmp_path / "outside"
        shutil.copytree(runs / "run", run)
        outside.mkdir()
        how = mutations.mutate(run / name, rng, runs / "other" / name, outside)
        around = mutations.snapshot(outside)
        signal.alarm(20)
        found = read_all(run)
        for lines in PLOTTED:
            try:
                read_json_lines(run / lines, {"step": int})
            except ost.InputError as error:
                assert str(error)
        signal.alarm(0)
        assert mutations.snapshot(outside) == around
        for reader, value in found.items():
            if isinstance(value, Exception):
                refused += 1
            else:
                assert value == whole[reader] or repaired(name, how, found, whole, reader), (
                    f"{name}: {how}: {reader} reads something else"
                )
        shutil.rmtree(run)
        shutil.rmtree(outside)
    signal.signal(signal.SIGALRM, before)
    assert refused > 50 or name in PLOTTED


def repaired(name, how, found, whole, reader) -> bool:
    """Whether a change is one that programs can live with.

    Lost candidates and lost files are measured again. A run that has another's config.json is
    another run, whose own files are missing.
    """
    if name == "config.json":
        refusing = ("search", "results", "checkpoint", "race")
        return all(isinstance(found[other], ost.InputError) for other in refusing)
    if name == "candidates.csv":
        return set(map(repr, found[reader])) <= set(map(repr, whole[reader]))
    return how in ("missing", "a link to itself")
