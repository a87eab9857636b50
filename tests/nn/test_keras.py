"""Nets as citizens of Keras: training from the context, configs, files, other models."""

import copy
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import random_images, randomize_betas

import oneshot_tf as ost
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.system.array_files import write_arrays

ROOT = pathlib.Path(__file__).parents[2]
TEXT = "prev1:sep3x3+max3x3 | prev2+block0:avg3x3"


def make(**options):
    """Two cells, a reduction, random betas; moving averages that have moved."""
    space = ost.bender2018(num_blocks=2)
    architecture = ost.Architecture.from_text(TEXT)
    net = ost.Standalone(space, architecture, ost.Stack(2, 4), num_classes=5, **options)
    randomize_betas(net)
    net(random_images(16, seed=1), training=True)
    return net


@pytest.fixture(scope="module")
def net():
    return make(seed=3)


def averages(model):
    return [v.numpy() for v in model.non_trainable_variables if "moving_mean" in v.path]


def moved(before, model):
    return [bool((a != b).any()) for a, b in zip(before, averages(model))]


# ---------------------------------------------------------------------------- training


class Wrap(keras.Model):
    """As one writes a model around a layer; Keras's batch norm is the witness."""

    def __init__(self, net):
        super().__init__()
        self.net, self.witness = net, keras.layers.BatchNormalization()

    def call(self, x, training=None):
        return self.net(self.witness(x))


class WrapWithout(Wrap):
    """`fit` tells a model whose `call` takes no `training` nothing: Keras's own rule."""

    def call(self, x):
        return self.net(self.witness(x))


class WrapPassing(Wrap):
    def call(self, x, training=None):
        return self.net(self.witness(x, training=training), training=training)


def functional(net):
    x = keras.Input((8, 8, 3))
    return keras.Model(x, net(keras.layers.BatchNormalization()(x)))


def sequential(net):
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.BatchNormalization(), net])


@pytest.mark.parametrize("around", [Wrap, WrapPassing, functional, sequential, WrapWithout])
def test_a_net_inside_a_model_trains_its_batch_norms_as_keras_does(around):
    """Under `fit` and under neither `predict` nor `evaluate`, like Keras's batch norm beside it."""
    model = around(make())
    x, y = random_images(8), np.arange(8) % 5
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)
    model.predict(x, verbose=0)  # builds the witness
    before = averages(model)
    model.predict(x, verbose=0)
    model.evaluate(x, y, verbose=0)
    assert not any(moved(before, model))
    before = averages(model)
    model.fit(x, y, verbose=0)
    trains = around is not WrapWithout
    assert len(before) > 5 and moved(before, model) == [trains] * len(before)


def test_an_explicit_none_is_no_answer(net):
    """`training=None` outside of any model: by moving averages, and they stay."""
    x, before = random_images(8), averages(net)
    np.testing.assert_array_equal(net(x, training=None), net(x, training=False))
    np.testing.assert_array_equal(net(x), net(x, training=False))
    assert not any(moved(before, net))


def test_fit_adds_l2_where_kernels_have_a_regularizer():
    net, weight_decay = make(), 0.01
    assert net.losses == []
    for kernel in net.kernels:
        kernel.regularizer = keras.regularizers.L2(weight_decay / 2)
    expected = weight_decay * float(ost.masked_l2(net.kernels))
    assert float(sum(net.losses)) == pytest.approx(expected, rel=1e-5)


def test_count_params_counts_moving_averages_too(net):
    trained = ost.parameters(net.space, [net.architecture], net.stack, 5)[0]
    betas = sum(v.shape[0] for v in net.trainable_variables if "beta" in v.path)
    assert net.count_params() == trained + 2 * betas


def test_summary_shows_cells_and_shapes(net, capsys):
    net.summary(line_length=100)
    shown = capsys.readouterr().out
    assert "cell1 (Cell)" in shown and "(None, None, None, 16)" in shown and "?" not in shown


# ---------------------------------------------------------------------------- configs, files


