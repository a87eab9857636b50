"""Whatever a user may have been given by somebody else: read right, or refused; never run.

Over ten thousand malformed texts, files and flags: each is accepted, and then survives a round
trip, or is refused by `InputError`. Any other exception fails the test, and so does an input
that takes seconds, or a lot of memory.
"""

import json
import zipfile

import numpy as np
import psutil
import pytest
from conftest import complete_result
from hostile_inputs import (
    JSON,
    SCALARS,
    SPACE,
    accepted,
    architecture_texts,
    changed_bytes,
    changed_json,
    hostile,
    near_architectures,
)
from hypothesis import given
from hypothesis import strategies as st

import oneshot_tf as ost
from oneshot_tf import settings as ours
from oneshot_tf.cost import counts
from oneshot_tf.evaluation.racing import Race
from oneshot_tf.learning.not_finite import Rollbacks
from oneshot_tf.runs import results
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.runs.config_file import facts_of
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.settings import command_line
from oneshot_tf.strategies import PathDropoutSettings
from oneshot_tf.system.array_files import read_arrays, write_arrays
from oneshot_tf.system.json_files import write_json

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # zipfile's, of duplicate names
GROUPS = {
    "data": ours.DataSettings,
    "model": ours.ModelSettings,
    "train": ours.TrainSettings,
    "one_shot": ours.OneShotSettings,
    "strategy": PathDropoutSettings,
    "device": ours.DeviceSettings,
}


@pytest.fixture(scope="module", autouse=True)
def memory():
    """All of it together takes little memory."""
    before = psutil.Process().memory_info().rss
    yield
    assert psutil.Process().memory_info().rss - before < 500e6


# ---------------------------------------------------------------------------- architectures


@hostile(1350)
@given(near_architectures() | architecture_texts)
def test_architecture_texts(text):
    a = accepted(ost.Architecture.from_text, text)
    if a is not None:
        assert ost.Architecture.from_text(str(a)) == a
        assert ost.Architecture.from_json(a.to_json()) == a
        if accepted(lambda: SPACE.check(a) or True):
            assert SPACE.architectures(SPACE.masks([a])) == [a]


@hostile(550)
@given(JSON | changed_json({"blocks": [{"inputs": ["prev1"], "operations": ["sep3x3"]}] * 2}))
def test_architecture_json(value):
    text = value if isinstance(value, str) else json.dumps(value)
    a = accepted(ost.Architecture.from_json, text)
    if a is not None:
        assert ost.Architecture.from_json(a.to_json()) == a


@pytest.mark.parametrize("text", ["|" * 9_999, ":" * 10**6, "[" * 10**5, "prev1+" * 1600])
def test_long_texts(text):
    assert accepted(ost.Architecture.from_text, text) is None
    assert accepted(ost.Architecture.from_json, text) is None


# ---------------------------------------------------------------------------- files


def begin(folder, digits):
    """A run directory with one configuration."""
    directory = RunDirectory(folder / "run")
    facts = {**facts_of(digits), "class_names": ["a", "b"]}
    groups = {name: kind() for name, kind in GROUPS.items()}
    directory.begin(groups, SPACE, [], facts)
    return directory


@pytest.fixture(scope="module")
def csv_file(tmp_path_factory, digits):
    directory = begin(tmp_path_factory.mktemp("csv"), digits)
    file = CandidateFile(directory)
    architectures = ost.RandomSearch(SPACE, 0).propose(4)
    costs = zip(*counts.costs(SPACE, architectures, directory.stack(), 2, 8))
    file.write(
        Candidate(a, 0.5 - i / 100, 1.5, 100, *map(int, each), i + 1, 0.25)
        for i, (a, each) in enumerate(zip(architectures, costs))
    )
    assert len(file.read()) == 4
    return file, file.path.read_bytes()


@hostile(550)
@given(data=st.data())
def test_candidate_files(csv_file, data):
    file, original = csv_file
    file.path.write_bytes(data.draw(changed_bytes(original)))
    candidates = accepted(file.read)
    if candidates is not None:
        file.write(candidates)
        assert file.read() == candidates


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits):
    directory = begin(tmp_path_factory.mktemp("run"), digits)
    config = json.loads((directory.path / "config.json").read_text())
    del config["checksum"]  # with it, any change would be noticed
    return directory, config


@hostile(550)
@given(data=st.data())
def test_configurations(run, data):
    directory, original = run
    text = data.draw(changed_json(original) | JSON.map(json.dumps) | st.text(max_size=20))
    (directory.path / "config.json").write_bytes(text.encode(errors="surrogatepass"))
    accepted(directory.check_settings, {name: kind() for name, kind in GROUPS.items()})
    accepted(directory.facts)
    accepted(directory.space)
    for name, kind in GROUPS.items():
        group = accepted(directory.group, kind, name)
        assert group is None or kind(**group.to_dict()) == group


BEST = SPACE.sample(np.random.default_rng(0))
SIZES = (SPACE, [BEST], ost.Stack(2, 2), 2)
NET = {"architecture": str(BEST), "rank": 1, "candidate_accuracy": 0.5,
       "parameters": int(counts.parameters(*SIZES)[0]),
       "multiply_adds": int(counts.multiply_adds(*SIZES, 8)[0]), "folder": ["top/net_00/run_0"],
       "accuracies": [0.5], "mean": 0.5, "std": None}  # fmt: skip
