"""Each format gives the answers of the net in its own runtime; what does not is never kept."""

import functools
import json
import os
import pathlib
import shutil
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from conftest import edit_json

import oneshot_tf as ost
from oneshot_tf import export, predict
from oneshot_tf.data import images
from oneshot_tf.serving import classifier, formats, measuring, runtimes, write
from oneshot_tf.serving.fixed_size import multiplied, resize_fixed
from oneshot_tf.serving.folder import check_target
from oneshot_tf.serving.formats import FORMATS, Format
from oneshot_tf.serving.source import Frozen, Source, converting

WIDE = (24, 40)


@pytest.fixture(scope="module")
def net(digits):
    """A net with sums, a pool, and a wide convolution, whose gradient is ours."""
    cell = ost.Architecture.from_text("prev1:max3x3+sep5x5")
    net = ost.Standalone(ost.bender2018(num_blocks=1), cell, ost.Stack(1, 4))
    train = ost.TrainSettings(batch_size=64, augmentation="none")
    ost.fit_standalone(net, digits, 200, train)
    return net


@pytest.fixture(scope="module")
def sources(net, digits, tmp_path_factory):
    """The net for images of the training size, and for larger ones."""
    folder, found = tmp_path_factory.mktemp("formats"), {}
    for size in (None, WIDE):
        path = ost.write_saved_model(net, digits, folder / str(size), input_size=size)
        calibration = measuring.brought_to(digits.train.images[:50], size or (8, 8))
        found[size] = Source(net, digits, path, size, calibration)
    return found


@pytest.fixture(scope="module")
def given(net, digits):
    some = digits.validation
    return {size: measuring.judged(net, digits, some, size) for size in (None, WIDE)}


def run_here(name, folder, pixels):
    """The answers of a written file, in its runtime."""
    kind = FORMATS[name]
    path = folder if name == "saved_model" else folder / kind.files[0]
    classify, runtime = runtimes.RUNTIMES[kind.runtime](str(path), 0)
    assert runtime.strip()[-1].isdigit()
    return np.asarray(classify(pixels))


def write_here(name, source, folder):
    for module in FORMATS[name].needs:
        pytest.importorskip(module)
    if name == "saved_model":
        return source.saved_model
    before = set(folder.iterdir())
    FORMATS[name].write(source, folder)
    assert {path.name for path in set(folder.iterdir()) - before} == set(FORMATS[name].files)
    return folder


