"""The GPU benchmark, small, on whatever device there is: it must work the first time."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ["--cells=1", "--filters=2", "--image_size=8", "--batch=32", "--evaluate=32", "--pairs=2"]


def run(tmp_path, *flags):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "run_scripts/gpu_benchmark.py", f"--json={tmp_path / 'all.json'}", *flags],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    return done, done.stdout + done.stderr


@pytest.mark.slow
def test_every_way_is_measured(tmp_path):
    ways = ["--ways=dense,skip", "--precisions=float32"]
    done, said = run(tmp_path, *SMALL, *ways)
    assert done.returncode == 0, said[-2000:]
    found = json.loads((tmp_path / "all.json").read_text())
    tasks = ("step, ramp at 0", "step, ramp at its end", "evaluate")
    names = {f"{task} float32 {way}" for task in tasks for way in ("dense", "skip")}
    assert set(found) == {"devices", "rates", *names}
    for name in names:
        assert len(found[name]["images_per_second"]) == 2
        assert all(rate > 0 for rate in found[name]["images_per_second"])
        assert 0 < found[name]["share_of_copying_floor"] < 1


@pytest.mark.parametrize("flag", ["--ways=fast", "--precisions=int8", "--batch=33"])
def test_mistakes(tmp_path, flag):
    done, said = run(tmp_path, flag)
    assert done.returncode and "Traceback" not in said and not (tmp_path / "all.json").exists()


def test_strategies_are_compared_with_random_search(tmp_path):
    done = subprocess.run(
        [sys.executable, "run_scripts/strategies.py", "--landscape=pairs", "--seeds=3",
         "--evaluations=12", "--strategies=evolution,genetic", "--noise=0.1",
         f"--csv={tmp_path / 'all.csv'}", f"--svg={tmp_path / 'all.svg'}"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows] == ["| strategy", "| random", "| evolution", "| genetic"]
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1 + 3 * 3 * 12
    assert (tmp_path / "all.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_the_protocol_on_arrays(tmp_path):
    """All ways and precisions, then train, search, retrain and export on a file of arrays."""
    digits = load_digits()
    images = np.repeat(digits.images[..., None] * 15, 3, axis=-1).astype(np.uint8)
    labels = digits.target.astype(np.int32)
    np.savez(
        tmp_path / "digits.npz", train_images=images[:1500], train_labels=labels[:1500],
        test_images=images[1500:], test_labels=labels[1500:],
    )  # fmt: skip
    small = "--num_cells=1 --filters=2 --num_blocks=1 --batch_size=64 --num_validation=200"
    done, said = run(
        tmp_path, *SMALL, f"--npz={tmp_path / 'digits.npz'}", "--steps=4", "--candidates=40",
        f"--flags={small}", "--retrain_flags=--count=4 --epochs=0.2 --batch_size=64",
        f"--out={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.returncode == 0, said[-3000:]
    assert len(json.loads((tmp_path / "all.json").read_text())) == 2 + 3 * 9
    assert (tmp_path / "run" / "export" / "1" / "saved_model.pb").exists()
