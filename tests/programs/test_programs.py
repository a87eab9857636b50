"""The programs as a user starts them: the pipeline, going on, and what a mistake gets."""

import csv
import dataclasses
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from conftest import edit_json
from pages import checked
from program_runs import error_of, run

import oneshot_tf as ost
from oneshot_tf import export, predict, retrain, search, settings
from oneshot_tf.data import dataset as data
from oneshot_tf.data import sources
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.directory import FOLDERS, RunDirectory
from oneshot_tf.strategies import RandomSearchSettings
from oneshot_tf.system import interrupts

ROOT = pathlib.Path(__file__).parents[2]
SMALL = """--dataset=digits
--track_architectures=2
--num_validation=100
--num_blocks=1
--num_cells=2
--filters=2
--train_steps=6
--batch_size=64
--checkpoint_steps=3
--augmentation=crop
"""
EXPORTED = pathlib.Path("run", "export", "1")
ALONE = ["--epochs=0.1", "--repeats=2", "--augmentation=none"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run taken through all programs."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "small.flags").write_text(SMALL)
    run("train", "--flagfile=small.flags", "--run_dir=run", cwd=folder)
    run("search", "--run_dir=run", "--num_candidates=8", cwd=folder)
    run("retrain", "--run_dir=run", "--top=2", "--count=2", *ALONE, cwd=folder)
    run("export", "--run_dir=run", cwd=folder)
    return folder


def read_csv(folder):
    with open(folder / "run" / "candidates.csv") as file:
        return list(csv.DictReader(file))


def test_a_run_directory_explains_itself(folder):
    files = {path.name for path in (folder / "run").iterdir()}
    made = {"config.json", "flags.txt", "space.json", "provenance.jsonl", "metrics.jsonl"}
    made |= {"checkpoints", "candidates.csv", "search.json", "retrain", "export"}
    made |= {"tracked.jsonl", "tensorboard", "report"}
    assert files == made  # no locks, nothing half-written
    folders = {path.name for path in (folder / "run").iterdir() if path.is_dir()}
    assert folders <= set(FOLDERS)  # which are looked at before they are used
    provenance = (folder / "run" / "provenance.jsonl").read_text()
    starts = [json.loads(line) for line in provenance.splitlines()]
    assert len(starts) == 3 and "keras" in starts[0]["packages"]
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["step"] == 6
    assert {"loss", "cross_entropy", "l2", "accuracy", "learning_rate"} <= set(last)
    lines = (folder / "run" / "tracked.jsonl").read_text().splitlines()
    tracked = [json.loads(line) for line in lines]
    assert [line["step"] for line in tracked] == [1, 3, 6]
    assert len(tracked[0]["divergence"]) == 2 and "candidate_accuracy" not in tracked[0]
    assert set(tracked[2]["candidate_accuracy"]) == set(tracked[0]["divergence"])
    assert min(tracked[2]["divergence"].values()) > 0


def test_tensorboard_can_read_it(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "run" / "tensorboard"), {"tensors": 0}).Reload()
    tags = set(events.Tags()["tensors"])
    names = {"loss", "accuracy", "learning_rate", "dropped_share", "images_per_second"}
    assert names | {"candidate_accuracy"} <= tags
    assert [event.step for event in events.Tensors("loss")] == [1, 3, 6]