@pytest.mark.parametrize("size", [None, WIDE], ids=["training size", "larger"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_format_gives_the_answers_of_the_net(sources, given, tmp_path, name, size):
    if size and not FORMATS[name].any_size:
        pytest.skip("takes images of the training size only")
    folder = write_here(name, sources[size], tmp_path)
    right = given[size]
    answers = run_here(name, folder, right.images)
    classes = right.probabilities.argmax(axis=1)
    same = np.mean(answers.argmax(axis=1) == classes)
    integers = name == "tflite_int8"
    most = {"tflite_fp16": 2e-2, "tflite_int8": 0.4}.get(name, 1e-4)
    if size:  # pixels halfway between two numbers may be rounded the other way
        most = max(most, 5e-3)
    difference = np.abs(answers - right.probabilities)
    assert difference.max() < most and difference.mean() < most / 8
    assert same >= (0.8 if integers else 0.98)
    if FORMATS[name].runtime != "tflite":  # any number of images
        one = run_here(name, folder, right.images[:1])
        np.testing.assert_allclose(one, answers[:1], atol=1e-4)
    # The net is trained, so that the classes say something.
    assert size or np.mean(classes == right.labels) > 0.4


def test_inputs_and_outputs_have_names(sources, tmp_path):
    FORMATS["tflite"].write(sources[None], tmp_path)
    with pytest.warns(UserWarning, match="deprecated"):
        interpreter = tf.lite.Interpreter(str(tmp_path / "model.tflite"))
    names = {"inputs": ["images"], "outputs": ["probabilities"]}
    assert interpreter.get_signature_list() == {"serving_default": names}
    onnxruntime = pytest.importorskip("onnxruntime")
    write_here("onnx", sources[None], tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [each.name for each in session.get_inputs()] == ["images"]
    assert [each.name for each in session.get_outputs()] == ["probabilities"]
    openvino = pytest.importorskip("openvino")
    write_here("openvino", sources[None], tmp_path)
    model = openvino.Core().read_model(tmp_path / "model.xml")
    assert (model.input().names, model.output().names) == ({"images"}, {"probabilities"})


def test_an_integer_file_has_only_integers(sources, tmp_path):
    FORMATS["tflite_int8"].write(sources[None], tmp_path)
    with pytest.warns(UserWarning, match="deprecated"):
        interpreter = tf.lite.Interpreter(str(tmp_path / "model_int8.tflite"))
    interpreter.allocate_tensors()
    types = {each["dtype"] for each in interpreter.get_tensor_details()}
    assert types <= {np.uint8, np.int8, np.int32}
    (images_in,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (images_in["dtype"], answer["dtype"]) == (np.uint8, np.uint8)
    assert list(images_in["shape_signature"]) == [1, 8, 8, 3]
    assert images_in["quantization"] == (1.0, 0)  # a pixel is its own value


@pytest.mark.parametrize("fit", ["stretch", "center"])
@pytest.mark.parametrize("shape", [(480, 640), (37, 53), (9, 20), (32, 32), (1, 5)])
def test_two_matrices_resize_as_tensorflow_does(shape, fit):
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), np.uint8)
    by_matrices = resize_fixed(tf.constant(pixels, tf.float32), 16, fit).numpy()
    right = images.resize(tf.constant(pixels), 16, fit).numpy().astype(np.float32)
    off = np.abs(by_matrices - right)
    assert off.max() <= 1 and np.mean(off > 0) < 0.002  # only exact halves round differently
    if fit == "stretch":
        unrounded = tf.image.resize(pixels, (16, 16), antialias=True).numpy()
        product = multiplied(tf.constant(pixels, tf.float32), 16).numpy()
        assert np.abs(product - unrounded).max() < 1e-4


def broken(source, folder):
    """A converter that loses the weights and says nothing."""
    images, graph = source.calibration, source.frozen(batch=1).graph
    other = tf.compat.v1.GraphDef.FromString(graph.SerializeToString())
    for node in other.node:
        if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum:
            value = tf.make_ndarray(node.attr["value"].tensor)
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value * np.float32(0.5)))
    lost = Source(None, None, folder, None, images)
    lost._graphs[1, False] = Frozen(other, (1, 8, 8, 3), tf.uint8)
    FORMATS["tflite"].write(lost, folder)


def nothing(source, folder):
    """A converter that writes no file and says nothing."""


def half(source, folder):
    """A converter that writes half a file and says nothing."""
    FORMATS["tflite"].write(source, folder)
    path = folder / "model.tflite"
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("convert, kind, said", [
    (broken, Format(broken, ("model.tflite",), "tflite"), "broken. Its probabilities differ by up"),
    (nothing, Format(nothing, ("model.onnx",), "onnx"), "the converter wrote no model.onnx"),
    (half, Format(half, ("model.tflite",), "tflite"), "model.tflite does not run in a fresh"),
])  # fmt: skip
def test_a_converter_that_fails_in_silence_is_found(
    sources, given, tmp_path, monkeypatch, convert, kind, said
):
    monkeypatch.setitem(FORMATS, "mine", kind)
    with pytest.raises(ost.InputError, match=said) as error:
        formats.write_formats(sources[None], tmp_path, ["mine"], given[None])
    assert "\n" not in str(error.value)


def test_what_counts_as_the_same_answers(given):
    right = given[None]
    with pytest.raises(ost.InputError, match="differ by up to"):
        measuring.check_answers("x", right.probabilities + 2e-3, right, 1e-3)
    constant = np.broadcast_to(right.probabilities.mean(axis=0), right.probabilities.shape)
    measuring.check_answers("x", right.probabilities + 1e-3, right, None)
    for answers in (constant[:, ::-1], np.roll(right.probabilities, 1, axis=1)):
        with pytest.raises(ost.InputError, match="differ on average by"):
            measuring.check_answers("x", answers, right, None)


