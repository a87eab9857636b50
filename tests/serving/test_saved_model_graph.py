"""A SavedModel that may be somebody else's computes and does nothing else; users' files stay."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from hostile_inputs import accepted, changed_bytes, hostile
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.protobuf import saved_model_pb2

import oneshot_tf as ost
from oneshot_tf import predict
from oneshot_tf.serving import saved_model
from oneshot_tf.serving.classifier import open_classifier
from oneshot_tf.serving.graph import check_graph


@pytest.fixture(scope="module")
def net():
    """A cell with all seven operations and every way of joining inputs, and a strided stem."""
    space = ost.bender2018(num_blocks=4)
    one, two, three, four, five, six, seven = space.operations
    architecture = ost.Architecture.from_text(
        f"prev1+prev2:{one}+{two} | prev1+block0:{three}+{four} | block0+block1:{five}+{six} | "
        f"prev1+prev2+block0+block2:{seven}"
    )
    space.check(architecture)
    return ost.Standalone(space, architecture, ost.Stack(2, 4, stem_stride=2), num_classes=3)


def preprocessing(fit="center"):
    half = np.full(3, 0.5, np.float32)
    # 16 pixels, 8 after the stem: wide enough for the gradients that are ours.
    return saved_model.Preprocessing(16, half, half, fit, ("a", "b", "c"))


@pytest.fixture(scope="module")
def exported(net, tmp_path_factory):
    return saved_model.write_saved_model(
        net, preprocessing(), tmp_path_factory.mktemp("exported") / "export"
    )


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "export")


def test_an_export_is_let_through(exported):
    check_graph(exported)


class AtLoad(tf.Module):
    """A table that TensorFlow fills from a file while it loads."""

    def __init__(self, folder):
        super().__init__()
        (folder / "words").write_text("a\n")
        start = tf.lookup.TextFileInitializer(
            str(folder / "words"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )  # fmt: skip
        self.table = tf.lookup.StaticHashTable(start, 0)

    @tf.function(input_signature=[tf.TensorSpec([None] * 4, tf.uint8, "images")])
    def serve(self, images):
        return {"probabilities": tf.cast(self.table.lookup(tf.constant(["a"])), tf.float32)[None]}


class AtCall(tf.Module):
    """Writes, reads or lists files, at any depth of calls."""

    def __init__(self, act):
        super().__init__()
        self._act = act

    @tf.function(input_signature=[tf.TensorSpec([None] * 4, tf.uint8, "images")])
    def serve(self, images):
        inner = tf.function(lambda: tf.cond(tf.size(images) >= 0, self._act, lambda: 0.0))
        return {"probabilities": tf.fill([1, 1], inner())}


def acts(folder):
    mark, secret = str(folder / "PWNED"), str(folder / "secret")

    def after(operation):
        with tf.control_dependencies([operation]):
            return tf.constant(1.0)

    def python():
        return tf.py_function(lambda: 1.0, [], tf.float32)

    return {
        "WriteFile": lambda: after(tf.io.write_file(mark, "x")),
        "SaveV2": lambda: after(tf.raw_ops.SaveV2(
            prefix=mark, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.ones(1)])),
        "ReadFile": lambda: tf.cast(tf.strings.length(tf.io.read_file(secret)), tf.float32),
        "RestoreV2": lambda: tf.raw_ops.RestoreV2(
            prefix=secret, tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32])[0],
        "MatchingFiles": lambda: tf.cast(tf.size(tf.io.matching_files("/*")), tf.float32),
        "PrintV2": lambda: after(tf.raw_ops.PrintV2(input="x", output_stream=f"file://{mark}")),
        "EagerPyFunc": python,
    }  # fmt: skip


@pytest.mark.parametrize("operation", [*acts(pathlib.Path("."))])
def test_graphs_that_touch_files_are_refused(tmp_path, operation):
    module = AtCall(acts(tmp_path)[operation])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": module.serve})
    (tmp_path / "m" / "architecture.json").write_text(json.dumps({"class_names": ["a", "b"]}))
    for name in ("PWNED", "PWNED.index", "PWNED.data-00000-of-00001"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(ost.InputError, match=f"operation '{operation}'"):
        open_classifier(str(tmp_path / "m"))
    assert not list(tmp_path.glob("PWNED*"))


def test_a_table_that_is_read_while_loading_is_refused(tmp_path):
    module = AtLoad(tmp_path)
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": module.serve})
    with pytest.raises(ost.InputError, match="object '(resource|asset|tf.StaticHashTable)'"):
        check_graph(tmp_path / "m")


def change(folder, edit):
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    edit(model, model.meta_graphs[0])
    path.write_bytes(model.SerializeToString())


def call_save(_, graph):
    """A signature's function that calls the one by which TensorFlow saves variables."""
    library = graph.graph_def.library.function
    (save,) = [f.signature.name for f in library if "traced_save" in f.signature.name]
    root = graph.object_graph_def.nodes
    name = next(n.function.concrete_functions[0] for n in root if n.function.concrete_functions)
    (function,) = [f for f in library if f.signature.name == name]
    node = function.node_def.add(name="hidden", op="StatefulPartitionedCall")
    node.attr["f"].func.name = save


