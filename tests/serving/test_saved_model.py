"""What is served: the pixels of training, checked before it is called done, by the right names."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import oneshot_tf as ost
from oneshot_tf.data import images
from oneshot_tf.data.headers import ORIENTATION_TAG
from oneshot_tf.serving import check, saved_model
from oneshot_tf.serving.class_names import renamed_classes


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two classes of twelve JPEG and PNG files of odd sizes, some stored turned."""
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for name in "ab":
        (root / name).mkdir()
        for i in range(12):
            width, height = (int(n) for n in rng.integers(11, 90, 2))
            coarse = rng.integers(0, 256, (3, 4, 3)).astype(np.uint8)
            image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            if i == 6:
                image.putalpha(90)
            kind, exif, file = "JPEG" if i % 3 else "PNG", Image.Exif(), io.BytesIO()
            exif[ORIENTATION_TAG] = 1 + i % 8
            image.save(file, kind, exif=exif)
            (root / name / f"{i:02d}.{kind.lower()}").write_bytes(file.getvalue())
    return root


class PixelsAsAnswer:
    """A net whose logits are the pixels that it is given."""

    variables = ()

    def __call__(self, normalized, training):
        return tf.reshape(normalized, [tf.shape(normalized)[0], 16 * 16 * 3])


@pytest.mark.parametrize("fit", ["stretch", "center"])
def test_training_streaming_predict_and_serving_see_the_same_pixels(photographs, fit):
    load = {"image_size": 16, "num_validation": 4, "fit": fit}
    memory, streamed = (
        ost.load_data(f"folder:{photographs}", storage=s, **load) for s in ("memory", "files")
    )
    trained, test = memory.train.join(memory.validation), memory.load_test()
    seen = {image.tobytes() for split in (trained, test) for image in split.images}
    files = sorted(photographs.rglob("*.*"))
    assert len(seen) == len(files) == 24
    for one, other in ((streamed.train, memory.train), (streamed.load_test(), test)):
        np.testing.assert_array_equal(one.in_memory().images, other.images)
    names = [str(i) for i in range(16 * 16 * 3)]
    black = saved_model.Preprocessing(16, np.zeros(3, "f"), np.ones(3, "f"), fit, tuple(names))
    module = saved_model._Served(PixelsAsAnswer(), black)
    contents = [file.read_bytes() for file in files]
    by_bytes = module.classify_files(tf.constant(contents))["probabilities"].numpy()
    for content, served in zip(contents, by_bytes):
        decoded = images.decode(content).pixels
        resized = images.resize(decoded, 16, fit).numpy()
        assert resized.tobytes() in seen
        predicted = module.classify(tf.constant(decoded[None]))["probabilities"].numpy()[0]
        for answer in (served, predicted):
            # Logarithms of probabilities differ as the logits do: by pixels / 255.
            logarithms = np.log(answer.astype(np.float64))
            differences = np.round(255 * (logarithms - logarithms[0])).astype(int)
            right = resized.reshape(-1).astype(int)
            np.testing.assert_array_equal(differences, right - right[0])


def test_a_check_that_finds_what_is_wrong(monkeypatch, small_space):
    net = ost.Standalone(
        small_space, small_space.sample(np.random.default_rng(0)), ost.Stack(1, 2), num_classes=3
    )
    half = np.full(3, 0.5, np.float32)
    given = saved_model.Preprocessing(8, half, half, "stretch", ("thé", "b", "c"))
    module = saved_model._Served(net, given)
    changes = {}

    def answers(_, groups, files, of_one_size):
        batches = [module.classify(tf.constant(group)) for group in groups]
        batches.append(module.classify_files(tf.constant(files)))
        join = {k: np.concatenate([b[k].numpy() for b in batches]) for k in batches[0]}
        names = np.array([name.decode() for name in join["class_name"]])
        right = {"batch": join["probabilities"], "single": join["probabilities"].copy(),
                 "index": join["class_index"], "name": names,
                 "none": np.array([[0, 3], [0, 3]]),
                 "fixed": module.classify_fixed(of_one_size)["probabilities"].numpy()}  # fmt: skip
        return {**right, **{key: change(right[key]) for key, change in changes.items()}}

    monkeypatch.setattr(check, "_ask_fresh_process", answers)
    count, worst = check.check_in_fresh_process("place", net, given)
    assert count == 20 and worst < 1e-6
    for key, change in {
        "batch": lambda x: x[::-1],
        "single": lambda x: x + 1e-3,
        "name": lambda x: np.where(x == x[0], "the", x),
        "none": lambda x: x + 1,
        "fixed": lambda x: x + 1e-3,
    }.items():
        changes = {key: change}
        with pytest.raises(ost.InputError, match="gives other answers"):
            check.check_in_fresh_process("place", net, given)


def test_names_of_classes_hold_blanks(tmp_path):
    known = ["rare", "rare bird", "rare bird of prey", "été", "a\tb"]
    file = tmp_path / "names"
    file.write_text("rare Few\nrare bird  Dodo\nrare bird of prey\tbig eagle\n été summer \n"
                    "a\tb\tc d\nrare birds no class\n", encoding="utf-8")  # fmt: skip
    called = renamed_classes(str(file), known)
    assert called == ["birds no class", "Dodo", "big eagle", "summer", "c d"]
    file.write_text("rare\tbird of prey\nrare bird Dodo\n")  # a tab ends a name before a blank does
    assert renamed_classes(str(file), known[:2]) == ["bird of prey", "Dodo"]
    file.write_bytes("rare Few".encode("utf-16"))
    with pytest.raises(ost.InputError, match="cannot be read"):
        renamed_classes(str(file), known)