def test_an_export_of_formats_is_measured_and_replaced_as_a_whole(
    net, digits, tmp_path, capsys, monkeypatch
):
    some = {"facts": {"evaluated_on": "validation", "net": "n", "run_id": "r"}, "dataset": digits}
    first = write.Asked(tmp_path / "out", ("saved_model",), None, some["facts"])
    compare = lambda *_: (20, 0.0)  # noqa: E731  # tests/programs runs it
    write.write_export(net, digits, first, compare)
    assert not (tmp_path / "out" / "formats.json").exists()
    asked = write.Asked(tmp_path / "out", ("tflite",), None, **some)
    write.write_export(net, digits, asked, compare)
    printed = capsys.readouterr().out
    assert "The older export had saved_model too. This one replaces it." in printed
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"architecture.json", "formats.json", "model.tflite"}
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    table = json.loads((tmp_path / "out" / "formats.json").read_text())
    (row,) = table["formats"]
    assert row["bytes"] == (tmp_path / "out" / "model.tflite").stat().st_size
    assert row["largest_difference"] < 1e-4 and row["same_classes"] == 1
    assert 0 < row["one_ms"] < row["batch_ms"] and "100 validation images" in table["images"]
    answers = tf.nn.softmax(net(digits.normalize(digits.validation.images), training=False))
    right = np.mean(np.argmax(answers, axis=1) == digits.validation.labels)
    assert row["accuracy"] == pytest.approx(right) and f"{right:.4f}" in printed

    def fail(source, folder):
        raise ost.InputError("no")

    monkeypatch.setitem(FORMATS, "tflite", Format(fail, ("model.tflite",), "tflite"))
    with pytest.raises(ost.InputError, match="^no$"):
        write.write_export(net, digits, asked, compare)
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("name, modules, extra", [
    ("onnx", ["tf2onnx", "onnxruntime"], "onnx"), ("openvino", ["openvino"], "openvino"),
])  # fmt: skip
def test_a_missing_package_is_named_first(monkeypatch, name, modules, extra):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ost.InputError) as error:
        formats.check_formats(["saved_model", name])
    said = f"The format {name} needs {' and '.join(modules)}: pip install 'oneshot_tf[{extra}]'."
    assert str(error.value) == said
    setup = (pathlib.Path(__file__).parents[2] / "setup.py").read_text()
    assert f'"{extra}": [' in setup


def test_a_size_that_a_format_cannot_take():
    formats.check_formats(["saved_model", "tflite", "keras"])
    with pytest.raises(ost.InputError, match="--format=keras takes images of the training size"):
        formats.check_formats(["tflite", "keras"], (480, 640))


def test_settings_of_formats():
    chosen = export.ExportSettings(format="tflite, saved_model,tflite", input_size="480x640")
    assert chosen.formats == ["saved_model", "tflite"] and chosen.size == (480, 640)
    assert export.ExportSettings().formats == ["saved_model"]
    assert export.ExportSettings().size is None
    for text in ("", ",", "tflite,pickle", "TFLITE"):
        with pytest.raises(ost.InputError, match="--format must be one or more of saved_model, k"):
            export.ExportSettings(format=text)
    for text in ("0x5", "5", "5x", "5000x5", "-1x5", "٥x٥", "5x5x3"):
        with pytest.raises(ost.InputError, match="--input_size must be a height and a width"):
            export.ExportSettings(input_size=text)


