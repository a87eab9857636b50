"""Several devices and several processes give what one gives, and stop with one line."""

import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import free_addresses, tf_config

import oneshot_tf as ost
from oneshot_tf.devices import distribution
from oneshot_tf.devices.distribution import make_strategy

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "run_scripts" / "multi_worker_local.sh"
DATA = ["--dataset=digits", "--num_validation=100"]
TRAIN = ["--batch_size=48", "--ghost_batch_size=4", "--augmentation=crop", "--log_steps=2"]
MODEL = ["--num_blocks=1", "--num_cells=2", "--filters=4"]
ENVIRONMENT = {**os.environ, "PYTHON": sys.executable, "TF_CPP_MIN_LOG_LEVEL": "3",
               "PYTHONPATH": str(ROOT)}  # fmt: skip
# A program on several logical CPU devices.
DEVICES = """
import runpy, sys, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * {count})
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def start(command, **options):
    return subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, **options,
    )  # fmt: skip


def finish(process, code=0):
    out, _ = process.communicate(timeout=240)
    assert process.returncode == code, out[-3000:]
    return out


def on_devices(count, program, *flags):
    module = f"oneshot_tf.{program}"
    distribution = "mirrored" if count > 1 else "cpu"
    code = DEVICES.format(count=count)
    return finish(start([sys.executable, "-c", code, module, f"--distribution={distribution}",
                         *flags]))  # fmt: skip


def in_processes(count, program, *flags):
    return start([str(SCRIPT), str(count), program, *flags], start_new_session=True)


def weights(run, step):
    with np.load(run / "checkpoints" / f"step_{step:09d}.npz") as arrays:
        # Those called checkpoint/ say whose the file is.
        names = [name for name in arrays.files if not name.startswith("checkpoint/")]
        return {name: arrays[name].astype(float) for name in names}


def assert_close(one, other, tolerance):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(other[name], one[name], atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one process on one device: trained and searched."""
    run = tmp_path_factory.mktemp("one") / "run"
    on_devices(1, "train", f"--run_dir={run}", *DATA, *MODEL, *TRAIN, "--train_steps=4",
               "--checkpoint_steps=2")  # fmt: skip
    on_devices(1, "search", f"--run_dir={run}", "--num_candidates=7")
    return run


def without_candidates(run, folder):
    """A copy of a run, before its search."""
    copy = folder / "run"
    for name in ("config.json", "space.json", "checkpoints"):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name == "checkpoints":
            target.mkdir()
            for path in (run / name).iterdir():
                (target / path.name).write_bytes(path.read_bytes())
        else:
            target.write_bytes((run / name).read_bytes())
    return copy


def accuracies(run):
    with open(run / "candidates.csv") as file:
        return {row["architecture"]: row["candidate_accuracy"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_search_on_several_devices(trained, tmp_path, count):
    run = without_candidates(trained, tmp_path)
    on_devices(count, "search", f"--run_dir={run}", "--num_candidates=7")
    assert accuracies(run) == accuracies(trained)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["--strategy=darts", "--architecture_learning_rate=0.1", "--curvature_steps=1"],
        ["--strategy=darts", "--architecture_learning_rate=0.1", "--order=2"],
        ["--strategy=gumbel", "--architecture_learning_rate=0.1"],
        ["--strategy=enas", "--controller_learning_rate=0.1", "--phase_steps=2",
         "--phase_updates=2", "--architectures=4"],
    ],
    ids=["darts", "second_order", "gumbel", "enas"],
)  # fmt: skip
def test_four_devices_learn_what_one_does(tmp_path, flags):
    lines = {}
    for count in (1, 4):
        run = tmp_path / str(count)
        on_devices(count, "train", f"--run_dir={run}", *DATA, *MODEL, *TRAIN, "--train_steps=2",
                   *flags)  # fmt: skip
        lines[count] = json.loads((run / "decisions.jsonl").read_text().splitlines()[-1])
    one, four = (np.concatenate(list(lines[n].pop("probabilities").values())) for n in (1, 4))
    np.testing.assert_allclose(four, one, atol=1e-3)
    assert lines[1]["architecture"] == lines[4]["architecture"]
    eigenvalues = [lines[n].get("dominant_eigenvalue", 0.0) for n in (1, 4)]
    assert eigenvalues[1] == pytest.approx(eigenvalues[0], rel=0.05)
    assert_close(weights(tmp_path / "1", 2), weights(tmp_path / "4", 2), 5e-3)


