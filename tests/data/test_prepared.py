"""Tests that folders of tensorflow-datasets neither run code nor lead to files outside."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hostile_inputs import accepted, changed_bytes, changed_json, hostile
from hypothesis import given
from hypothesis import strategies as st

import oneshot_tf as ost

pytestmark = pytest.mark.filterwarnings("default")
EVIL = "evil_package.payload.X"
FEATURES = "tensorflow_datasets.core.features."
IMAGE = {
    "pythonClassName": FEATURES + "image_feature.Image",
    "image": {"shape": {"dimensions": ["32", "32", "3"]}, "dtype": "uint8",
              "encodingFormat": "png"},
}  # fmt: skip
LABEL = {
    "pythonClassName": FEATURES + "class_label_feature.ClassLabel",
    "classLabel": {"numClasses": "10"},
}


@pytest.fixture(scope="module")
def own_set(prepared, tmp_path_factory):
    """Copies the prepared CIFAR-10 to a name for which tensorflow-datasets has no code."""
    root = tmp_path_factory.mktemp("own")
    (source,) = prepared.glob("cifar10/*")
    shutil.copytree(source, root / "evil" / "1.0.0")
    for path in (root / "evil" / "1.0.0").iterdir():
        if path.suffix == ".json":
            text = path.read_text().replace('"cifar10"', '"evil"')
            path.write_text(text.replace("3.0.2", "1.0.0"))
        path.rename(path.with_name(path.name.replace("cifar10", "evil")))
    return root


@pytest.fixture
def copy(own_set, tmp_path):
    shutil.copytree(own_set, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def payload(tmp_path, monkeypatch):
    """Creates a module that writes a file when it is imported. Returns the path of this file."""
    package, mark = tmp_path / "evil_package", tmp_path / "PWNED"
    package.mkdir()
    (package / "payload.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield mark
    for name in [name for name in sys.modules if name.startswith("evil_package")]:
        del sys.modules[name]


def load(root, name="evil", **options):
    return ost.load_data(name, str(root), num_validation=20, download=False, **options)


def table(features):
    return {"pythonClassName": FEATURES + "features_dict.FeaturesDict",
            "featuresDict": {"features": features}}  # fmt: skip


def unicode_escaped(text):
    return "".join(f"\\u{ord(c):04x}" for c in text)


def hostile_descriptions():
    """Yields names and contents of features.json that name the payload as a class."""
    plain = json.dumps({"type": EVIL, "content": {}})
    inner = {"feature": {"pythonClassName": EVIL, "text": {}}, "length": "-1"}
    nested = {"pythonClassName": FEATURES + "sequence_feature.Sequence", "sequence": inner}
    yield "plain", plain
    yield "escaped name", plain.replace("type", "t\\u0079pe")
    yield "escaped value", plain.replace(EVIL, EVIL.replace(".", "\\u002e"))
    yield (
        "all escaped",
        plain.replace("type", unicode_escaped("type")).replace(EVIL, unicode_escaped(EVIL)),
    )
    for spelling in ("pythonClassName", "python_class_name"):
        yield spelling, json.dumps({spelling: EVIL, "text": {}})
        yield (
            f"{spelling} of the image",
            json.dumps(table({"image": {spelling: EVIL, "image": IMAGE["image"]}, "label": LABEL})),
        )
        yield f"{spelling} of json", json.dumps({spelling: EVIL, "jsonFeature": {"json": "{}"}})
    yield (
        "escaped class name",
        json.dumps({"pythonClassName": EVIL, "text": {}}).replace("Name", "Nam\\u0065"),
    )
    yield (
        "both spellings",
        json.dumps({**table({"image": IMAGE, "label": LABEL}), "python_class_name": EVIL}),
    )
    yield "type beside", json.dumps({**table({"image": IMAGE, "label": LABEL}), "type": EVIL,
                                     "content": {}})  # fmt: skip
    whole = json.dumps(table({"image": IMAGE, "label": LABEL}))
    yield "twice, ours last", f'{{"pythonClassName": "{EVIL}", {whole[1:]}'
    yield "twice, ours first", f'{whole[:-1]}, "pythonClassName": "{EVIL}"}}'
    yield "nested only", json.dumps(table({"sequence": nested}))
    yield "a list", json.dumps([{"type": EVIL, "content": {}}])
    yield "legacy nested", json.dumps(
        {"type": FEATURES + "features_dict.FeaturesDict", "content": {
            "image": {"type": FEATURES + "sequence_feature.Sequence", "content": {
                "feature": {"type": EVIL, "content": {}}, "length": None}}, "label": LABEL}}
    )  # fmt: skip
    yield "BOM", "\ufeff" + plain
    yield "UTF-16", plain.encode("utf-16")
    yield "UTF-32", plain.encode("utf-32")
    yield "comment", f"/* */ {plain}"
    yield "deep", "[" * 100_000
    yield "deep objects", '{"type":' * 50_000
    yield "long number", plain.replace("{}", "9" * 10_000)
    yield "empty", ""
    yield "half a character", json.dumps(table({"\\ud800\x1b[2J": LABEL})).replace("\\\\", "\\")


@pytest.mark.parametrize("name", dict(hostile_descriptions()))
def test_no_spelling_of_a_class_is_imported(copy, payload, name):
    content = dict(hostile_descriptions())[name]
    content = content if isinstance(content, bytes) else content.encode("utf-8")
    (copy / "evil" / "1.0.0" / "features.json").write_bytes(content)
    for called in ("evil", "evil:1.0.0", "evil:*.*.*", "Evil"):
        with pytest.raises(ost.InputError) as error:
            load(copy, called)
        assert "\x1b" not in str(error.value)
    assert not payload.exists() and "evil_package.payload" not in sys.modules


def test_the_payload_is_one(payload):
    """tensorflow-datasets itself imports the payload, so the other tests here can fail."""
    import tensorflow_datasets as tfds

    with pytest.raises(ValueError, match="Unrecognized"):
        tfds.features.FeatureConnector.from_json({"type": EVIL, "content": {}})
    assert payload.exists()


def test_other_features_are_left_out_whatever_their_class(copy, payload):
    """A feature of a user's class is ignored. Its class is not imported."""
    other = {"python\\u0043lassName": EVIL, "text": {}}
    text = json.dumps(table({"image": IMAGE, "label": LABEL, "more": other})).replace("\\\\", "\\")
    (copy / "evil" / "1.0.0" / "features.json").write_text(text)
    d = load(copy)
    np.testing.assert_array_equal(d.train.labels * 20, d.train.images[:, 5, 5, 1])
    assert len(d.train) == 80 and d.class_names[3] == "class3" and not payload.exists()