def test_a_folder_that_cannot_be_written_is_found_first(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ost.InputError, match="Cannot write"):
        check_target(tmp_path / "file" / "export")
    assert check_target(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not list((tmp_path / "a").iterdir())
    (tmp_path / "own").mkdir()
    for name in ("architecture.json", "net.weights.h5"):  # the second is of an added format
        (tmp_path / "own" / name).write_text("")
    check_target(tmp_path / "own", {"net.weights.h5"})
    with pytest.raises(ost.InputError, match="holds 'net.weights.h5', which no export writes"):
        check_target(tmp_path / "own")


def test_an_error_of_a_converter_is_one_line(capfd):
    with pytest.raises(ost.InputError) as error, converting("tflite"):
        os.write(1, b"a library writes to standard output")
        os.write(2, b"and to standard error")
        raise RuntimeError("<unknown>:0: error: 'tf.X' is neither custom nor flex\nmore")
    assert "tflite (RuntimeError: <unknown>:0: error: 'tf.X' is neither" in str(error.value)
    assert "\n" not in str(error.value)
    print("after")
    out, err = capfd.readouterr()
    assert (out, err) == ("after\n", "")


def test_images_are_spread_over_a_large_split():
    assert list(measuring.spread(5, 8, 8)) == [0, 1, 2, 3, 4]
    some = measuring.spread(50_000, 224, 224)
    assert len(some) == 2**29 // (3 * 224 * 224) and (some[0], some[-1]) == (0, 49_999)
    assert len(np.unique(some)) == len(some)


def test_times_are_low_quantiles_of_rounds_in_turn(monkeypatch):
    clock, order, slow = [0.0], [], {}

    def call(name, seconds):
        order.append(name)
        clock[0] += seconds + slow.get(len(order), 0.0)

    monkeypatch.setattr(runtimes.time, "perf_counter", lambda: clock[0])
    calls = [functools.partial(call, "a", 0.3), functools.partial(call, "b", 0.7)]
    slow.update({place: 5.0 for place in range(8, 14)})
    (first, second), apart = runtimes.in_turn(calls)
    assert (first, second) == pytest.approx((300.0, 700.0)) and apart == pytest.approx(0.0)
    assert order[:6] == ["a"] * 3 + ["b"] * 3 and order[6:10] == ["a", "b", "a", "b"]


def test_times_that_disagree_are_taken_again(monkeypatch):
    clock, number = [0.0], [0]

    def drifting():
        number[0] += 1
        clock[0] += 0.3 + 0.1 * number[0]

    monkeypatch.setattr(runtimes.time, "perf_counter", lambda: clock[0])
    _, apart = runtimes.in_turn([drifting])
    assert apart > 0.1 and number[0] == 3 + 3 * 8  # three attempts of 5 seconds / 0.6 seconds


def test_a_signature_of_one_size_is_let_through_and_has_no_resize(sources):
    from oneshot_tf.serving.graph import check_graph

    for size, source in sources.items():
        check_graph(source.saved_model)
        frozen = source.frozen()
        assert frozen.shape == (None, *(size or (8, 8)), 3)
        operations = {node.op for node in frozen.graph.node}
        assert not operations & {"ScaleAndTranslate", "If", "StatelessIf", "AddN", "GatherV2"}
        module = tf.saved_model.load(str(source.saved_model))
        assert set(module.signatures) == {"serving_default", "bytes", "fixed"}


# ---------------------------------------------------------------------------- predict


@pytest.fixture
def place(sources, digits, tmp_path):
    """An image file, and a folder like that of an export, without any model."""
    shutil.copy(sources[None].saved_model / "architecture.json", tmp_path)
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(digits.validation.images[0]).numpy())
    return tmp_path


@pytest.mark.parametrize("name, module", [
    ("tflite", "ai_edge_litert"), ("tflite_int8", "ai_edge_litert"), ("onnx", "onnxruntime"),
    ("openvino", "openvino"),
])  # fmt: skip
def test_predict_takes_the_files(sources, given, place, capsys, name, module):
    pytest.importorskip(module)
    write_here(name, sources[None], place)
    path = place / FORMATS[name].files[0]
    chosen = predict.PredictSettings(saved_model=str(path), top=10, json=True)
    predict.main(chosen, [str(place / "a.png")])
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = {each["name"]: each["probability"] for each in answer["classes"]}
    right = given[None].probabilities[0]
    most = 0.4 if name == "tflite_int8" else 1e-4
    np.testing.assert_allclose([found[str(i)] for i in range(10)], right, atol=most)


def refused(path):
    with pytest.raises(ost.InputError) as error:
        predict.main(predict.PredictSettings(saved_model=str(path)), ["a.png"])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("suffix, package", [
    (".tflite", "ai-edge-litert"), (".onnx", "onnxruntime"), (".xml", "openvino"),
])  # fmt: skip
def test_predict_names_a_missing_package(place, monkeypatch, suffix, package):
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    (place / f"model{suffix}").write_bytes(b"")
    assert f"needs {package}: pip install 'oneshot_tf[" in refused(place / f"model{suffix}")


def test_predict_opens_no_keras_file_and_nothing_damaged(place, monkeypatch):
    (place / "model.keras").write_bytes(b"")
    assert "a file that ends with .tflite, .onnx, .xml" in refused(place / "model.keras")
    monkeypatch.setitem(sys.modules, "ai_edge_litert", mock.Mock())
    (place / "model.tflite").write_bytes(b"")
    monkeypatch.setitem(classifier.RUNTIMES, "tflite", mock.Mock(side_effect=ValueError("bad\nx")))
    assert "model.tflite cannot be loaded: bad" in refused(place / "model.tflite")
    for change in ({"image_size": 10**6}, {"input_size": [3]}, {"fit": "x"}, {"input_size": []}):
        edit_json(place / "architecture.json", **change)
        assert "architecture.json is damaged" in refused(place / "model.tflite")
        edit_json(place / "architecture.json", image_size=8, input_size=None, fit="stretch")
    (place / "architecture.json").unlink()
    assert "missing, so the names of the classes are unknown" in refused(place / "model.tflite")
