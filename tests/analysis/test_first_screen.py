"""The first screen of the report: what was found, what it costs, where it is wrong."""

import base64
import io
import json
import math
import re
import shutil

import numpy as np
import pytest
from candidate_runs import begin, candidates
from conftest import complete_result, edit_json
from pages import Checked, checked
from PIL import Image

import oneshot_tf as ost
from oneshot_tf import settings
from oneshot_tf.analysis import mistakes
from oneshot_tf.analysis.page import Page
from oneshot_tf.analysis.report import Report
from oneshot_tf.cost import counts
from oneshot_tf.evaluation.shared_weights import score_and_answers
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.runs.config_file import facts_of
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.predictions import Predictions, write_predictions
from oneshot_tf.system.files import make_folder
from oneshot_tf.system.json_files import write_json

STACK = ost.Stack(1, 4)
CELL = ost.Architecture.from_text("prev1:max3x3")
PLACE = "top/net_00/run_0"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def scored(tmp_path_factory, digits):
    """A run of the digits whose only net was scored, and its answers."""
    space = ost.bender2018(num_blocks=1)
    directory = RunDirectory(tmp_path_factory.mktemp("scored") / "run")
    groups = {
        "data": settings.DataSettings(dataset="digits", num_validation=100),
        "model": settings.ModelSettings(num_blocks=1, num_cells=1, filters=4),
        "train": settings.TrainSettings(), "device": settings.DeviceSettings(),
        "one_shot": settings.OneShotSettings(train_steps=6),
    }  # fmt: skip
    directory.begin(groups, space, [], facts_of(digits))
    net = ost.Standalone(space, CELL, STACK, num_classes=10, seed=1)
    score, answers = score_and_answers(net, digits.validation, digits.normalize)
    costs = [int(each[0]) for each in counts.costs(space, [CELL], STACK, 10, 8)]
    CandidateFile(directory).write([Candidate(CELL, 0.5, 1.0, 100, *costs)])
    folder = make_folder(directory.path / "retrain" / "top")
    entry = {"architecture": str(CELL), "rank": 1, "candidate_accuracy": 0.5,
             "parameters": costs[0], "multiply_adds": costs[1], "folder": [PLACE],
             "accuracies": [score.accuracy]}  # fmt: skip
    retrain = {"select": "top", "num_cells": 1, "filters": 4, "seed": 0}
    result = {"run_id": directory.run_id(), "retrain": retrain, "nets": [entry], "num_steps": 10,
              "evaluated_on": "validation"}  # fmt: skip
    result = complete_result(directory, result)
    result["predictions"] = write_predictions(folder, [answers])
    (folder / "result.json").write_text(json.dumps(result))
    return directory, Predictions(*answers), entry