@pytest.mark.parametrize("change", [
    {"features": {"pythonClassName": EVIL, "text": {}}},
    {"features": {"python_class_name": EVIL, "jsonFeature": {"json": "{}"}}},
    {"moduleName": EVIL}, {"module_name": "evil_package.payload"},
])  # fmt: skip
def test_classes_and_modules_in_dataset_info_are_not_imported(copy, payload, change):
    file = copy / "evil" / "1.0.0" / "dataset_info.json"
    info = json.loads(file.read_text())
    info.pop("moduleName", None)
    file.write_text(json.dumps({**info, **change}))
    assert len(load(copy).train) == 80
    assert not payload.exists() and "evil_package.payload" not in sys.modules


@pytest.mark.parametrize("change, said", [
    ({"name": "../evil"}, "must describe 'evil'"),
    ({"fileFormat": "../../x"}, "cannot be used"),
    ({"version": "2.0.0"}, "do not match"),
    ({"filepathTemplate": "../../{SPLIT}.tfrecord"}, "plain names"),
    ({"filepathTemplate": "{DATASET.__class__}"}, "plain names"),
    ({"filepathTemplate": "{SPLIT:999999999d}"}, "plain names"),
    ({"filepathTemplate": "/etc/passwd"}, "plain names"),
    ({"split": "../train"}, "plain names"),
])  # fmt: skip
def test_descriptions_that_lead_out_of_the_folder_are_refused(copy, change, said):
    file = copy / "evil" / "1.0.0" / "dataset_info.json"
    info = json.loads(file.read_text())
    for split in info["splits"]:
        if "filepathTemplate" in change:
            split["filepathTemplate"] = change["filepathTemplate"]
        split["name"] = change.get("split", split["name"])
    info.update({k: v for k, v in change.items() if k not in ("filepathTemplate", "split")})
    file.write_text(json.dumps(info))
    with pytest.raises(ost.InputError, match=said):
        load(copy)


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json", "label.labels.txt",
                                  "evil-train.tfrecord-00000-of-00001"])  # fmt: skip
@pytest.mark.parametrize("kind", ["pipe", "folder", "endless", "long"])
def test_what_is_not_a_plain_file_of_fitting_length(copy, file, kind):
    path = copy / "evil" / "1.0.0" / file
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif "tfrecord" in file:
        return  # record files may be long
    else:
        path.touch()
        os.truncate(path, 2**40)  # a sparse file
    with pytest.raises(ost.InputError, match="plain file|bytes"):
        load(copy)


@pytest.mark.parametrize("default", ["../../elsewhere", "a/b", "..", 3, ["x"], "x\0"])
def test_a_default_config_is_a_name(copy, default):
    (copy / "evil" / ".config").mkdir()
    file = copy / "evil" / ".config" / "metadata.json"
    file.write_text(json.dumps({"default_config_name": default}))
    with pytest.raises(ost.InputError, match="default config"):
        load(copy)


