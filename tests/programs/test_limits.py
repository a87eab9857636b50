"""Limits in export and retrain: the measured files decide, and what is there stays."""

import json
import pathlib
import re
import shutil

import pytest
from program_runs import run

import oneshot_tf as ost
from oneshot_tf import export, retrain, settings
from oneshot_tf.settings import LimitSettings
from oneshot_tf.timing import exported
from oneshot_tf.timing.clock import Times

SMALL = ["--dataset=digits", "--num_validation=100", "--num_blocks=1", "--num_cells=2",
         "--filters=4", "--train_steps=2", "--batch_size=64", "--augmentation=none"]  # fmt: skip
LARGE, LITTLE = "prev1+prev2:conv1x7_7x1+sep7x7", "prev1:identity"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with two stand-alone models of very different size. The large one comes first."""
    folder = tmp_path_factory.mktemp("user")
    run("train", "--run_dir=run", *SMALL, cwd=folder)
    for name, text in (("large", LARGE), ("little", LITTLE)):
        run("retrain", "--run_dir=run", f"--architecture={text}", f"--name={name}",
            "--epochs=0.1", "--batch_size=64", "--augmentation=none", cwd=folder)  # fmt: skip
    return folder


@pytest.fixture
def own(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    # Other tests compare answers in a fresh process. Here only limits matter.
    monkeypatch.setattr(export, "check_in_fresh_process", lambda *given: (0, 0.0))
    return tmp_path


def sizes(own):
    found = {}
    for name in ("large", "little"):
        result = json.loads((own / "run" / "retrain" / name / "result.json").read_text())
        found[name] = result["nets"][0]
    return found


def write(limits, **values):
    export.main(
        settings.RunSettings("run"),
        export.ExportSettings(**values),
        settings.LocationSettings(),
        limits,
    )


def exported_text(own):
    newest = max((own / "run" / "export").iterdir(), key=lambda path: int(path.name))
    return json.loads((newest / "architecture.json").read_text())["text"]


@pytest.mark.parametrize("cost", ["parameters", "multiply_adds"])
def test_a_counted_limit_chooses_another_model(own, cost, capsys):
    found = sizes(own)
    most = found["little"][cost]
    assert most < found["large"][cost]
    write(LimitSettings(**{f"max_{cost}": most}))
    assert exported_text(own) == LITTLE
    with pytest.raises(ost.InputError, match="No trained model is within the limits"):
        write(LimitSettings(**{f"max_{cost}": 1}))
    assert [path.name for path in (own / "run" / "export").iterdir()] == ["1"]


@pytest.mark.slow
def test_a_limit_on_the_file_holds_for_the_file(own):
    write(LimitSettings(), format="tflite", net="large/net_00/run_0")
    file = own / "run" / "export" / "1" / "model.tflite"
    most = file.stat().st_size / 1000 - 1
    write(LimitSettings(max_file_kb=most), format="tflite")
    assert exported_text(own) == LITTLE
    length = (own / "run" / "export" / "2" / "model.tflite").stat().st_size
    assert length <= 1000 * most
    with pytest.raises(ost.InputError, match=r"large/net_00/run_0: The tflite file has .* kB; --"):
        write(LimitSettings(max_file_kb=most), format="tflite", net="large/net_00/run_0")


def test_a_limit_on_latency_is_measured_on_the_file(own, monkeypatch, capsys):
    orders = []

    def timed(order, scratch):
        ((_, path),) = order.files
        text = json.loads((pathlib.Path(path) / "architecture.json").read_text())["text"]
        orders.append((order.threads, order.batch, order.shape, text))
        return Times([9.0 if text == LARGE else 3.0], {}, 0.0, "")

    monkeypatch.setattr(exported, "timed", timed)
    write(LimitSettings(max_latency_ms=5.0, latency_batch=4, latency_threads=2))
    assert {order[:3] for order in orders} == {(2, 4, (8, 8))} and orders[-1][3] == LITTLE
    out = capsys.readouterr().out
    assert "tensorflow takes 3.000 ms for 4 images, which is within --max_latency_ms=5." in out
    with pytest.raises(ost.InputError, match="takes 3.000 ms for 1 image; --max"):
        write(LimitSettings(max_latency_ms=2.0), net="little/net_00/run_0")


@pytest.mark.slow
def test_a_latency_is_measured_for_real(own, capsys):
    write(LimitSettings(max_latency_ms=1e6))
    milliseconds = float(re.search(r"takes ([\d.]+) ms", capsys.readouterr().out)[1])
    assert 0 < milliseconds < 1e5


@pytest.mark.parametrize(
    ("limits", "values", "words"),
    [
        ({"max_file_kb": 10.0}, {}, "--max_file_kb=10 is for tflite, which is not in --format=sav"),
        (
            {"max_latency_ms": 1.0, "latency_of": "onnx"},
            {},
            "--max_latency_ms=1 is for onnx,",
        ),
        ({"latency_table": "x.csv"}, {}, "--latency_table does not apply to export"),
    ],
)
def test_limits_that_do_not_fit_the_export(own, limits, values, words):
    with pytest.raises(ost.InputError, match=re.escape(words)):
        write(LimitSettings(**limits), **values)
    assert not (own / "run" / "export").exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"architecture": LARGE}, f"{LARGE} is not within --max_parameters=20: it has "),
        ({"select": "all_on"}, "is not within --max_parameters=20: it has "),
        ({"select": "plain_cnn"}, "--select=plain_cnn takes --parameters and no limits. Leave out"),
    ],
)
def test_limits_of_retrain(own, values, words):
    with pytest.raises(ost.InputError, match=re.escape(words)):
        retrain.main(
            settings.RunSettings("run"),
            settings.RetrainSettings(**values, name="new"),
            settings.TrainSettings(batch_size=64),
            settings.DeviceSettings(),
            settings.LocationSettings(),
            limits=LimitSettings(max_parameters=20),
        )
    assert not (own / "run" / "retrain" / "new").exists()


@pytest.mark.parametrize("name", ["max_parameters", "max_multiply_adds", "max_file_kb",
                                  "max_latency_ms"])  # fmt: skip
def test_a_limit_below_zero_is_refused(name):
    with pytest.raises(ost.InputError, match=f"--{name} must be at least 0"):
        LimitSettings(**{name: -1})