def test_its_report(folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    out, _ = run("analyze", "--run_dir=run", "--resamples=100", cwd=tmp_path)
    assert "too few" in out
    names = {path.name for path in (tmp_path / "run" / "report").iterdir()}
    assert {"report.html", "tracked.svg", "divergence.svg", "ranking.csv", "commands.csv"} <= names
    assert {"live.html", "confusion.csv", "classes.csv"} <= names
    result = json.loads((tmp_path / "run" / "retrain" / "top" / "result.json").read_text())
    exported = json.loads((tmp_path / "run" / "export" / "1" / "architecture.json").read_text())
    shares = {p: a for n in result["nets"] for p, a in zip(n["folder"], n["accuracies"])}
    assert f"classifies {shares[exported['net']]:.2%} of 300 test images correctly" in out
    lines = (tmp_path / "run" / "report" / "classes.csv").read_text().splitlines()[1:]
    right = sum(int(line.split(",")[2]) for line in lines)
    assert right / 300 == pytest.approx(shares[exported["net"]])
    text = checked((tmp_path / "run" / "report" / "report.html").read_text())
    assert text.count("<img ") == 10
    text = checked((tmp_path / "run" / "report" / "live.html").read_text())
    assert "retrain is done." in text and "net 2/2, run 2/2" in text


def test_candidates_are_ranked_and_counted_whole(folder):
    rows = read_csv(folder)
    assert [int(row["rank"]) for row in rows] == list(range(1, 9))
    accuracies = [float(row["candidate_accuracy"]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {row["num_images"] for row in rows} == {"100"}
    space = ost.bender2018(num_blocks=1)
    a = ost.Architecture.from_text(rows[0]["architecture"])
    assert int(rows[0]["parameters"]) == ost.parameters(space, [a], ost.Stack(2, 2), 10)[0]
    assert int(rows[0]["multiply_adds"]) == ost.multiply_adds(space, [a], ost.Stack(2, 2), 10, 8)[0]


def test_stand_alone_results(folder):
    result = json.loads((folder / "run" / "retrain" / "top" / "result.json").read_text())
    rows = read_csv(folder)
    assert [net["architecture"] for net in result["nets"]] == [r["architecture"] for r in rows[:2]]
    assert result["evaluated_on"] == "test" and result["num_images"] == 300
    assert result["num_training_images"] == 1497  # the validation images too
    for net in result["nets"]:
        assert len(net["accuracies"]) == 2
        assert net["mean"] == pytest.approx(np.mean(net["accuracies"]))
        assert net["std"] == pytest.approx(np.std(net["accuracies"], ddof=1))
    assert "stand-alone" in (folder / "run" / "retrain" / "table.txt").read_text()


def test_the_saved_model_serves_alone_what_was_retrained(folder):
    facts = json.loads((folder / EXPORTED / "architecture.json").read_text())
    assert facts["text"] == read_csv(folder)[0]["architecture"]
    architecture = ost.Architecture.from_json(json.dumps(facts["architecture"]))
    assert str(architecture) == facts["text"]
    digits = ost.load_data("digits", num_validation=100)
    test = digits.load_test()
    serve = tf.saved_model.load(str(folder / EXPORTED)).signatures["serving_default"]
    answer = serve(images=tf.constant(test.images))
    accuracy = np.mean(answer["class_index"].numpy() == test.labels)
    assert accuracy == pytest.approx(facts["stand_alone_accuracy"])
    assert answer["class_name"][0].numpy().decode() == str(int(answer["class_index"][0]))
    np.testing.assert_allclose(tf.reduce_sum(answer["probabilities"], axis=1), 1, atol=1e-5)
    one = serve(images=tf.constant(test.images[:1]))
    np.testing.assert_allclose(one["probabilities"][0], answer["probabilities"][0], atol=1e-5)
    other_size = serve(images=tf.constant(np.zeros((2, 20, 13, 3), np.uint8)))
    assert other_size["probabilities"].shape == (2, 10)


def test_what_the_saved_model_takes(folder):
    """No image, grey, opacity, files; another number of channels or dimensions it refuses."""
    signatures = tf.saved_model.load(str(folder / EXPORTED)).signatures
    serve, read = signatures["serving_default"], signatures["bytes"]
    image = np.random.default_rng(0).integers(0, 256, (1, 20, 13, 1), np.uint8)
    colour = np.repeat(image, 3, axis=-1)
    opaque = np.concatenate([colour, np.full_like(image, 255)], axis=-1)
    file = tf.io.encode_png(image[0]).numpy()
    answers = [serve(images=tf.constant(x))["probabilities"] for x in (image, colour, opaque)]
    answers.append(read(encoded=tf.constant([file]))["probabilities"])
    for answer in answers:
        np.testing.assert_allclose(answer, answers[0], atol=1e-6)
    clear = serve(images=tf.constant(np.zeros((1, 8, 8, 4), np.uint8)))["probabilities"]
    white = serve(images=tf.constant(np.full((1, 8, 8, 3), 255, np.uint8)))["probabilities"]
    np.testing.assert_allclose(clear, white, atol=1e-6)
    none = [serve(images=tf.zeros(shape, tf.uint8)) for shape in ([0, 8, 8, 3], [0, 0, 0, 3])]
    for answer in (*none, read(encoded=tf.zeros([0], tf.string))):
        assert answer["probabilities"].shape == (0, 10) and answer["class_name"].shape == (0,)
    for shape in ([1, 8, 8, 2], [8, 8, 3]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            serve(images=tf.zeros(shape, tf.uint8))
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither a JPEG nor a PNG"):
        read(encoded=tf.constant([b"GIF89a"]))


def test_images_are_classified_by_the_saved_model(folder, tmp_path):
    image = ost.load_data("digits", num_validation=100).validation.images[0]
    (tmp_path / "one.png").write_bytes(tf.io.encode_png(image).numpy())
    (tmp_path / "grey.jpg").write_bytes(tf.io.encode_jpeg(image[..., :1]).numpy())
    model = f"--saved_model={folder / 'run' / 'export'}"
    out, _ = run("predict", "one.png", "grey.jpg", model, "--top=3", "--json", cwd=tmp_path)
    assert out == run("predict", "one.png", "grey.jpg", model.replace("run/export", "run/export/1"),
                      "--top=3", "--format=json", cwd=tmp_path)[0]  # fmt: skip
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["image"] for answer in answers] == ["one.png", "grey.jpg"]
    serve = tf.saved_model.load(str(folder / EXPORTED)).signatures["serving_default"]
    probabilities = serve(images=tf.constant(image[None]))["probabilities"].numpy()[0]
    best = np.argsort(-probabilities)[:3]
    assert [each["name"] for each in answers[0]["classes"]] == [str(i) for i in best]
    found = [each["probability"] for each in answers[0]["classes"]]
    np.testing.assert_allclose(found, probabilities[best], rtol=1e-5)


def test_classes_of_one_name_are_all_in_json(folder, tmp_path, capsys):
    shutil.copytree(folder / EXPORTED, tmp_path / "export")
    path = tmp_path / "export" / "architecture.json"
    names = json.loads(path.read_text())["class_names"]
    edit_json(path, class_names=["crane"] * 2 + names[2:])
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(np.zeros((8, 8, 3), np.uint8)).numpy())
    model = predict.PredictSettings(saved_model=str(tmp_path / "export"), top=10, json=True)
    predict.main(model, [str(tmp_path / "a.png")])
    classes = json.loads(capsys.readouterr().out)["classes"]
    assert [each["name"] for each in classes].count("crane") == 2 and len(classes) == 10
    assert sum(each["probability"] for each in classes) == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_classified(folder, tmp_path, capsys):
    model = predict.PredictSettings(saved_model=str(folder / "run" / "export"))
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "good.png").write_bytes(tf.io.encode_png(np.zeros((8, 8, 3), np.uint8)).numpy())
    (tmp_path / "empty").mkdir()
    names = ["good.png", "missing.jpg", "text.jpg", "empty", "good.png"]
    with pytest.raises(ost.InputError, match=r"3 of 5 image\(s\) cannot be read"):
        predict.main(model, [str(tmp_path / name) for name in names])
    out, errors = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == [str(tmp_path / "good.png")] * 2
    for name, said in zip(names[1:], ("does not exist", "cannot be read as", "has no images")):
        (line,) = (line for line in errors.splitlines() if line.startswith(str(tmp_path / name)))
        assert said in line
    with pytest.raises(ost.InputError, match="No image was given"):
        predict.main(model, [])
    with pytest.raises(ost.InputError, match="must be the folder of a SavedModel"):
        predict.main(predict.PredictSettings(saved_model=str(tmp_path)), ["a.jpg"])


def test_a_saved_model_whose_weights_are_cut_off(folder, tmp_path):
    shutil.copytree(folder / EXPORTED, tmp_path / "export")
    (weights,) = (tmp_path / "export" / "variables").glob("variables.data*")
    weights.write_bytes(weights.read_bytes()[:1])
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(np.zeros((8, 8, 3), np.uint8)).numpy())
    with pytest.raises(ost.InputError, match="cannot be loaded"):
        predict.main(
            predict.PredictSettings(saved_model=str(tmp_path / "export")),
            [str(tmp_path / "a.png")],
        )