def test_configs_and_versions_are_found(copy):
    """The newest matching version of the given or default config is used."""
    (copy / "evil" / "1.0.0").rename(copy / "1.0.0")
    for config in ("one", "two"):
        for version in ("1.0.0", "1.9.0", "1.10.0"):
            folder = copy / "evil" / config / version
            shutil.copytree(copy / "1.0.0", folder)
            info = json.loads((folder / "dataset_info.json").read_text())
            info |= {"configName": config, "version": version}
            (folder / "dataset_info.json").write_text(json.dumps(info))
    (copy / "evil" / "two" / "1.10.0" / "label.labels.txt").write_text("\n".join("abcdefghij"))
    (copy / "evil" / ".config").mkdir()
    (copy / "evil" / ".config" / "metadata.json").write_text('{"default_config_name": "two"}')
    for name, first in {"evil": "a", "evil/two": "a", "evil/two:1.*.*": "a", "evil:1.10.0": "a",
                        "evil/one": "class0", "evil:1.9.*": "class0"}.items():  # fmt: skip
        assert load(copy, name).class_names[0] == first
    with pytest.raises(ost.InputError, match="--dataset=evil/three"):
        load(copy, "evil/three")


@pytest.mark.parametrize("name", [
    "huggingface:evil", "kaggle:evil/x:1.0.0", "evil_package.payload", "evil/..", "evil/../..",
    "evil/a=1", "evil/x/a=True", "/etc", "..", "evil:experimental_latest", "evil/.config", "évil",
])  # fmt: skip
def test_names_that_would_fetch_code_or_lead_elsewhere(copy, payload, name):
    with pytest.raises(ost.InputError, match="is not the name of a data set"):
        load(copy, name)
    assert not payload.exists()


def test_programs_import_nothing_from_the_current_folder(tmp_path):
    """Files with the names of packages in the current folder are not imported.

    `python -m` would import them.
    """
    for name in ("numpy", "tempfile", "absl", "keras", "runs"):
        (tmp_path / f"{name}.py").write_text("open('PWNED', 'w').close()\nraise SystemExit(3)\n")
    root = str(pathlib.Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "oneshot_tf.draw", "--help"], cwd=tmp_path, capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert done.returncode == 0 and "--file" in done.stdout, done.stderr
    assert not (tmp_path / "PWNED").exists()


def test_every_way_in_which_tensorflow_datasets_wrote_features(tmp_path):
    """Reads the features of mnist, cifar10 and imagenet2012, also next to other features."""
    import tensorflow_datasets as tfds
    from etils import epath

    from oneshot_tf.data.prepared import read_features

    features = tfds.features
    image = features.Image(shape=(28, 28, 1), encoding_format="png")
    sets = {
        "mnist": {"image": image, "label": features.ClassLabel(num_classes=10)},
        "cifar10": {"id": features.Text(), "image": features.Image(shape=(32, 32, 3)),
                    "label": features.ClassLabel(num_classes=10)},
        "imagenet2012": {"image": features.Image(encoding_format="jpeg"), "file_name":
                         features.Text(), "label": features.ClassLabel(num_classes=1000)},
        "more": {"image": features.Image(shape=(None, None, 3), dtype=np.uint16),
                 "label": features.ClassLabel(names=["a", "b"]), "bbox": features.BBoxFeature(),
                 "objects": features.Sequence({"n": np.int64}),
                 "weight": features.Scalar(np.float32),
                 "tensor": features.Tensor(shape=(2, None), dtype=np.float32)},
    }  # fmt: skip
    path = epath.Path(tmp_path) / "features.json"
    for named in sets.values():
        whole = features.FeaturesDict(named)
        whole.save_config(str(tmp_path))
        now = path.read_text()
        legacy = json.dumps(whole.to_json())
        image, label = named["image"], named["label"]
        oldest = {"type": FEATURES + "features_dict.FeaturesDict", "content": {
            "image": {"type": FEATURES + "image_feature.Image", "content": {
                "shape": list(image.shape), "dtype": np.dtype(image.np_dtype).name,
                "encoding_format": image._encoding_format}},
            "label": {"type": FEATURES + "class_label_feature.ClassLabel", "content":
                      {"num_classes": label.num_classes}}}}  # fmt: skip
        for text in (now, legacy, json.dumps(oldest)):
            path.write_text(text)
            found = read_features(path, "name")
            assert list(found) == ["image", "label"]
            assert found["image"].to_json() == image.to_json()
            assert found["label"].num_classes == label.num_classes


@hostile(600)
@given(data=st.data())
def test_changed_descriptions(tmp_path_factory, data):
    """Each changed description is refused, or gives two features with valid numbers."""
    from etils import epath

    from oneshot_tf.data.prepared import read_features

    path = epath.Path(tmp_path_factory.getbasetemp()) / "features.json"
    whole = table({"image": IMAGE, "label": LABEL})
    by_bytes = changed_bytes(json.dumps(whole).encode())
    content = data.draw(changed_json(whole).map(str.encode) | by_bytes)
    path.write_bytes(content)
    found = accepted(read_features, path, "name")
    if found is not None:
        assert list(found) == ["image", "label"] and found["label"].num_classes >= 1
        assert len(found["image"].shape) == 3