RESULT = {"retrain": {"select": "top", "num_cells": 2, "filters": 2, "seed": 0},
          "evaluated_on": "test", "num_images": 10, "num_steps": 5, "nets": [NET, NET], "mean": 0.5,
          "std": 0.1}  # fmt: skip


@hostile(350)
@given(data=st.data())
def test_results(tmp_path_factory, run, data):
    directory, _ = run
    folder = directory.path / "retrain" / "top"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(directory.path / "config.json", run[1])  # another test has changed it
    result = complete_result(directory, RESULT)
    write_json(folder / "result.json", result)
    assert len(results.read_results(directory)) == 1
    (folder / "result.json").write_text(data.draw(changed_json(result)))
    found = accepted(results.read_results, directory)
    if found is not None:
        results.print_results(directory)
        for net in found[0]["nets"]:
            for place in net["folder"]:
                assert (directory.path / "retrain" / place).resolve().is_relative_to(folder)


@hostile(200)
@given(data=st.data())
def test_rollbacks(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "rollbacks.json"
    path.write_text(data.draw(changed_json({"rollbacks": [{"diverged": 9, "back_to": 5}]})))
    found = accepted(Rollbacks, path)
    if found is not None:
        assert 0 < found.at(10, 0)[1] <= 1


class Evaluator:
    num_images, chunk_size = 200, 50


@hostile(250)
@given(data=st.data())
def test_arrays(tmp_path_factory, data):
    """Checkpoints and races with some bytes changed."""
    path = tmp_path_factory.getbasetemp() / "race.npz"
    names = [str(i) for i in range(6)]
    path.unlink(missing_ok=True)
    Race(path, Evaluator, names, 2, 0.9)._save()
    whole = read_arrays(path)
    path.write_bytes(data.draw(changed_bytes(path.read_bytes())))
    arrays = accepted(read_arrays, path)
    if arrays is not None:  # what changed was padding or dates, or a name
        for name in arrays.keys() & whole.keys():
            np.testing.assert_array_equal(arrays[name], whole[name])
    accepted(Race, path, Evaluator, names, 2, 0.9)


@hostile(150)
@given(st.dictionaries(
    st.sampled_from(["architectures", "outcomes", "seen", "entropy", "running", "lost",
                     "finished_rounds"]),
    st.sampled_from([np.zeros(6), np.zeros([6, 25], np.uint8), np.array(["0"] * 6), np.array(5),
                     np.full(6, 77), np.array(-1), np.zeros([0, 3])]),
))  # fmt: skip
def test_races_of_other_arrays(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "other_race.npz"
    names = [str(i) for i in range(6)]
    path.unlink(missing_ok=True)
    Race(path, Evaluator, names, 2, 0.9)._save()
    write_arrays(path, {**read_arrays(path), **changes})
    race = accepted(Race, path, Evaluator, names, 2, 0.9)
    assert race is None or race.seen.shape == (6,)


def test_no_pickle_and_no_bomb_is_read(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.array([{"not": "plain"}], object))
    assert accepted(read_arrays, path) is None
    np.savez_compressed(path, a=np.zeros(10**7))  # 80 MB in 80 kB
    assert path.stat().st_size < 10**5 and accepted(read_arrays, path) is None
    header = b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': "
    header += b"(99999999999,), }".ljust(0x76 - len(header) + 10 - 1) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header)
    assert accepted(read_arrays, path) is None


# ---------------------------------------------------------------------------- flags

KINDS = [ours.RunSettings, *GROUPS.values()]
FLAGS = sorted(set().union(*({*kind().to_dict()} for kind in GROUPS.values())) | {"run_dir"})
VALUES = st.text(max_size=12) | SCALARS.map(str) | st.sampled_from(
    ["1", "32", "0.5", "true", "cosine", "auto", "1e-3", "inf", "-0", "1_0", "0x10", "¹", "--seed"]
)  # fmt: skip


@st.composite
def flags(draw):
    name = draw(st.sampled_from([*FLAGS, "no_such", "flagfile", "undefok", "nodownload", ""]))
    form = draw(st.sampled_from(["--{}={}", "-{}={}", "--{} {}", "--no{}", "{}", "--{}", "{1}"]))
    return form.format(name, draw(VALUES))


@hostile(700)
@given(st.lists(flags(), max_size=4))
def test_command_lines(arguments):
    if any(a.lstrip("-") in ("help", "helpshort", "helpfull", "h") for a in arguments):
        return
    chosen = accepted(command_line.parse, ["program", "--run_dir=x", *arguments], KINDS)
    if chosen is not None:
        lines = command_line.as_flag_lines(chosen)
        assert command_line.parse(["program", *lines], KINDS) == chosen


@hostile(300)
@given(data=st.data())
def test_flag_files(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "hostile.flags"
    original = b"# comment\n--run_dir=x\n--filters=8\n--drop_rate=0.1\n--nodownload\n"
    path.write_bytes(data.draw(changed_bytes(original)))
    chosen = accepted(command_line.parse, ["program", f"--flagfile={path}"], KINDS)
    if chosen is not None:
        assert command_line.parse(["program", *command_line.as_flag_lines(chosen)], KINDS) == chosen
