"""The number of threads decides how results are rounded; the number of cores does not."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import oneshot_tf as ost
from oneshot_tf import reproduce, settings
from oneshot_tf.devices import threads
from oneshot_tf.runs.config_file import facts_of
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.settings import command_line
from oneshot_tf.system.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
TWO_CORES = pytest.mark.skipif(len(CORES) < 2, reason="needs two cores to choose from")
FLAGS = """
--dataset=digits
--num_validation=100
--num_cells=1
--num_blocks=1
--filters=8
--batch_size=128
--ghost_batch_size=32
--device_batch_size=128
--skip_paths=never
--train_steps=4
--checkpoint_steps=2
"""
# Programs in processes of their own, forked so that TensorFlow is imported once. A job is a
# list of cores and the words of a command. The first job loses its last checkpoint.
RUN = """if True:
    import json, os, pathlib, runpy, sys
    import oneshot_tf, oneshot_tf.runs.directory, oneshot_tf.learning.defaults

    for number, (cores, program, *flags) in enumerate(json.loads(sys.argv[1])):
        child = os.fork()
        if not child:
            os.sched_setaffinity(0, cores)
            output = os.open(f"{number}.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.argv = [program, *flags]
            code = 1
            try:
                runpy.run_module(f"oneshot_tf.{program}", run_name="__main__", alter_sys=True)
                code = 0
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0, open(f"{number}.txt").read()
        if number == 0:
            last = pathlib.Path("run/checkpoints/step_000000004.npz")
            last.rename("undisturbed.npz")
"""


def run_jobs(folder, jobs) -> list[str]:
    """What each job printed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("TF_NUM_")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(jobs)], cwd=folder, capture_output=True, text=True,
        env={**env, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [(folder / f"{number}.txt").read_text() for number in range(len(jobs))]


def arrays(path) -> dict:
    """The arrays of a checkpoint, weights and the optimizer's state, as bytes."""
    with np.load(path) as file:
        # The run's id is drawn anew for each run.
        return {n: file[n].tobytes() for n in file.files if n != "checkpoint/owner"}


@TWO_CORES
def test_as_many_threads_on_other_cores_give_the_same_bits(tmp_path):
    """Begun on one core, gone on with on two: equal to the run that stayed on one."""
    (tmp_path / "small.flags").write_text(FLAGS)
    train = ("train", "--flagfile=small.flags", "--run_dir=run")
    texts = run_jobs(
        tmp_path,
        [
            [CORES[:1], *train, "--threads=2"],
            [CORES[:2], *train],  # with the run's own number of threads
            [CORES[:2], *train, "--threads=1"],
        ],
    )
    moved, stayed = (tmp_path / name for name in ("run/checkpoints/step_000000004.npz",
                                                  "undisturbed.npz"))  # fmt: skip
    assert "from step 2" in texts[1]
    one, two = arrays(stayed), arrays(moved)
    assert len(one) > 20 and one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
    lines = (tmp_path / "run" / "provenance.jsonl").read_text().splitlines()
    starts = [json.loads(line) for line in lines]
    assert [(s["cores"], s["intra_op_threads"]) for s in starts] == [(1, 2), (2, 2), (2, 1)]
    notes = [re.findall(r".*another environment.*", text) for text in texts]
    assert [len(found) for found in notes] == [0, 0, 1]
    assert "threads: 2 then, 1 now" in notes[2][0] and "--threads=2" in notes[2][0]


SURROUNDINGS = {"intra_op_threads": 2, "processor": "P", "devices": ["CPU:0"],
                "tensorflow": "2.21.0", "variables": {"TF_ENABLE_ONEDNN_OPTS": "1"}}  # fmt: skip


def test_the_line_names_what_differs():
    assert threads.going_on(SURROUNDINGS, SURROUNDINGS) == ""
    others = {
        "intra_op_threads": (4, "threads: 2 then, 4 now"),
        "processor": ("Q", "the processor: 'P' then, 'Q' now"),
        "devices": (["CPU:0", "CPU:1"], "devices: 1 then, 2 now"),
        "tensorflow": ("2.22.0", "TensorFlow: '2.21.0' then, '2.22.0' now"),
        "variables": ({}, "'TF_ENABLE_ONEDNN_OPTS': '1' then, 'not set' now"),
    }
    for name, (value, words) in others.items():
        line = threads.going_on(SURROUNDINGS, {**SURROUNDINGS, name: value})
        assert f"({words})" in line and "\n" not in line
        assert ("--threads=2" in line) == (name == "intra_op_threads")


def test_variables_that_change_no_result_are_not_named():
    more = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CONFIG": "{}", "TF_NUM_INTEROP_THREADS": "3",
            "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "2"}  # fmt: skip
    now = {**SURROUNDINGS, "variables": {**SURROUNDINGS["variables"], **more}}
    assert threads.going_on(SURROUNDINGS, now) == ""


def test_a_hostile_record_reaches_no_terminal():
    many = {f"TF_\x1b{i}": "\x07" * 999 for i in range(500)}
    before = {**SURROUNDINGS, "processor": "\x1b]0;x\x07", "variables": many}
    line = threads.going_on(before, SURROUNDINGS)
    assert line.isprintable() and len(line) < 1500 and "496 more" in line


def test_what_is_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    secrets = ("AWS_SECRET", "TF_VAR_password", "TF_TOKEN_example_com", "TF_CLI_CONFIG_FILE")
    for name in secrets:  # the last three are Terraform's
        monkeypatch.setenv(name, "no")
    directory = RunDirectory(tmp_path)
    (tmp_path / "provenance.jsonl").write_text('{"work": "train"}\n[]\nhalf a li\n')
    directory.note_provenance("train")
    start = json.loads((tmp_path / "provenance.jsonl").read_text().splitlines()[-1])
    assert start["intra_op_threads"] == 3 and start["inter_op_threads"] >= 1
    assert start["cores"] == threads.num_cores() and len(start["devices"]) == 2  # conftest's
    assert start["cgroup_cores"] is None or start["cgroup_cores"] > 0
    assert start["variables"]["OMP_NUM_THREADS"] == "5"
    assert start["variables"]["TF_NUM_INTRAOP_THREADS"] == "3"
    assert not set(secrets) & set(start["variables"])
    assert start["variables"]["TF_ENABLE_ONEDNN_OPTS"] in ("0", "1")


def test_the_line_is_printed_for_the_same_work_only(tmp_path, monkeypatch, capsys):
    directory = RunDirectory(tmp_path)
    for number, work in (("3", "train"), ("4", "search"), ("4", "search"), ("4", "train")):
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", number)
        assert capsys.readouterr().out == ""
        directory.note_provenance(work)
    assert "threads: 3 then, 4 now" in capsys.readouterr().out


def test_the_runs_own_number_counts_unless_another_is_given(tmp_path, space, digits):
    directory = RunDirectory(tmp_path / "run")
    assert directory.threads(0) == 0 and directory.threads(3) == 3
    groups = {"device": settings.DeviceSettings(threads=5)}
    directory.begin(groups, space, [], facts_of(digits))
    assert directory.threads(0) == 5 and directory.threads(3) == 3


def test_reproduce_hands_the_number_on(tmp_path):
    made = [reproduce.ReproduceSettings(), settings.LocationSettings()]
    for number in (0, 3):
        devices = settings.DistributionSettings(threads=number)
        commands = reproduce.commands(tmp_path, *made, devices)
        given = [f"--threads={number}" in flags for name, *flags in commands if name != "analyze"]
        assert len(given) == 3 and all(given) == bool(number) and any(given) == bool(number)


def test_a_number_that_can_not_be_is_one_line():
    for text in ("-1", "1025", "two"):
        with pytest.raises(InputError, match="--threads"):
            command_line.parse(["train", f"--threads={text}"], [settings.DeviceSettings])


def test_it_is_too_late_once_tensorflow_has_started(monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    threads.surroundings()  # asks for the devices, which starts it
    threads.set_threads(0)
    with pytest.raises(InputError, match="has started with 3. Start a new process"):
        threads.set_threads(7)


def test_training_in_python_does_not_ignore_the_number(digits, small_space):
    net = ost.Supernet(small_space, ost.Stack(1, 4), num_classes=10)
    sampler = ost.PathDropout(small_space, 0.1, "linear", 5)
    with pytest.raises(InputError, match="--threads=7 must be set before TensorFlow starts"):
        ost.fit_supernet(net, digits, sampler, 5, device=settings.DeviceSettings(threads=7))


@pytest.mark.parametrize(
    "groups, files, cores",
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n", "cpu.max": "max 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/host/path\n", {"cpu.max": "200000 100000\n"}, 2.0),  # seen from a container
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "nonsense\n"}, None),
        ("0::/\n", {}, None),
        (
            "4:memory:/x\n3:cpu,cpuacct:/x\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "300000\n",
             "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
             "cpu,cpuacct/cpu.cfs_quota_us": "-1\n"},
            3.0,
        ),
        ("garbage", {}, None),
    ],
)  # fmt: skip
def test_the_limit_of_a_container(tmp_path, groups, files, cores):
    (tmp_path / "groups").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert threads.cgroup_cores(tmp_path / "groups", tmp_path / "root") == cores