@pytest.mark.slow
def test_classes_are_called_as_a_file_says(folder, tmp_path):
    """Lines of other classes do not matter; two of one name are told apart; none may be missing.

    The file is as a Windows editor saves it, and the names are in any language.
    """
    names = tmp_path / "names.txt"
    lines = [f"{i} numéro {i % 9}, 数字" for i in range(12)]
    names.write_bytes("\r\n".join(["", *lines]).encode("utf-8-sig"))
    flags = [f"--run_dir={folder / 'run'}", f"--class_names={names}"]
    out, _ = run("export", *flags, f"--export_dir={tmp_path / 'served'}", cwd=tmp_path)
    assert "On 20 test patterns" in out and "differ from the model's by at most" in out
    called = json.loads((tmp_path / "served" / "1" / "architecture.json").read_text())[
        "class_names"
    ]
    assert called[:2] == ["numéro 0, 数字 (0)", "numéro 1, 数字"]
    assert called[9] == "numéro 0, 数字 (9)"
    serve = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    answer = serve(images=tf.zeros([1, 8, 8, 3], tf.uint8))
    assert answer["class_name"][0].numpy().decode() == called[int(answer["class_index"][0])]
    names.write_text("\n".join(lines[:9]))
    _, error = run("export", *flags, cwd=folder, code=1)
    assert "no line for 1 of the 10 classes, for example 9" in error


