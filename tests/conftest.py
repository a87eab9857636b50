"""Two logical CPU devices, and small things to test with."""

import json
import socket
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

import oneshot_tf as ost  # noqa: E402
from oneshot_tf import settings  # noqa: E402
from oneshot_tf.runs import results  # noqa: E402

# Few but long tests. They start first, so that no process is left with them at the end.
_LONG = {"test_long_runs", "test_tune", "test_programs", "test_distribution", "test_threads",
         "test_schedule_ablation", "test_search_strategies", "test_kernels"}  # fmt: skip


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in _LONG)


@pytest.fixture(scope="session")
def space():
    """The paper's space."""
    return ost.bender2018()


@pytest.fixture(scope="session")
def digits():
    return ost.load_data("digits", num_validation=100)


@pytest.fixture(scope="session")
def two_devices():
    """One strategy for all: two in one process take each other's collective operations."""
    devices = [d.name for d in tf.config.list_logical_devices("CPU")]
    assert len(devices) == 2
    return tf.distribute.MirroredStrategy(devices)


@pytest.fixture(scope="session")
def small_space():
    """Two blocks: 3 * 7 * 28^2 cells, quick to build."""
    return ost.bender2018(num_blocks=2)


@pytest.fixture(scope="session")
def small_supernet(small_space):
    """Three cells, so that inputs are joined in every way; random weights and betas."""
    supernet = ost.Supernet(small_space, ost.Stack(3, 4), num_classes=5, seed=1)
    randomize_betas(supernet)
    return supernet


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """CIFAR-10 as tensorflow-datasets prepares it, of 120 made images."""
    import tensorflow_datasets as tfds
    from etils import epath

    root = tmp_path_factory.mktemp("tfds")
    fake = root / "archive" / "cifar-10-batches-bin"
    fake.mkdir(parents=True)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    rng = np.random.default_rng(0)
    for name in names:
        labels = rng.integers(0, 10, (20, 1), dtype=np.uint8)
        pixels = np.repeat(labels * 20, 3072, axis=1).astype(np.uint8)
        (fake / name).write_bytes(np.concatenate([labels, pixels], axis=1).tobytes())
    (fake / "batches.meta.txt").write_text("\n".join(f"class{i}" for i in range(10)) + "\n")
    manager = tfds.download.DownloadManager
    with mock.patch.object(
        manager, "download_and_extract", lambda self, url: epath.Path(root / "archive")
    ):
        tfds.builder("cifar10", data_dir=root / "data").download_and_prepare()
    return root / "data"


def randomize_betas(net, seed=0):
    """Betas away from their initial zeros: zeros hide leaks."""
    rng = np.random.default_rng(seed)
    for variable in net.trainable_variables:
        if "beta" in variable.path or "bias" in variable.path:
            variable.assign(rng.normal(size=variable.shape))


def edit_json(path, **values):
    """Changes values of a JSON file, and leaves out the checksum, which would not fit."""
    found = json.loads(path.read_text())
    found.pop("checksum", None)
    path.write_text(json.dumps({**found, **values}))


def complete_result(directory, result) -> dict:
    """A result.json with all settings and counts, which fit the run."""
    found = directory.facts()["fingerprint"]
    split, train = result["evaluated_on"], settings.TrainSettings()
    images = found["train"][0] + (found["validation"][0] if split == "test" else 0)
    epochs = (result["num_steps"] - 0.5) * train.batch_size / images
    retrain = {**result["retrain"], "evaluate_on": split, "epochs": epochs}
    nets = [
        {**net, "balanced_accuracies": net["accuracies"], **results.mean_std(net["accuracies"])}
        for net in result["nets"]
    ]
    return {
        "train": train.to_dict(),
        "final": settings.FinalSettings().to_dict(),
        "device": {"mixed_precision": False},
        "evaluated_in": "float32",
        **result,
        "run_id": directory.run_id(),
        "retrain": settings.RetrainSettings(**retrain).to_dict(),
        "chosen": {"architectures": [net["architecture"] for net in nets]},
        "num_training_images": images,
        "num_images": found[split][0],
        "nets": nets,
        **results.mean_std([net["mean"] for net in nets]),
    }


def random_images(count, size=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, 3)).astype(np.float32)


def copy_weights(source, target):
    """Gives every variable of `target` that `source` has too the value it has there."""
    values = {variable.path: variable for variable in source.trainable_variables}
    for variable in target.trainable_variables:
        variable.assign(values[variable.path])


def put_images(folder, count, value=0, first=0):
    """PNG files, no two equal, whose first pixel tells the value."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        pixels = np.full((4, 4, 3), value, np.uint8)
        pixels[1, 1] = (i % 256, i // 256, len(folder.parent.name))
        (folder / f"{i:03d}.png").write_bytes(tf.io.encode_png(pixels).numpy())


def load_folder(root, **options):
    """The data set of a folder, of 4x4 images."""
    return ost.load_data(f"folder:{root}", image_size=4, **options)


def free_addresses(count):
    """Addresses of this machine at which nobody listens."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = tuple(f"127.0.0.1:{server.getsockname()[1]}" for server in servers)
    for server in servers:
        server.close()
    return addresses


def tf_config(cluster, kind="worker", index=0):
    """The text of TF_CONFIG."""
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})