@pytest.fixture
def run(scored, tmp_path):
    """A copy of the run to change."""
    shutil.copytree(scored[0].path, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def report(directory):
    """The text of the report, which is whole."""
    return checked(Report(directory, resamples=100).write().read_text())


def test_it_says_what_was_found_and_shows_where_it_is_wrong(scored, digits):
    directory, predictions, entry = scored
    page = Checked(report(directory))
    accuracy = predictions.accuracy
    assert f"search, {CELL}. It classifies {accuracy:.2%} of 100 validation images" in page.text
    assert f"(standard error {math.sqrt(accuracy * (1 - accuracy) / 100):.2%}; " in page.text
    assert f"It has {entry['parameters']:,} parameters" in page.text
    assert f"python -m oneshot_tf.export --run_dir={directory.path}" in page.text
    order = ["The net is one of", "Accuracy by class", "Confusion matrix", "The worst mistakes",
             "Conclusions", "Ranking", "Selections"]  # fmt: skip
    places = [page.text.index(words) for words in order]
    assert places == sorted(places)
    matrix = predictions.confusion(10)
    lines = (directory.path / "report" / "confusion.csv").read_text().splitlines()[1:]
    assert [list(map(int, line.split(",")[1:])) for line in lines] == matrix.tolist()
    lines = (directory.path / "report" / "classes.csv").read_text().splitlines()[1:]
    assert [int(line.split(",")[2]) for line in lines] == matrix.diagonal().tolist()
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 10
    for source, index in zip(images, predictions.worst(10)):
        data = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        shown = np.asarray(Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(shown, digits.validation.images[index])


def test_nets_of_an_earlier_version_have_no_answers(run):
    edit_json(run.path / "retrain" / "top" / "result.json", predictions=None)
    text = report(run)
    assert "kept no answers" in text and "Confusion matrix" not in text
    assert f"python -m oneshot_tf.retrain --run_dir={run.path}" in text


def test_images_that_have_changed_are_not_shown(run):
    """The report is written all the same."""
    config = json.loads((run.path / "config.json").read_text())
    config["facts"]["fingerprint"]["train"][1] += 1
    config["facts"]["class_names"][3] = HOSTILE
    edit_json(run.path / "config.json", facts=config["facts"])
    text = report(run)
    assert "The images cannot be shown." in text and "<img" not in text
    assert "&lt;script&gt;" in text and HOSTILE not in text
    assert "Confusion matrix" in text and text.count("taken for <b>") == 10


def test_a_run_with_nothing_yet_says_what_to_do(tmp_path, space):
    directory = begin(tmp_path / "run", space)
    text = report(directory)
    assert "No architecture has been chosen yet." in text and "oneshot_tf.search" in text
    best = candidates(space, 1)[0]
    CandidateFile(directory).write([best])
    text = report(directory)
    assert f"The best of 1 candidates is {best.architecture}, with a candidate accuracy" in text
    assert f"python -m oneshot_tf.retrain --run_dir={directory.path}" in text


@pytest.mark.parametrize("version", ["", "3"])
def test_an_export_brings_its_cost_and_the_commands_that_serve_it(run, version):
    folder = make_folder(run.path / "export" / version)
    row = {"accuracy": 0.5, "largest_difference": 0.0, "same_classes": 1.0, "batch_ms": 1.0}
    rows = [{**row, "format": name, "bytes": size, "one_ms": ms, "runtime": runtime}
            for name, size, ms, runtime in (("onnx", 9000, 0.5, "ONNX Runtime 1"),
                                            ("tflite_int8", 4321, 0.75, "LiteRT 2"))]  # fmt: skip
    of_run = {"run_id": run.run_id(), "net": PLACE}
    write_json(folder / "architecture.json", of_run)
    write_json(folder / "formats.json", {**of_run, "images": "", "how": "", "formats": rows})
    page = Checked(report(run))
    assert (
        "as tflite_int8 it takes 4,321 bytes, and as onnx it needs 0.5 ms for an image, measured "
        "with one CPU thread in ONNX Runtime 1."
    ) in page.text
    root = run.path / "export"
    assert f"python -m oneshot_tf.predict --saved_model={root} photo.jpg" in page.text
    served = f"-v {root}:/models/run -e MODEL_NAME=run tensorflow/serving"
    assert (served in page.text) == bool(version)  # Serving needs a number
    edit_json(folder / "architecture.json", run_id="another")
    with pytest.raises(ost.InputError, match="belongs to the run"):
        report(run)


def test_many_classes_are_listed_by_their_ends(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30, dtype=np.int32), 50)
    predicted = np.where(rng.random(1500) < labels / 30, labels, (labels + 1) % 30)
    chances = np.ones(1500, np.float32)
    page = Page()
    predictions = Predictions(labels, predicted.astype(np.int32), chances, chances)
    mistakes.by_class(page, predictions, [f"class {i}" for i in range(30)])
    text = checked(page.write(tmp_path, "title", []).read_text())
    shown = re.findall(r"<tr><td>(class \d+)</td><td class='share'>", text)
    assert len(shown) == 20 and shown[0] == "class 0" and "class 15" not in shown
    assert "<td>class 0</td><td class='text'>class 1</td><td>50 of 50</td>" in text
    assert len((tmp_path / "classes.csv").read_text().splitlines()) == 31