def test_configs_make_the_same_net_again(net):
    config = json.loads(json.dumps(net.get_config()))
    assert (config["architecture"], config["seed"]) == (str(net.architecture), 3)
    again, fresh = ost.Standalone.from_config(config), make(seed=3)
    assert again.architecture == net.architecture and again.stack == net.stack
    kernels = [[k.numpy() for k in n.kernels] for n in (again, fresh)]
    for a, b in zip(*kernels):
        np.testing.assert_array_equal(a, b)
    frozen = ost.Standalone.from_config({**config, "trainable": False, "name": "frozen"})
    assert frozen.name == "frozen" and frozen.trainable_variables == []
    assert len(frozen.kernels) == len(net.kernels)


def test_clones_and_deep_copies(net):
    clone = keras.models.clone_model(net)
    assert [v.path for v in clone.variables] == [v.path for v in net.variables]
    x = random_images(4)
    twin = copy.deepcopy(net)
    np.testing.assert_array_equal(twin(x), net(x))
    twin.kernels[0].assign(2 * twin.kernels[0])
    assert np.abs(twin(x) - net(x)).max() > 1e-3


@pytest.mark.slow
def test_saved_nets_load_to_the_bit_and_in_a_fresh_process(net, small_supernet, tmp_path):
    """A stand-alone net, one inside another model, a one-shot model: only `import oneshot_tf`.

    The fresh process may use other kernels: TensorFlow was imported first here, there not.
    """
    x = random_images(6)
    inside = keras.Sequential([keras.Input((8, 8, 3)), ost.GhostBatchNorm(epsilon=0.1), net])
    for name, model in (("net", net), ("inside", inside), ("supernet", small_supernet)):
        model.save(tmp_path / f"{name}.keras")
    masks = small_supernet.space.masks([net.architecture])
    np.savez(tmp_path / "in.npz", x=x, masks=masks)
    code = """if True:
        import oneshot_tf, keras, numpy as np
        given = np.load("in.npz")
        load = lambda name: keras.models.load_model(name + ".keras")
        np.savez("out.npz", net=load("net")(given["x"]), inside=load("inside")(given["x"]),
                 supernet=load("supernet")(given["x"], given["masks"]))
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    fresh = np.load(tmp_path / "out.npz")
    given = {"net": (x,), "inside": (x,), "supernet": (x, masks)}
    for name, model in (("net", net), ("inside", inside), ("supernet", small_supernet)):
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        np.testing.assert_array_equal(loaded(*given[name]), model(*given[name]))
        np.testing.assert_allclose(fresh[name], model(*given[name]), atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "__import__('os').system('touch hacked')"},
        {"architecture": None},
        {"space": {"num_blocks": 2}},
        {"space": {"num_blocks": 2, "operations": [["sep3x3"]], "max_operations": 2}},
        {"stack": {"num_cells": 2, "filters": "8"}},
        {"stack": [2, 8]},
        {"num_classes": "5"},
        {"seed": -1},
        {"dtype": {"class_name": "function", "module": "os", "config": "system"}},
        {"dtype": "float64"},
        {"unheard": 1},
    ],
)
def test_a_config_of_no_net_is_refused(net, change):
    with pytest.raises(ost.InputError):
        ost.Standalone.from_config({**net.get_config(), **change})


def test_a_file_with_such_a_config_is_refused_in_one_line(net, tmp_path):
    net.save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as old:
        parts = {name: old.read(name) for name in old.namelist()}
    assert b"max3x3+sep3x3" in parts["config.json"]
    parts["config.json"] = parts["config.json"].replace(b"max3x3+sep3x3", b"rm")
    with zipfile.ZipFile(tmp_path / "bad.keras", "w") as bad:
        for name, content in parts.items():
            bad.writestr(name, content)
    with pytest.raises(ost.InputError, match="'rm'"):
        keras.models.load_model(tmp_path / "bad.keras")


@pytest.mark.parametrize("called", [False, True])
def test_export(called, tmp_path):
    """A fresh net and one that was called; any number and size of images."""
    space = ost.bender2018(num_blocks=1)
    net = ost.Standalone(space, space.sample(np.random.default_rng(0)), ost.Stack(1, 4), 5)
    if called:
        net(random_images(2))
    net.export(tmp_path / "net", verbose=False)
    serve = tf.saved_model.load(str(tmp_path / "net")).signatures["serving_default"]
    for x in (random_images(3), random_images(1, size=11)):
        (answer,) = serve(tf.constant(x)).values()
        np.testing.assert_allclose(answer, net(x), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
def test_tflite_gives_the_same_answers(net):
    content = tf.lite.TFLiteConverter.from_keras_model(net).convert()
    interpreter = tf.lite.Interpreter(model_content=content)
    x = random_images(1)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, x)
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(answer, net(x), atol=1e-4)


# ---------------------------------------------------------------------------- Keras's settings


def test_a_one_shot_model_needs_masks_and_a_known_batch(small_supernet):
    images, masks = keras.Input((8, 8, 3)), keras.Input((19,))
    with pytest.raises(ost.InputError, match="Give `keras.Input` a `batch_size`"):
        small_supernet(images, masks)
    with pytest.raises(ost.InputError, match="must be called with images and masks"):
        small_supernet.predict(random_images(4), verbose=0)
    with pytest.raises(ost.InputError, match="export a `Standalone`"):
        small_supernet.export("nowhere")
    images, masks = keras.Input((8, 8, 3), batch_size=4), keras.Input((19,), batch_size=2)
    model = keras.Model([images, masks], small_supernet(images, masks))
    x, m = random_images(4), np.ones((2, 19), np.float32)
    np.testing.assert_allclose(model([x, m]), small_supernet(x, m), atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (8, 8, 3), (2, 3, 8, 8)])
def test_images_of_another_shape_are_refused(net, shape):
    with pytest.raises(ost.InputError, match=r"must have the shape \[B, H, W, 3\]"):
        net(np.zeros(shape, np.float32))


@pytest.mark.parametrize("policy", ["float64", "bfloat16", "float16"])
def test_a_policy_without_float32_variables_is_refused(policy):
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(policy)
        for build in (make, ost.GhostBatchNorm):
            with pytest.raises(ost.InputError, match=f"got {policy}"):
                build()
    finally:
        keras.config.set_dtype_policy(before)


def test_global_mixed_float16_and_channels_first_are_right(net):
    x = random_images(8)
    before = keras.config.dtype_policy(), keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        np.testing.assert_array_equal(make(seed=3)(x), net(x))
        keras.config.set_dtype_policy("mixed_float16")
        half = make(seed=3)
    finally:
        keras.config.set_dtype_policy(before[0])
        keras.config.set_image_data_format(before[1])
    assert half.compute_dtype == "float16" and half.get_config()["dtype"] == "mixed_float16"
    error = np.abs(half(x) - net(x)).max()
    assert 0 < error < 0.05 * np.abs(net(x)).max()


# ---------------------------------------------------------------------------- checkpoints


def test_checkpoints_of_earlier_names_are_read(tmp_path):
    """They have `offset` for `beta`, in the optimizer's momentum too."""
    net, other = make(seed=1), make(seed=2)
    optimizers = [keras.optimizers.SGD(0.1, momentum=0.9, name="sgd") for _ in range(2)]
    for model, optimizer in zip((net, other), optimizers):
        optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    variables = [*net.variables, *optimizers[0].variables]
    for variable in variables:
        variable.assign(rng.integers(1, 100, variable.shape))
    arrays = {
        v.path.replace("bn/beta", "bn/offset").replace("_beta_", "_offset_"): v.numpy()
        for v in variables
    }
    assert sum("offset" in name for name in arrays) > 10
    assert any(name.endswith("_bn_offset_momentum") for name in arrays)
    write_arrays(Checkpoints(tmp_path).path(7), arrays)
    restored = [*other.variables, *optimizers[1].variables]
    assert Checkpoints(tmp_path).restore(restored) == 7
    for a, b in zip(variables, restored):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
