"""auto: one command from images to a served model. It goes on where it stopped."""

import dataclasses
import json
import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from auto_runs import NETS, TINY, start
from PIL import Image

from oneshot_tf import export, search
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.results import read_results
from oneshot_tf.system.errors import InputError


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run that was stopped at the search and at the export, and went on."""
    out = tmp_path_factory.mktemp("auto") / "run"
    trained = {}
    for program in (search, export):
        stopped = mock.patch.object(program, "main", side_effect=KeyboardInterrupt)
        with stopped, pytest.raises(KeyboardInterrupt):
            start(out)
        trained |= {p: p.stat().st_mtime_ns for p in out.rglob("checkpoints/*") if p.is_file()}
    start(out)
    assert {p: p.stat().st_mtime_ns for p in trained} == trained  # nothing was trained twice
    return RunDirectory(out)


def test_the_best_net_by_validation_is_trained_on_all_images_and_exported(done, digits):
    results = {r["name"]: r for r in read_results(done, baselines=True)}
    assert sorted(results) == sorted([*NETS, "final"])
    compared = [results[name] for name in NETS]
    assert {r["evaluated_on"] for r in compared} == {"validation"}
    assert len({r["num_steps"] for r in compared}) == 1
    final = results["final"]
    assert final["evaluated_on"] == "test"
    assert final["num_training_images"] == 1_497  # with the validation images
    best = max(compared, key=lambda r: (r["mean"], -r["nets"][0]["parameters"]))
    assert final["nets"][0]["architecture"] == best["nets"][0]["architecture"]
    used = {name: result["train"]["augmentation"] for name, result in results.items()}
    mirroring_pays = results["plain_cnn_mirrored"]["mean"] > results["plain_cnn"]["mean"]
    assert used.pop("final") == ("crop_flip" if mirroring_pays else "crop")
    assert used == {name: "crop_flip" if "mirrored" in name else "crop" for name in NETS}
    served = json.loads((done.path / "export" / "1" / "architecture.json").read_text())
    assert served["text"] == final["nets"][0]["architecture"]
    assert served["stand_alone_accuracy"] == final["nets"][0]["accuracies"][0]
    model = tf.saved_model.load(str(done.path / "export" / "1")).signatures["fixed"]
    test = digits.load_test()
    found = model(images=tf.constant(test.images))["probabilities"].numpy().argmax(axis=1)
    assert np.mean(found == test.labels) == pytest.approx(served["stand_alone_accuracy"])


def test_the_searched_net_is_the_best_candidate(done):
    best = CandidateFile(done).read()[0]
    (result,) = [r for r in read_results(done) if r["name"] == "searched_1"]
    assert result["nets"][0]["architecture"] == str(best.architecture)
    assert result["nets"][0]["rank"] == 1


def test_the_last_lines_say_what_was_found_what_it_costs_and_how_to_serve_it(done, capsys):
    before = {p: p.stat().st_mtime_ns for p in done.path.rglob("*") if p.is_file()}
    start(done.path)
    found, cost, _, serve, _ = capsys.readouterr().out.strip().splitlines()[-5:]
    final = next(r for r in read_results(done, baselines=True) if r["name"] == "final")
    accuracy = final["nets"][0]["accuracies"][0]
    assert f"{accuracy:.2%} of 300 test images" in found
    assert f"{final['nets'][0]['parameters']:,} parameters" in cost
    assert serve.endswith(f"--saved_model={done.path}/export photo.jpg")
    after = {p: p.stat().st_mtime_ns for p in done.path.rglob("*") if p.is_file()}
    changed = {p.name for p in after if after[p] != before.get(p)}
    assert changed <= {".lock", ".auto.lock"}  # a finished run is left as it is


@pytest.mark.slow
def test_a_few_unequal_photographs(tmp_path, capsys):
    """Twenty images of two classes, of several sizes and kinds. There is no time for a search."""
    rng = np.random.default_rng(0)
    for index in range(20):
        place = tmp_path / "photos" / ("few" if index < 4 else "many")
        place.mkdir(parents=True, exist_ok=True)
        shape = [40 + index, 50, 3] if index % 2 else [30, 30 + index]
        image = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
        image.save(place / f"{index}.{'png' if index % 3 else 'jpg'}")
    (tmp_path / "photos" / "many" / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="broken.png"):
        start(tmp_path / "run", data=tmp_path / "photos")
    shutil.rmtree(tmp_path / "run")
    out, passes = tmp_path / "run", dataclasses.replace(TINY, one_shot=0.0)
    start(out, data=tmp_path / "photos", skip_bad_images=True, passes=passes)
    shown = capsys.readouterr().out
    assert "2 classes, which count the same" in shown
    names = sorted(r["name"] for r in read_results(RunDirectory(out), baselines=True))
    assert names == ["final", "mobile_net", "plain_cnn", "random_1", "random_2"]
    assert (out / "export" / "1" / "saved_model.pb").exists()
    assert not (out / "candidates.csv").exists()
    settings_file = out / "retrain" / "final" / "settings.json"
    assert json.loads(settings_file.read_text())["final"]["class_weights"] == "balanced"


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "values, expected",
    [
        ({"out": ""}, "--out is missing"),
        ({"data": ""}, "--data is missing"),
        ({"budget": "soon"}, "--budget must be a time"),
        ({"data": "folder:nothing"}, "there is no folder"),
        ({"format": "gguf"}, "--format must be one or more of"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(tmp_path, values, expected):
    with pytest.raises(InputError, match=expected):
        start(**{"out": tmp_path / "run", **values})
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_class_of_three_images_is_named(tmp_path):
    for index in range(13):
        place = tmp_path / "photos" / ("few" if index < 2 else "many")
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (index, 0, 0)).save(place / f"{index}.png")
    with pytest.raises(InputError, match="few"):
        start(tmp_path / "run", data=tmp_path / "photos")


def test_a_run_with_other_data_is_refused(done, tmp_path):
    with pytest.raises(InputError, match="was made with --data=digits"):
        start(done.path, data=tmp_path)