def test_an_export_needs_no_data(folder, tmp_path, monkeypatch):
    """Nor is what the run says of them taken on trust."""
    run_dir = tmp_path / "run"
    shutil.copytree(folder / "run", run_dir, ignore=shutil.ignore_patterns("export"))
    monkeypatch.setattr(
        "oneshot_tf.runs.directory.load_data", mock.Mock(side_effect=AssertionError)
    )
    monkeypatch.setattr(export, "check_in_fresh_process", lambda *_: (20, 0.0))
    config = json.loads((run_dir / "config.json").read_text())
    groups = (settings.RunSettings(run_dir=str(run_dir)), export.ExportSettings())
    export.main(*groups, settings.LocationSettings(data_dir="nowhere"))
    made = json.loads((run_dir / "export" / "1" / "architecture.json").read_text())
    assert made["image_size"] == 8 and made["class_names"] == [str(i) for i in range(10)]
    for change in ({"mean": [0.5]}, {"std": [0.0] * 3}, {"std": ["a"]}, {"mean": None}):
        edit_json(run_dir / "config.json", facts={**config["facts"], **change})
        with pytest.raises(ost.InputError, match="config.json is damaged"):
            export.main(*groups, settings.LocationSettings())


@pytest.mark.slow
def test_an_export_without_retraining(folder):
    """The best candidate with the shared weights, as the next version, beside the retrained one."""
    flags = ["--run_dir=run", "--inherit_weights"]
    out, _ = run("export", *flags, "--export_dir=inherited", cwd=folder)
    best = read_csv(folder)[0]
    known = json.loads((folder / "inherited" / "1" / "architecture.json").read_text())
    assert known["text"] == best["architecture"] and known["weights"] == "inherited"
    assert known["candidate_accuracy"] == pytest.approx(float(best["candidate_accuracy"]), abs=1e-6)
    (row,) = json.loads((folder / "inherited" / "1" / "formats.json").read_text())["formats"]
    assert row["format"] == "saved_model" and row["accuracy"] == known["inherited_accuracy"]
    digits = ost.load_data("digits", num_validation=100)
    serve = tf.saved_model.load(str(folder / "inherited" / "1")).signatures["serving_default"]
    for split, accuracy in (
        (digits.validation, known["inherited_accuracy"]),
        (digits.load_test(), known["retrained"][0]["inherited_accuracy"]),
    ):
        found = serve(images=tf.constant(split.images))["class_index"].numpy()
        assert np.mean(found == split.labels) == pytest.approx(accuracy)
    result = json.loads((folder / "run" / "retrain" / "top" / "result.json").read_text())
    assert known["retrained"][0]["accuracy"] == pytest.approx(result["nets"][0]["mean"])
    assert f"accuracy {result['nets'][0]['mean']:.4f} on 300 test images" in out
    for more, said in (
        (["--architecture=9"], "a rank from 1 to 8; got 9"),
        (["--architecture=prev1"], "inputs:operations"),
        (["--search=none"], "has no candidates to inherit weights. Search first"),
        (["--net=top/net_00/run_0"], "Leave one of them out"),
    ):
        assert said in error_of(
            "export", *flags, *more, cwd=folder, code=2 if "net" in more[0] else 1
        )
    assert "--architecture applies to --inherit_weights only" in error_of(
        "export", "--run_dir=run", "--architecture=1", cwd=folder, code=2
    )