@pytest.mark.parametrize("edit, said", [
    (call_save, "operation"),
    (lambda _, g: g.ClearField("object_graph_def"), "one graph with objects"),
    (lambda m, g: m.meta_graphs.add().CopyFrom(g), "one graph"),
    (lambda m, _: m.ClearField("meta_graphs"), "one graph"),
    (lambda _, g: g.graph_def.node.add(name="w", op="WriteFile"), "operation 'WriteFile'"),
    (lambda _, g: g.asset_file_def.add(filename="../../x"), "object 'asset'"),
    (lambda _, g: setattr(g.object_graph_def.nodes[0], "registered_name", "x.Y"), "object 'x.Y'"),
    (lambda _, g: setattr(g.object_graph_def.nodes[0].user_object, "identifier", "_tf_keras_layer"),
     "object '_tf_keras_layer'"),
])  # fmt: skip
def test_changed_graphs_are_refused(copy, edit, said):
    change(copy, edit)
    with pytest.raises(ost.InputError, match=said):
        predict.main(predict.PredictSettings(saved_model=str(copy)), ["a.png"])


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"no graph"])
def test_what_is_no_graph_is_refused(copy, content):
    (copy / "saved_model.pb").write_bytes(content)
    with pytest.raises(ost.InputError, match="cannot be read|one graph"):
        check_graph(copy)


@pytest.mark.parametrize("other", ["saved_model.cpb", "saved_model.pbtxt"])
def test_a_second_description_is_refused(copy, other):
    (copy / other).write_text("")
    with pytest.raises(ost.InputError, match="describes its graph twice"):
        check_graph(copy)


@hostile(60)
@given(data=st.data())
def test_changed_bytes_of_a_graph(exported, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "saved_model.pb"
    path.write_bytes(data.draw(changed_bytes((exported / "saved_model.pb").read_bytes())))
    accepted(check_graph, path.parent)


# ---------------------------------------------------------------------------- users' files


def test_an_export_over_an_export_replaces_it(net, copy, monkeypatch):
    written = []
    monkeypatch.setattr(saved_model, "_write", lambda *a: written.append(a) or a[2].mkdir())
    saved_model.write_saved_model(net, preprocessing(), copy)
    assert written and not list(copy.iterdir())


@pytest.mark.parametrize("name", [
    "notes.txt", "assets.extra/requests", "mine/", "variables/variables.old", "assets/words",
    ".hidden", "variables/mine/", "saved_model.pb.bak", "architecture.json~", "a\nb\x1b[2J",
])  # fmt: skip
def test_a_users_file_in_an_export_is_kept(net, copy, name):
    path = copy / name
    if name.endswith("/"):
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    before = sorted(copy.rglob("*"))
    with pytest.raises(ost.InputError, match="which no export writes") as error:
        saved_model.write_saved_model(net, preprocessing(), copy)
    assert name.rstrip("/").split("\n")[0] in str(error.value) and "\x1b" not in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(copy.rglob("*")) == before and sorted(copy.parent.iterdir()) == [copy]


def test_a_renamed_file_of_variables_is_kept(net, copy):
    (data,) = copy.glob("variables/variables.data*")
    data.rename(data.with_name("best.data"))
    with pytest.raises(ost.InputError, match="'variables/best.data'"):
        saved_model.write_saved_model(net, preprocessing(), copy)
    assert (copy / "variables" / "best.data").exists()


def test_a_file_put_there_during_an_export_is_kept(net, copy, monkeypatch):
    monkeypatch.setattr(saved_model, "_write", lambda *a: a[2].mkdir())
    with pytest.raises(ost.InputError, match="'notes.txt'"):
        saved_model.write_saved_model(
            net, preprocessing(), copy, check=lambda _: (copy / "notes.txt").write_text("mine")
        )
    assert (copy / "notes.txt").read_text() == "mine" and (copy / "saved_model.pb").exists()