@pytest.mark.slow
def test_retraining_on_two_devices(trained):
    for count in (1, 2):
        on_devices(
            count, "retrain", f"--run_dir={trained}", "--select=top", "--top=1", "--count=1",
            "--epochs=0.15", f"--name=on_{count}", *TRAIN, "--evaluate_on=validation",
        )  # fmt: skip
    nets = [trained / "retrain" / f"on_{count}" / "net_00" / "run_0" for count in (1, 2)]
    assert_close(weights(nets[0], 5), weights(nets[1], 5), 1e-4)


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_are_one(trained, tmp_path, count):
    run = tmp_path / "run"
    flags = [*DATA, *MODEL, *TRAIN, "--train_steps=4", "--checkpoint_steps=2"]
    finish(in_processes(count, "train", f"--run_dir={run}", *flags))
    assert_close(weights(trained, 4), weights(run, 4), 2e-5)
    assert len((run / "provenance.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_a_search_by_two_processes(trained, tmp_path):
    run = without_candidates(trained, tmp_path)
    finish(in_processes(2, "search", f"--run_dir={run}", "--num_candidates=7"))
    assert accuracies(run) == accuracies(trained)


@pytest.mark.slow
def test_three_processes_one_of_which_dies(trained, tmp_path):
    """The others stop within 30 s, and all of them together go on where they were saved."""
    flags = [*DATA, *MODEL, *TRAIN, "--checkpoint_steps=2", "--keep_checkpoints=1000"]
    run = tmp_path / "run"
    job = in_processes(3, "train", f"--run_dir={run}", *flags, "--train_steps=2000")
    deadline = time.monotonic() + 200
    while not (run / "checkpoints" / "step_000000006.npz").exists():
        assert time.monotonic() < deadline and job.poll() is None, job.communicate()[0][-3000:]
        time.sleep(0.2)
    workers = subprocess.run(
        ["pgrep", "-g", str(job.pid), "-f", "oneshot_tf.train"], capture_output=True, text=True
    ).stdout.split()
    python = [int(w) for w in workers if "bash" not in pathlib.Path(f"/proc/{w}/comm").read_text()]
    assert len(python) == 3
    os.kill(python[0], signal.SIGKILL)  # started first, so not process 0
    died = time.monotonic()
    out = finish(job, 137)
    assert time.monotonic() - died < 30
    assert "Another worker in TF_CONFIG has stopped" in out and "Traceback" not in out
    last = max(int(path.stem[5:]) for path in (run / "checkpoints").iterdir())
    for path in (run / "checkpoints").iterdir():  # as if it had died at step 4
        if int(path.stem[5:]) > 4:
            expected = weights(run, 6)
            path.unlink()
    assert last >= 6
    # Another length would be refused, so the same; stopped again when it has passed step 6.
    job = in_processes(3, "train", f"--run_dir={run}", *flags, "--train_steps=2000")
    while not (run / "checkpoints" / "step_000000008.npz").exists():
        assert time.monotonic() < deadline + 200 and job.poll() is None, job.communicate()[0]
        time.sleep(0.2)
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    assert_close(expected, weights(run, 6), 0.0)


# -------------------------------------------------------------------------- no such TPU


@pytest.mark.parametrize("name", ["local", "no_such_tpu", "grpc://127.0.0.1:1"])
def test_a_tpu_that_cannot_be_reached(name, monkeypatch):
    monkeypatch.setenv("TPU_NAME", name)
    with pytest.raises(ost.InputError, match="found no TPU"):
        make_strategy("tpu", 1)


def test_a_tpu_that_does_not_answer():
    """It takes the connection and says nothing; TensorFlow alone would wait for ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = (
            "from oneshot_tf.devices import distribution\n"
            "distribution._TPU_STARTS = 2.0\n"
            "distribution.make_strategy('tpu', 1)"
        )
        name = f"grpc://127.0.0.1:{server.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={**ENVIRONMENT, "TPU_NAME": name},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert f"found no TPU called '{name}'" in done.stderr and "did not answer in 2 s" in done.stderr


def test_a_wait_ends_that_lets_no_thread_run():
    """As TensorFlow's for other processes: it keeps Python's lock, and hears no signal."""
    code = (
        "import ctypes\nfrom oneshot_tf.system.interrupts import ending_after\n"
        "with ending_after(1.0, 'Nobody came.'):\n    ctypes.PyDLL(None).sleep(100)"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == -signal.SIGKILL and "error: Nobody came." in done.stderr
    assert time.monotonic() - started < 60


def test_a_process_that_goes_between_meeting_and_start(tmp_path):
    """TensorFlow in the other one would wait for it without end."""
    first, second = free_addresses(2)
    program = (
        "import os, runpy, sys, tensorflow as tf\n"
        "from oneshot_tf.devices import distribution\n"
        "distribution._PROCESSES_START = 5.0\n"
        "if '\"index\": 1' in os.environ['TF_CONFIG']:\n"
        "    tf.distribute.MultiWorkerMirroredStrategy = lambda: os._exit(5)\n"
        "runpy.run_module('oneshot_tf.train', run_name='__main__', alter_sys=True)"
    )
    flags = [*DATA, *MODEL, *TRAIN, "--train_steps=4", f"--run_dir={tmp_path / 'run'}"]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, "--distribution=multi_worker", *flags],
            cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**ENVIRONMENT, "TF_CONFIG": tf_config({"worker": [first, second]}, index=index)},
        )
        for index in (0, 1)
    ]  # fmt: skip
    finish(started[1], 5)
    out = finish(started[0], -signal.SIGKILL)
    assert "TensorFlow has waited 5 s for it" in out and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_two_devices(tmp_path):
    """Where it begins is found, and training goes back, as on one device."""
    flags = [*DATA, *MODEL, *TRAIN, "--train_steps=40", "--checkpoint_steps=2", "--log_steps=1",
             "--learning_rate=100", "--momentum=0.99", "--weight_decay=1", "--max_rollbacks=1",
             "--nan_policy=rollback"]  # fmt: skip
    code = DEVICES.format(count=2)
    command = [sys.executable, "-c", code, "oneshot_tf.train", "--distribution=mirrored"]
    out = finish(start([*command, f"--run_dir={tmp_path / 'run'}", *flags]), 1)
    assert "Rolling back to step" in out and "First not finite: " in out
    assert "Traceback" not in out
    report = json.loads((tmp_path / "run" / "diverged.json").read_text())
    assert report["first_not_finite"] and report["step"] >= 1


def test_processes_that_find_different_things(monkeypatch):
    """All of them stop, before anything is mixed."""
    found = []
    monkeypatch.setattr(distribution, "of_all_workers", lambda value: [*found, value])
    distribution.check_alike("candidates", ["a"], None)
    found.append(5)
    with pytest.raises(ost.InputError, match="see different candidates"):
        distribution.check_alike("candidates", ["a"], None)