@pytest.mark.slow
def test_an_export_of_several_formats(folder, tmp_path):
    """They are of one model, measured on the images of retrain, and in the report."""
    run_dir = tmp_path / "run"
    shutil.copytree(folder / "run", run_dir)
    formats = ["keras", "tflite", "tflite_fp16", "tflite_int8"]
    if importlib.util.find_spec("tf2onnx") and importlib.util.find_spec("onnxruntime"):
        formats.append("onnx")
    same = ["--run_dir=run", "--version=1"]
    out, _ = run("export", *same, f"--format={','.join(formats)}", cwd=tmp_path)
    assert "The older export had saved_model too. This one replaces it." in out
    table = json.loads((run_dir / "export" / "1" / "formats.json").read_text())
    assert [row["format"] for row in table["formats"]] == formats
    known = json.loads((run_dir / "export" / "1" / "architecture.json").read_text())
    for row in table["formats"][:2]:
        assert row["accuracy"] == pytest.approx(known["stand_alone_accuracy"])
    assert known["formats"] == formats and known["evaluated_on"] in table["images"]
    run("analyze", "--run_dir=run", "--resamples=100", cwd=tmp_path)
    assert "Exported formats" in (run_dir / "report" / "report.html").read_text()
    size = ["--format=tflite", "--input_size=20x30", "--export_dir=larger"]
    out, _ = run("export", "--run_dir=run", *size, cwd=tmp_path)
    assert "brought from 8x8 to 20x30" in out
    assert sorted(path.name for path in (tmp_path / "larger" / "1").iterdir()) == [
        "architecture.json", "formats.json", "model.tflite",
    ]  # fmt: skip


def test_started_again_nothing_is_done_twice(folder):
    before = (folder / "run" / "candidates.csv").read_bytes()
    result = (folder / "run" / "retrain" / "top" / "result.json").read_bytes()
    out, _ = run("train", "--flagfile=run/flags.txt", "--run_dir=run", cwd=folder)
    assert "all 6 steps are done" in out
    run("search", "--run_dir=run", "--num_candidates=8", cwd=folder)
    assert (folder / "run" / "candidates.csv").read_bytes() == before
    out, _ = run("retrain", "--run_dir=run", "--top=2", "--count=2", *ALONE, cwd=folder)
    assert out.count("steps are done") == 4
    assert (folder / "run" / "retrain" / "top" / "result.json").read_bytes() == result


