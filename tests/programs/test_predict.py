"""predict: answers of many files, in every format, as they come, whatever their names are."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from program_runs import ROOT, error_of

import oneshot_tf as ost
from oneshot_tf import predict
from oneshot_tf.serving import answers, classifier
from oneshot_tf.serving.classifier import open_classifier

STRANGE = ["=cmd|calc.png", "+1.png", "-2.png", "@x.png", 'a,"b".png', "a\nb\x1b[2J.png", "é数.png"]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}


@pytest.fixture(scope="module")
def net(digits):
    cell = ost.Architecture.from_text("prev1:max3x3+sep3x3")
    net = ost.Standalone(ost.bender2018(num_blocks=1), cell, ost.Stack(1, 4))
    ost.fit_standalone(net, digits, 60, ost.TrainSettings(batch_size=64, augmentation="none"))
    return net


@pytest.fixture(scope="module")
def root(net, digits, tmp_path_factory):
    """A folder of two versions, of which the first has no weights."""
    root = tmp_path_factory.mktemp("served")
    ost.write_saved_model(net, digits, root / "2")
    shutil.copytree(root / "2", root / "1", ignore=shutil.ignore_patterns("variables"))
    return root


@pytest.fixture(scope="module")
def photos(digits, tmp_path_factory):
    """80 digits of three sizes, in folders."""
    folder = tmp_path_factory.mktemp("photos")
    for i, pixels in enumerate(digits.validation.images[:80]):
        image = Image.fromarray(pixels)
        image = [image, image.resize((30, 20)), image.resize((8, 50))][i % 3]
        path = folder / ["", "a", "a/b"][i % 3] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return folder


def answer(root, paths, **settings):
    predict.main(predict.PredictSettings(saved_model=str(root), **settings), list(map(str, paths)))


def lines_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("fit", ["stretch", "center"])
def test_a_batch_gives_the_answers_of_one_by_one(net, digits, photos, tmp_path, capsys, fit):
    path = ost.write_saved_model(net, dataclasses.replace(digits, fit=fit), tmp_path / "e")
    answer(path, [photos], format="json", top=10)
    found = lines_of(capsys)
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    assert [each["image"] for each in found] == list(map(str, sorted(photos.rglob("*.png"))))
    for each in found:
        pixels = np.asarray(Image.open(each["image"]))
        right = serve(images=tf.constant(pixels[None]))["probabilities"].numpy()[0]
        given = {one["name"]: one["probability"] for one in each["classes"]}
        np.testing.assert_allclose([given[str(i)] for i in range(10)], right, atol=1e-5)


def test_batches_are_full_and_an_export_of_a_larger_size_goes_one_by_one(
    net, digits, root, photos, tmp_path, monkeypatch, capsys
):
    sizes = []
    call = classifier.Classifier.__call__
    monkeypatch.setattr(predict, "_WAIT", 600.0)
    monkeypatch.setattr(
        classifier.Classifier, "__call__",
        lambda self, images, names: sizes.append(len(images)) or call(self, images, names),
    )  # fmt: skip
    answer(root, [photos], format="json")
    assert sizes == [32, 32, 16]
    batched = lines_of(capsys)
    sizes.clear()
    wide = ost.write_saved_model(net, digits, tmp_path / "e", input_size=(20, 30))
    answer(wide, [photos], format="json")
    assert sizes == [1] * 80
    for one, other in zip(lines_of(capsys), batched):
        given = {each["name"]: each["probability"] for each in other["classes"]}
        for each in one["classes"]:
            assert each["probability"] == pytest.approx(given.get(each["name"], 0), abs=1e-3)


@pytest.mark.parametrize("wait, printed", [(600.0, [0] * 32 + [32] * 8), (-1.0, range(40))])
def test_answers_appear_as_they_come(root, photos, monkeypatch, capsys, wait, printed):
    """After a batch, or before if reading is slow. So few images are in memory."""
    decode, seen, total = predict.decode, [], [0]

    def watched(encoded):
        total[0] += len(capsys.readouterr().out.splitlines())
        seen.append(total[0])
        return decode(encoded)

    monkeypatch.setattr(predict, "decode", watched)
    monkeypatch.setattr(predict, "_WAIT", wait)
    answer(root, sorted(photos.rglob("*.png"))[:40])
    assert seen == list(printed)


def test_an_image_that_fails_in_a_batch_is_named(root):
    opened = open_classifier(str(root))
    images = [np.zeros((8, 8, 3), np.uint8)] * 3 + [np.zeros((9, 8, 3), np.uint8)]
    assert opened(images[:3], "abc").shape == (3, 10)
    with pytest.raises(ost.InputError, match="2 cannot classify d: "):
        opened(images, "abcd")
    broken = classifier.Classifier(root, ["a"] * 10, lambda x: x, lambda x: x * np.nan, 32)
    with pytest.raises(ost.InputError, match="not finite, for example for b"):
        broken([np.zeros(10), np.zeros(10)], ["b", "c"])
    with pytest.raises(ost.InputError, match="returns 9 probabilities, but .* names 10 classes"):
        broken([np.zeros(9)], ["b"])


def test_the_newest_version_is_taken(root, photos, tmp_path, capsys):
    assert open_classifier(str(root)).path == root / "2"
    with pytest.raises(ost.InputError, match="1 cannot be loaded"):
        open_classifier(str(root / "1"))
    shutil.copytree(root / "2", tmp_path / "old")  # as earlier releases wrote an export
    assert open_classifier(str(tmp_path / "old")).path == tmp_path / "old"
    (tmp_path / "e" / "3").mkdir(parents=True)
    shutil.copy(root / "2" / "architecture.json", tmp_path / "e" / "3")
    (tmp_path / "e" / "3" / "model.tflite").write_bytes(b"no model")
    with pytest.raises(ost.InputError, match="3 holds no SavedModel, but model.tflite. Give a"):
        open_classifier(str(tmp_path / "e"))
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(ost.InputError, match="3/model.tflite cannot be loaded"):
        open_classifier(str(tmp_path / "e" / "model.tflite"))


@pytest.fixture
def strange(photos, tmp_path):
    for name in STRANGE:
        shutil.copy(photos / "00.png", tmp_path / name)
    with open(os.fsencode(tmp_path) + b"/\xff\xfe.png", "wb") as file:
        file.write((photos / "00.png").read_bytes())
    return tmp_path


def test_strange_names_in_every_format(root, strange, capsys, monkeypatch):
    monkeypatch.chdir(strange)
    answer(root, ["."], format="csv", top=2)
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["image", "class", "probability"] and len(rows) == 1 + 2 * 8
    images = {row[0] for row in rows[1:]}
    escaped = {"./a\\nb\\x1b[2J.png", "./\\udcff\\udcfe.png"}
    assert images == escaped | {f"./{n}" for n in STRANGE if "\n" not in n}
    one = [row for row in rows if row[0] == "./é数.png"]
    answer(root, ["."], format="json", top=2)
    found = {os.fsencode(each["image"]): each["classes"] for each in lines_of(capsys)}
    assert set(found) == {b"./" + name for name in os.listdir(b".")}
    given = [(each["name"], each["probability"]) for each in found["./é数.png".encode()]]
    assert [(row[1], pytest.approx(float(row[2]), rel=1e-5)) for row in one] == given
    answer(root, ["."], top=2)
    assert len(capsys.readouterr().out.splitlines()) == 8


@pytest.mark.parametrize("form", answers.FORMATS)
def test_a_file_has_what_would_be_printed(root, strange, capsys, form):
    answer(root, [strange], format=form)
    printed = capsys.readouterr().out
    path = strange / "answers"
    if form != "json":  # the terminal's stream escapes them
        printed = printed.encode("utf-8", "backslashreplace").decode()
    answer(root, [strange], format=form, output=str(path))
    assert path.read_text(encoding="utf-8") == printed and capsys.readouterr().out == ""
    with pytest.raises(ost.InputError, match="--output must be a new file, and .*answers exists"):
        answer(root, [strange], output=str(path))
    assert path.read_text(encoding="utf-8") == printed


def test_files_that_cannot_be_written_are_refused_first(root, photos, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for output, said in (("none/x", "must be in a folder that exists"), ("link", "a new file")):
        with pytest.raises(ost.InputError, match=said):
            answer("no model", [photos], output=str(tmp_path / output))
    with pytest.raises(ost.InputError, match="no image to classify"):
        answer(root, [tmp_path], output=str(tmp_path / "a"))
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(ost.InputError, match="1 of 1 image"):
        answer(root, [tmp_path], output=str(tmp_path / "a"), format="csv")
    assert {path.name for path in tmp_path.iterdir()} == {"link", "b.png"}


def test_a_full_disk_is_one_line():
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    stream = open("/dev/full", "w")  # noqa: SIM115  # closing it fails, too
    writer = answers.Answers(stream, "text", "out")
    with pytest.raises(ost.InputError, match="Cannot write out: No space left"):
        writer.write([("a", [("b", 0.5)])])
    assert writer.count == 0
    with contextlib.suppress(OSError):
        stream.close()


def test_formats_that_contradict_each_other():
    with pytest.raises(ost.InputError, match="--json means --format=json, but --format=csv"):
        predict.PredictSettings(json=True, format="csv")
    with pytest.raises(ost.InputError, match="--format must be one of text, csv, json; got xml"):
        predict.PredictSettings(format="xml")


def start(root, *arguments, **options):
    command = [sys.executable, "-m", "oneshot_tf.predict", f"--saved_model={root}", *arguments]
    return subprocess.Popen(command, env=ENV, text=True, stderr=subprocess.PIPE, **options)


def test_a_reader_that_goes_away(root, photos):
    with start(root, *[str(photos)] * 40, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().count(":") == 1
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 141 and "Traceback" not in said and "error" not in said


def test_ctrl_c_keeps_what_is_there_and_says_so(root, photos, tmp_path):
    path = tmp_path / "answers.csv"
    flags = ["--format=csv", f"--output={path}", "--top=1"]
    with start(root, *[str(photos)] * 250, *flags) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (path.exists() and path.stat().st_size):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130 and "Traceback" not in said
    rows = path.read_text().splitlines()
    last = said.splitlines()[-1]
    assert f"stopped by Ctrl-C after {len(rows) - 1:,} of 20,000 images; {path} has" in last
    assert "repeat the command" not in last and len(rows) > 1
    assert rows[0] == "image,class,probability" and rows[-1].count(",") == 2


def test_one_message_for_bad_input(root, photos, tmp_path):
    """Nothing that exists, an empty folder, a broken model."""
    assert "no image to classify" in error_of(
        "predict", f"--saved_model={root}", "nothing.png", cwd=tmp_path
    )
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    shutil.copy(root / "2" / "architecture.json", tmp_path)
    said = error_of("predict", "--saved_model=.", str(photos), cwd=tmp_path)
    assert "saved_model.pb" in said
