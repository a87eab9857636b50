"""Three processes share work, one of them is killed: the files are those of one process."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
from shared_runs import ALONE as SETTINGS_ALONE
from shared_runs import begin, differing, run_search

ROOT = pathlib.Path(__file__).parents[2]
# A copy that stops for ever in its second piece of work, and holds its claim meanwhile.
VICTIM = """
import sys, time
from oneshot_tf.retraining.jobs import Jobs
from oneshot_tf.searching.scorers import SharedWeights
from oneshot_tf.learning.loop import Loop
import shared_runs

def stopping(real, after):
    calls = []
    def call(*arguments):
        if arguments[-1] is not None:  # otherwise a block is measured for the plan
            calls.append(arguments)
        if len(calls) > after:
            print("holds", flush=True)
            time.sleep(1000)
        return real(*arguments)
    return call

SharedWeights.score = stopping(SharedWeights.score, 1)
Loop._step = stopping(Loop._step, 8)
getattr(shared_runs, sys.argv[1])(sys.argv[2])
"""
OTHER = "import sys, shared_runs; getattr(shared_runs, sys.argv[1])(sys.argv[2])"
ALONE = "import sys, shared_runs; getattr(shared_runs, sys.argv[1])(sys.argv[2], shared_runs.ALONE)"


@pytest.fixture(scope="module")
def base(tmp_path_factory, digits):
    path = begin(tmp_path_factory.mktemp("base") / "run", digits)
    run_search(path, SETTINGS_ALONE)
    return path


def start(code, name, run):
    # Two logical devices, as in the process of the tests.
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", f"import conftest\n{code}", name, str(run)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run_search", "run_retrain"])
def test_three_processes_of_which_one_is_killed_are_as_one(base, tmp_path, name):
    alone, run = tmp_path / "alone", tmp_path / "run"
    for path in (alone, run):
        shutil.copytree(base, path)
        if name == "run_search":
            (path / "candidates.csv").unlink()
            (path / "search.json").unlink()
    processes = [start(VICTIM, name, run)]
    # A process of its own, because the one of the tests began with other variables of TensorFlow.
    one = start(ALONE, name, alone)
    try:
        out, errors = one.communicate()
        assert one.returncode == 0, errors
        while processes[0].stdout.readline() != "holds\n":
            assert processes[0].poll() is None, processes[0].communicate()[1]
        processes += [start(OTHER, name, run) for _ in range(2)]
        # They do all but what the first one holds, and wait for it.
        for process in processes[1:]:
            while not (line := process.stdout.readline()).startswith(("search: ", "top: ")):
                assert line or process.poll() is None, process.communicate()[1]
        os.kill(processes[0].pid, signal.SIGKILL)
        said = [process.communicate() for process in processes]
    finally:
        for process in (one, *processes):
            process.kill()
    assert [process.returncode for process in processes] == [-signal.SIGKILL, 0, 0], said
    assert differing(alone, run) == []
    results = [text[text.index("rank  ") :] for text in (out, *(text for text, _ in said[1:]))]
    assert results[0].replace(str(alone), str(run)) == results[1] == results[2]


@pytest.mark.slow
def test_three_processes_share_auto(tmp_path):
    """The first one is killed while it searches. The others take its block and train the nets."""
    alone, run = tmp_path / "alone", tmp_path / "run"
    one, victim = start(ALONE, "run_auto", alone), start(VICTIM, "run_auto", run)
    processes = [one, victim]
    try:
        assert one.communicate()[0], one.communicate()[1]
        while victim.stdout.readline() != "holds\n":
            assert victim.poll() is None, victim.communicate()[1]
        processes += [start(OTHER, "run_auto", run) for _ in range(2)]
        for process in processes[2:]:
            while not (line := process.stdout.readline()).startswith("search: "):
                assert line or process.poll() is None, process.communicate()[1]
        os.kill(victim.pid, signal.SIGKILL)
        _, *said = [process.communicate() for process in processes[1:]]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, -signal.SIGKILL, 0, 0], said
    tables = [(path / "candidates.csv").read_text().splitlines() for path in (run, alone)]
    first, second = ([line.rpartition(",")[0] for line in table] for table in tables)
    assert first == second  # but for the number of the run
    for result in alone.glob("retrain/*/result.json"):
        found = [json.loads((run / result.relative_to(alone)).read_text()),
                 json.loads(result.read_text())]  # fmt: skip
        assert found[0]["nets"] == found[1]["nets"]
    ends = [text.strip().splitlines()[-5:] for text, _ in said]
    assert ends[0] == ends[1] and "test images correctly" in ends[0][0]
    assert not (run / "auto_claims").exists()