@pytest.mark.slow
def test_a_larger_search_adds_to_what_is_there_and_a_broken_off_one_goes_on(folder, tmp_path):
    """12 candidates at once, 8 and then 12, and 12 after half a line: the same file."""
    old = {row["architecture"]: row for row in read_csv(folder)}
    first = (folder / "run" / "candidates.csv").read_text()
    file = CandidateFile(RunDirectory(folder / "run"))
    *others, last = (dataclasses.replace(c, rank=0) for c in file.read())
    # It would be lost if the candidate were evaluated again.
    file.write([*others, dataclasses.replace(last, candidate_accuracy=0.99)])
    run("search", "--run_dir=run", "--num_candidates=9", cwd=folder)
    assert read_csv(folder)[0]["candidate_accuracy"] == "0.990000"
    (folder / "run" / "candidates.csv").write_text(first)
    run("search", "--run_dir=run", "--num_candidates=12", cwd=folder)
    rows = read_csv(folder)
    assert len(rows) == 12 and set(old) < {row["architecture"] for row in rows}
    for row in rows:
        if row["architecture"] in old:
            assert {**row, "rank": ""} == {**old[row["architecture"]], "rank": ""}
    whole = (folder / "run" / "candidates.csv").read_text()
    (folder / "run" / "candidates.csv").write_text(whole[: len(whole) // 2])
    run("search", "--run_dir=run", "--num_candidates=12", cwd=folder)
    assert (folder / "run" / "candidates.csv").read_text() == whole


@pytest.fixture
def unsearched(folder, tmp_path):
    """The trained run, without candidates."""
    shutil.copytree(folder / "run", tmp_path / "run")
    for name in ("candidates.csv", "search.json"):
        (tmp_path / "run" / name).unlink()
    return tmp_path


@pytest.mark.slow
def test_a_race_and_a_full_search_agree_on_what_was_measured(folder, unsearched):
    """Also when it goes on with more candidates, and when there is nothing left to do."""
    flags = ["--run_dir=run", "--budget=race", "--finalists=3"]
    run("search", *flags, "--num_candidates=6", cwd=unsearched)
    out, _ = run("search", *flags, "--num_candidates=8", cwd=unsearched)
    assert "of the image evaluations of a full search" in out
    whole = {row["architecture"]: row for row in read_csv(folder)}
    rows = read_csv(unsearched)
    assert {row["architecture"] for row in rows} <= set(whole)
    assert len(rows) == 8 and [row["rank"] for row in rows] == [str(i) for i in range(1, 9)]
    for row in rows[:3]:
        assert row["num_images"] == "100"
        for name in ("candidate_accuracy", "num_images", "parameters", "multiply_adds"):
            assert row[name] == whole[row["architecture"]][name]
    before = (unsearched / "run" / "candidates.csv").read_bytes()
    run("search", *flags, "--num_candidates=8", cwd=unsearched)
    assert (unsearched / "run" / "candidates.csv").read_bytes() == before
    line = error_of("search", "--run_dir=run", "--num_candidates=9", cwd=unsearched)
    assert "--budget=race; now --budget=full" in line


@pytest.mark.slow
def test_ranked_by_divergence_only_finalists_are_measured(folder, unsearched):
    flags = ["--run_dir=run", "--num_candidates=8", "--rank_by=kl"]
    run("search", *flags, "--finalists=0", cwd=unsearched)
    rows = read_csv(unsearched)
    values = [float(row["divergence"]) for row in rows]
    assert values == sorted(values) and values[0] < values[-1]
    assert {row["candidate_accuracy"] for row in rows} == {""}
    run("search", *flags, "--finalists=2", cwd=unsearched)
    whole = {row["architecture"]: row for row in read_csv(folder)}
    finalists = read_csv(unsearched)[:2]
    assert {r["architecture"] for r in finalists} == {r["architecture"] for r in rows[:2]}
    for row in finalists:
        assert row["candidate_accuracy"] == whole[row["architecture"]]["candidate_accuracy"]
    assert [row["architecture"] for row in read_csv(unsearched)[2:]] == [
        row["architecture"] for row in rows[2:]
    ]


def start(program, *flags, cwd):
    """A program in a fresh process, not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", f"oneshot_tf.{program}", *flags],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(pattern, folder, process):
    """Waits until a program has written a file."""
    for _ in range(1200):
        if list(folder.glob(pattern)) or process.poll() is not None:
            return
        time.sleep(0.05)


@pytest.mark.parametrize(
    "number, code, words",
    [
        (signal.SIGINT, 130, "stopped by Ctrl-C"),
        pytest.param(signal.SIGTERM, 143, "stopped by SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_training_that_is_stopped_saves_and_goes_on(tmp_path, number, code, words):
    (tmp_path / "small.flags").write_text(SMALL + "--train_steps=100000\n")
    flags = ["--flagfile=small.flags", "--run_dir=run"]
    process = start("train", *flags, cwd=tmp_path)
    checkpoints = tmp_path / "run" / "checkpoints"
    wait_for("*.npz", checkpoints, process)
    # Meanwhile a second one is refused, and told by whom.
    refusal = error_of("train", *flags, cwd=tmp_path)
    assert f"in use by process {process.pid}" in refusal
    started = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - started < 20  # preemptible machines give 30
    assert process.returncode == code and words in errors and "Traceback" not in errors
    assert "To resume, repeat the command:" in errors and "--run_dir=run" in errors
    stopped = int(errors.split("after step ")[1].split(" of")[0].replace(",", ""))
    assert (checkpoints / f"step_{stopped:09d}.npz").exists()
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.fixture
def signals():
    """Leaves the handlers of signals as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("options", [{}, {"budget": "race"}, {"rank_by": "kl"}])
def test_a_stopped_search_goes_on_to_the_same_end(folder, tmp_path, monkeypatch, signals, options):
    options = {"num_candidates": 40, "finalists": 5, **options}
    for name in ("whole", "stopped"):
        shutil.copytree(folder / "run", tmp_path / name)
        for file in ("candidates.csv", "search.json"):
            (tmp_path / name / file).unlink()

    def run_search(name):
        run = settings.RunSettings(str(tmp_path / name))
        search.main(
            run,
            search.SearchSettings(**options),
            RandomSearchSettings(),
            settings.LocationSettings(),
            settings.DistributionSettings(),
        )

    run_search("whole")
    calls, original = [], ost.CandidateEvaluator.outcomes

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    interrupts.listen()
    monkeypatch.setattr(ost.CandidateEvaluator, "outcomes", interrupted)
    with pytest.raises(interrupts.Interrupted):
        run_search("stopped")
    seen = len((tmp_path / "stopped" / "candidates.csv").read_text().splitlines())
    run_search("stopped")
    assert 1 <= seen <= 41
    for file in ("candidates.csv", "search.json"):
        assert (tmp_path / "stopped" / file).read_bytes() == (
            tmp_path / "whole" / file
        ).read_bytes()


@pytest.mark.parametrize(
    "program, flags, part",
    [
        (
            "train",
            ["--flagfile=small.flags", "--run_dir=run", "--filters=3"],
            "--filters=2; now",
        ),
        (
            "train",
            ["--flagfile=small.flags", "--run_dir=new", "--batch_size=3200"],
            "training images",
        ),
        ("train", ["--run_dir=new", "--nodownload", "--data_dir=."], "not prepared"),
        ("search", ["--run_dir=nothing"], "holds no run"),
        ("search", ["--run_dir=run", "--num_candidates=20", "--seed=1"], "--seed=0; now --seed=1"),
        ("search", ["--run_dir=run", "--num_candidates=20", "--budget=race"], "--budget=full; now"),
        ("search", ["--run_dir=run", "--num_candidates=20", "--max_memory_gb=1e-6"], "more memory"),
        ("search", ["--run_dir=unfinished"], "Train it to the end"),
        ("search", ["--run_dir=damaged"], "cannot be read"),
        ("retrain", ["--run_dir=run", "--top=1000"], "got 1000"),
        ("retrain", ["--run_dir=run", "--architecture=prev1"], "inputs:operations"),
        ("retrain", ["--run_dir=run", "--architecture=prev1:sep3x3 | prev1:sep3x3"], "got 2 in"),
        ("retrain", ["--run_dir=run", "--top=2", "--count=2", "--epochs=9"], "--epochs=0.1; now"),
        ("export", ["--run_dir=unfinished"], "has no stand-alone model"),
        (
            "export",
            ["--run_dir=run", "--net=../../.."],
            "--net must be the folder of a",
        ),
        ("export", ["--run_dir=run", "--export_dir=run", "--version=0"], "is not an export"),
        ("export", ["--run_dir=run", "--version=0"], "run/export holds numbered versions (1), so"),
        ("export", ["--run_dir=run", "--export_dir=small.flags"], "is a file"),
    ],
)
def test_a_mistake_gets_one_line_and_changes_nothing(broken, program, flags, part):
    before = {p: p.read_bytes() for p in broken.rglob("*") if p.is_file()}
    assert part in error_of(program, *flags, cwd=broken)
    after = {p: p.read_bytes() for p in broken.rglob("*") if p.is_file()}
    assert after == before


@pytest.fixture(scope="module")
def broken(folder):
    """The run, beside one that stopped half-way and one with a damaged checkpoint."""
    for name in ("unfinished", "damaged"):
        (folder / name / "checkpoints").mkdir(parents=True)
        for file in ("config.json", "space.json", "flags.txt"):
            (folder / name / file).write_bytes((folder / "run" / file).read_bytes())
    newest = (folder / "run" / "checkpoints" / "step_000000006.npz").read_bytes()
    (folder / "unfinished" / "checkpoints" / "step_000000003.npz").write_bytes(newest)
    (folder / "damaged" / "checkpoints" / "step_000000006.npz").write_bytes(newest[:2000])
    return folder


def test_a_bad_command_line_has_code_2(folder):
    assert "--drop_rate must be at most 1.0; got 2.0." in error_of(
        "train", "--flagfile=small.flags", "--run_dir=new", "--drop_rate=2", cwd=folder, code=2
    )
    assert not (folder / "new").exists()


HELP = """
import runpy, sys
for program in sys.argv[1:]:
    sys.argv = [program, "--help"]
    try:
        runpy.run_module(f"oneshot_tf.{program}", run_name="__main__", alter_sys=True)
    except SystemExit as done:
        print("code", done.code)
"""


def test_help(tmp_path):
    own = dict.fromkeys(("train", "search", "retrain", "export", "analyze", "tune", "reproduce",
                         "measure"), "--run_dir")  # fmt: skip
    own |= {"draw": "--file", "predict": "--saved_model", "plan": "--topology", "auto": "--budget"}
    done = subprocess.run(
        [sys.executable, "-c", HELP, *own], cwd=tmp_path, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    texts = done.stdout.split("code 0\n")
    assert len(texts) == len(own) + 1, done.stderr
    for text, (program, flag) in zip(texts, own.items()):
        assert f"Usage: python -m oneshot_tf.{program} " in text and f"  {flag}: " in text


# ---------------------------------------------------------------------------- in this process


def in_process(folder, name, monkeypatch, load_test, **changes):
    """Retrains in this process with the test images read through `load_test(original)`."""
    original = sources.load_data

    def load_data(**arguments):
        dataset = original(**arguments)
        return dataclasses.replace(dataset, load_test=lambda: load_test(dataset.load_test))

    monkeypatch.setattr("oneshot_tf.runs.directory.load_data", load_data)
    values = {"top": 2, "count": 2, "epochs": 0.05, "name": name, **changes}
    retrain.main(
        settings.RunSettings(run_dir=str(folder / "run")),
        settings.RetrainSettings(**values),
        settings.TrainSettings(augmentation="none"),
        settings.DeviceSettings(),
        settings.LocationSettings(),
    )
    return json.loads((folder / "run" / "retrain" / name / "result.json").read_text())


def test_the_test_images_are_read_once_after_all_training(folder, monkeypatch):
    trained_before = []

    def load_test(original):
        made = (folder / "run" / "retrain" / "once").glob("net_*/run_*/checkpoints/*.npz")
        trained_before.append(len(list(made)))
        return original()

    result = in_process(folder, "once", monkeypatch, load_test, repeats=2)
    assert trained_before == [4]
    assert result["num_training_images"] == 1497


def test_validation_leaves_the_test_images_alone(folder, monkeypatch):
    def load_test(original):
        raise AssertionError("the test images were read")

    result = in_process(folder, "held", monkeypatch, load_test, evaluate_on="validation")
    assert (result["num_training_images"], result["num_images"]) == (1397, 100)


def test_other_architectures_under_the_same_name_are_refused(folder, monkeypatch):
    in_process(folder, "same", monkeypatch, lambda original: original())
    file = folder / "run" / "candidates.csv"
    before = file.read_text()
    lines = before.splitlines(keepends=True)
    file.write_text("".join([lines[0], *lines[3:]]))  # the two best are gone
    try:
        with pytest.raises(ost.InputError, match="other architectures"):
            in_process(folder, "same", monkeypatch, lambda original: original())
    finally:
        file.write_text(before)


def test_changed_data_are_noticed(folder, digits):
    directory = RunDirectory(folder / "run")
    directory.check_data(digits)
    changed = data.Split(digits.train.images ^ 1, digits.train.labels)
    with pytest.raises(ost.InputError, match="train images of digits have changed"):
        directory.check_data(dataclasses.replace(digits, train=changed))
    fewer = digits.validation.take(slice(1, None))
    with pytest.raises(ost.InputError, match="100 then, 99 now"):
        directory.check_data(dataclasses.replace(digits, validation=fewer))
    with pytest.raises(ost.InputError, match="has the classes"):
        directory.check_data(dataclasses.replace(digits, class_names=("a", "b")))


def test_a_saved_model_does_not_replace_something_else(tmp_path, small_space, digits):
    a = small_space.sample(np.random.default_rng(0))
    net = ost.Standalone(small_space, a, ost.Stack(1, 2), num_classes=10)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(ost.InputError, match="is not an export"):
        ost.write_saved_model(net, digits, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"

    def refuse(folder):
        raise ost.InputError("not good")

    target = ost.write_saved_model(net, digits, tmp_path / "served")
    before = sorted(p.name for p in target.rglob("*"))
    with pytest.raises(ost.InputError, match="not good"):
        ost.write_saved_model(net, digits, target, check=refuse)
    assert sorted(p.name for p in target.rglob("*")) == before
    tf.saved_model.load(str(target))
