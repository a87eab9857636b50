"""The answers that retrain keeps: what is read is what was scored, or is refused in one line."""

import json
import shlex

import numpy as np
import pytest
from candidate_runs import CLASSES, IMAGES, begin, candidates
from conftest import complete_result, edit_json

import oneshot_tf as ost
from oneshot_tf.evaluation.shared_weights import Answers
from oneshot_tf.runs.predictions import (
    Predictions,
    how_to_make_predictions,
    read_predictions,
    write_predictions,
)
from oneshot_tf.runs.results import read_results
from oneshot_tf.settings import RetrainSettings, TrainSettings, command_line
from oneshot_tf.system.array_files import read_arrays, write_arrays
from oneshot_tf.system.files import checksum


def answers(seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(IMAGES, dtype=np.int32) % CLASSES
    predicted = np.where(rng.random(IMAGES) < 0.7, labels, rng.integers(CLASSES, size=IMAGES))
    chances = rng.random((2, IMAGES)).astype(np.float32)
    return Answers(labels, predicted.astype(np.int32), chances.max(axis=0), chances.min(axis=0))


def retrained(path, space, **settings):
    """A run with one net, trained twice, and its answers."""
    directory, found = begin(path, space), [answers(0), answers(1)]
    folder = directory.path / "retrain" / "top"
    folder.mkdir(parents=True)
    net = candidates(space, 1)[0]
    accuracies = [float(np.mean(a.predicted == a.labels)) for a in found]
    places = ["top/net_00/run_0", "top/net_00/run_1"]
    entry = {"architecture": str(net.architecture), "rank": 1, "parameters": net.parameters,
             "candidate_accuracy": net.candidate_accuracy, "multiply_adds": net.multiply_adds,
             "folder": places, "accuracies": accuracies}  # fmt: skip
    retrain = {"select": "top", "num_cells": 2, "filters": 4, "seed": 0, **settings}
    result = {"run_id": directory.run_id(), "retrain": retrain, "nets": [entry], "num_steps": 10,
              "evaluated_on": "validation"}  # fmt: skip
    result = complete_result(directory, result)
    result["predictions"] = write_predictions(folder, found)
    (folder / "result.json").write_text(json.dumps(result))
    return directory, found


def read(directory, run):
    return read_predictions(directory, read_results(directory)[0], f"top/net_00/run_{run}")


def test_what_is_read_is_what_was_scored(tmp_path, space):
    directory, found = retrained(tmp_path / "run", space)
    for run, expected in enumerate(found):
        kept = read(directory, run)
        for name in Answers._fields:
            np.testing.assert_array_equal(getattr(kept, name), getattr(expected, name))
        matrix = kept.confusion(CLASSES)
        for true in range(CLASSES):
            for taken in range(CLASSES):
                count = np.sum((expected.labels == true) & (expected.predicted == taken))
                assert matrix[true, taken] == count
        assert matrix.trace() / IMAGES == kept.accuracy
        worst = kept.worst(10)
        assert len(worst) == 10 and (kept.predicted[worst] != kept.labels[worst]).all()
        others = np.setdiff1d(np.flatnonzero(kept.predicted != kept.labels), worst)
        assert kept.probability[worst].min() >= kept.probability[others].max()
        assert (np.diff(kept.probability[worst]) <= 0).all()


def test_fewer_mistakes_than_asked_for():
    labels = np.arange(4, dtype=np.int32)
    ones = np.ones(4, np.float32)
    assert len(Predictions(labels, labels, ones, ones).worst(10)) == 0
    one = np.array([0, 1, 2, 0], np.int32)
    assert Predictions(labels, one, ones, ones).worst(10).tolist() == [3]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"labels": np.zeros(IMAGES, np.int64)}, "labels must be int32"),
        ({"predicted": np.zeros([1, IMAGES], np.int32)}, "predicted must be int32"),
        ({"predicted": np.full([2, IMAGES], CLASSES, np.int32)}, "from 0 to 9"),
        ({"probability": np.full([2, IMAGES], np.nan, np.float32)}, "probability must be float32"),
        ({"of_label": np.full([2, IMAGES], -0.5, np.float32)}, "of_label must be float32"),
        ({"predicted": np.zeros([2, IMAGES], np.int32)}, "has an accuracy of 0.1"),
        (None, "does not belong to the result.json beside it"),
        ("missing", "predictions.npz"),
        ("number", "damaged"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, space, change, said):
    directory, found = retrained(tmp_path / "run", space)
    path = directory.path / "retrain" / "top" / "predictions.npz"
    if isinstance(change, dict):
        write_arrays(path, {**read_arrays(path), **change})
        edit_json(path.with_name("result.json"), predictions=checksum(path))
    elif change is None:
        write_predictions(path.parent, found[::-1])
    elif change == "missing":
        path.unlink()
    else:
        edit_json(path.with_name("result.json"), predictions="1")
    with pytest.raises(ost.InputError, match=said) as error:
        read(directory, 0)
    assert "\n" not in str(error.value)


def test_the_command_that_makes_them_is_the_one_that_made_the_result(tmp_path, space):
    directory, _ = retrained(tmp_path / "a run", space, name="top", count=3, repeats=2)
    result = read_results(directory)[0]
    edit_json(directory.path / "retrain" / "top" / "result.json", predictions=None)
    assert read(directory, 0) is None
    words = shlex.split(how_to_make_predictions(directory, result))
    assert words[:4] == ["python", "-m", "oneshot_tf.retrain", f"--run_dir={tmp_path / 'a run'}"]
    again, train = command_line.parse(["retrain", *words[4:]], [RetrainSettings, TrainSettings])
    assert again.to_dict() == result["retrain"] and train.to_dict() == result["train"]
