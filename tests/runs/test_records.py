"""The run directory: what is refused, what is survived, who may work there."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import edit_json

import oneshot_tf as ost
from oneshot_tf.runs.config_file import VERSION, facts_of
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.settings import DataSettings, DeviceSettings, ModelSettings, TrainSettings
from oneshot_tf.strategies import PathDropoutSettings
from oneshot_tf.system.json_files import read_json, write_json
from oneshot_tf.system.locks import locked

GROUPS = {
    "model": ModelSettings(filters=8),
    "device": DeviceSettings(log_steps=5),
    "train": TrainSettings(),
    "data": DataSettings(dataset="digits"),
}


@pytest.fixture
def directory(tmp_path, space, digits):
    run = RunDirectory(tmp_path / "run")
    run.begin(GROUPS, space, ["--filters=8"], facts_of(digits))
    return run


def change(path, **values):
    edit_json(path, **values)


def test_a_run_with_more_reductions_than_fit_opens_as_the_net_that_it_was(tmp_path, digits):
    """Earlier versions kept the number that was asked for, and made as many as fit."""
    directory = RunDirectory(tmp_path)
    groups = {**GROUPS, "model": ModelSettings(num_cells=2, filters=8)}
    directory.begin(groups, ost.bender2018(), [], facts_of(digits))
    model = json.loads((tmp_path / "config.json").read_text())["model"]
    assert model["num_reductions"] == 1
    edit_json(tmp_path / "config.json", version=1, model={**model, "num_reductions": 2})
    assert directory.group(ModelSettings, "model").stack() == ost.Stack(2, 8, 1)
    directory.check_settings(groups)  # the same command goes on


def test_other_settings_are_refused_and_named(directory, space):
    directory.check_settings(GROUPS)
    directory.check_settings({**GROUPS, "device": DeviceSettings(log_steps=50)})
    with pytest.raises(ost.InputError, match="--filters=8; now --filters=16"):
        directory.check_settings({**GROUPS, "model": ModelSettings(filters=16)})
    assert directory.space() == space


@pytest.mark.parametrize("moved", [{}, {"drop_rate": 0.25, "drop_schedule": "constant"}])
def test_a_run_of_version_2_has_path_dropout_among_the_one_shot_settings(directory, moved):
    path = directory.path / "config.json"
    config = read_json(path)
    values = {**PathDropoutSettings().to_dict(), **moved}
    del config["strategy"], values["strategy"]
    config["one_shot"] |= values
    write_json(path, {**config, "version": 2})
    assert directory.strategy() == PathDropoutSettings(**moved)
    groups = {**GROUPS, "strategy": PathDropoutSettings(**moved)}
    directory.check_settings(groups)
    with pytest.raises(ost.InputError, match="--drop_rate=.*; now --drop_rate=0.5"):
        directory.check_settings({**groups, "strategy": PathDropoutSettings(drop_rate=0.5)})
    del config["one_shot"]["drop_rate"]
    write_json(path, {**config, "version": 2})
    with pytest.raises(ost.InputError, match="'strategy' has no setting 'drop_rate'"):
        directory.config()


@pytest.mark.parametrize("name", ["no_such", 3, None])
def test_an_unknown_strategy_is_damage(directory, name):
    edit_json(directory.path / "config.json", strategy={"strategy": name, "drop_rate": 0.1})
    with pytest.raises(ost.InputError, match="is damaged"):
        directory.config()


def test_a_setting_that_a_run_of_version_1_lacks_has_its_default(directory):
    values = TrainSettings().to_dict()
    del values["label_smoothing"]
    change(directory.path / "config.json", train=values)
    with pytest.raises(ost.InputError, match="'train' has no setting 'label_smoothing'"):
        directory.check_settings(GROUPS)
    change(directory.path / "config.json", version=1)
    directory.check_settings(GROUPS)
    with pytest.raises(ost.InputError, match=r"--label_smoothing=0.0; now --label_smoothing=0.1"):
        directory.check_settings({"train": TrainSettings(label_smoothing=0.1)})


@pytest.mark.parametrize(
    "values, part",
    [
        ({"version": VERSION + 1}, f"has version {VERSION + 1}"),
        ({"version": None}, "has version None"),
        ({"model": {"filters": "8"}}, "'model'"),
        ({"model": {"filters": True}}, "'model'"),
        ({"model": {"filters": -1}}, "'model'"),
        ({"model": {"unheard_of": 1}}, "'model'"),
        ({"model": [8]}, "'model'"),
    ],
)
def test_a_run_of_another_version_is_refused(directory, values, part):
    change(directory.path / "config.json", **values)
    with pytest.raises(ost.InputError, match=part):
        directory.check_settings(GROUPS)


@pytest.mark.parametrize(
    "facts", [None, 3, {}, {"class_names": "ab"}, {"class_names": ["a", "b"], "image_size": "8"}]
)
def test_damaged_facts_are_refused(directory, facts):
    change(directory.path / "config.json", facts=facts)
    with pytest.raises(ost.InputError, match="damaged"):
        directory.facts()


# Settings of a later version of the package. A file without them has the default.
ADDED = {("model", "space"): "bender2018", ("train", "global_clipnorm"): 0.0}


def places_of(config):
    """The place of each entry of config.json: a group, or a name within one."""
    for group, values in config.items():
        yield (group,)
        if isinstance(values, dict):
            yield from ((group, name) for name in values)


def test_a_config_that_lacks_anything_is_damaged_and_what_it_lacks_is_named(directory):
    path = directory.path / "config.json"
    whole = json.loads(path.read_text())
    del whole["checksum"]  # with it, any change would be noticed
    places = list(places_of(whole))
    assert {("run_id",), ("data",), ("data", "dataset"), ("facts", "mean")} <= set(places)
    assert set(ADDED) <= set(places)
    for *groups, name in places:
        config = json.loads(json.dumps(whole))
        del (config[groups[0]] if groups else config)[name]
        path.write_text(json.dumps(config))
        if (*groups, name) in ADDED:
            assert directory.config()[groups[0]][name] == ADDED[(*groups, name)]
            continue
        with pytest.raises(ost.InputError, match=f"config.json (is|has) .*{name}") as error:
            directory.config()
        assert "\n" not in str(error.value)


def test_a_run_that_an_earlier_version_began_has_no_id_and_goes_on(directory):
    path = directory.path / "config.json"
    config = json.loads(path.read_text())
    del config["checksum"], config["run_id"]
    del config["train"]["learning_rate_schedule"], config["facts"]["mean"]
    path.write_text(json.dumps({**config, "version": 1}))
    assert directory.run_id() is None
    directory.check_settings(GROUPS)
    directory.begin(GROUPS, directory.space(), [], {})
    assert directory.run_id() is None  # it does not get one later


def test_each_run_has_an_id_of_its_own_that_stays(directory, tmp_path, digits):
    other = RunDirectory(tmp_path / "other")
    other.begin(GROUPS, directory.space(), [], facts_of(digits))
    assert re.fullmatch("[0-9a-f]{32}", directory.run_id())
    assert directory.run_id() != other.run_id()
    before = directory.run_id()
    directory.begin(GROUPS, directory.space(), [], facts_of(digits))
    assert directory.run_id() == before
    for wrong in ("", "f" * 31, "F" * 32, 3, None, ["f" * 32]):
        change(directory.path / "config.json", run_id=wrong)
        with pytest.raises(ost.InputError, match="`run_id` must be 32 hexadecimal digits"):
            directory.config()


@pytest.mark.parametrize(
    "facts, part",
    [
        ({"image_size": 0}, "`image_size` must be from 1 to 16,384; got 0"),
        ({"image_size": 10**5}, "got 100000"),
        ({"image_size": 10**400}, "64 bits"),
        ({"mean": [10**400] * 3}, "64 bits"),
        ({"mean": [0.5]}, "`mean` must be 3 finite numbers"),
        ({"std": [0.5, float("inf"), 0.5]}, "`std` must be 3 finite numbers"),
        ({"std": [0.5, 0.0, 0.5]}, "`std` must be above 0"),
        ({"class_names": ["a"]}, "at least 2 classes"),
        ({"fingerprint": {"train": [1, 2, 3], "validation": [1, 2], "test": [1, 2, 3]}}, "3 num"),
        ({"fingerprint": {"train": [1, 2, 3], "validation": [1, 2, -3], "test": [1, 2, 3]}}, "3 n"),
        ({"fingerprint": {"train": [1, 2, 3], "validation": [1, 2, 3]}}, "fingerprint/test"),
    ],
)
def test_facts_out_of_range_are_refused_in_one_line(directory, facts, part):
    whole = json.loads((directory.path / "config.json").read_text())["facts"]
    change(directory.path / "config.json", facts={**whole, **facts})
    with pytest.raises(ost.InputError, match=part) as error:
        directory.config()
    assert "\n" not in str(error.value) and str(directory.path) in str(error.value)


def test_a_folder_that_is_a_file_or_lost_its_config(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ost.InputError, match="is a file"):
        RunDirectory(tmp_path / "file").check_settings({})
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "step_000000001.npz").write_text("")
    with pytest.raises(ost.InputError, match=r"no config\.json"):
        RunDirectory(tmp_path / "run").check_settings({})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"num_blocks": 99}', '{"operations": 3}'])
def test_a_damaged_space_is_refused(directory, text):
    (directory.path / "space.json").write_text(text)
    with pytest.raises(ost.InputError, match=r"space\.json"):
        directory.space()


# ---------------------------------------------------------------------------- locks


def test_one_holder_at_a_time_or_several_who_share(tmp_path):
    run = RunDirectory(tmp_path / "new" / "run")
    me = f"in use by process {os.getpid()} on "
    with run.locked():
        for shared in (False, True):
            with pytest.raises(ost.InputError, match=me), run.locked(shared):
                pass
    with run.locked(shared=True):
        with run.locked(shared=True):
            pass
        with pytest.raises(ost.InputError, match=me), run.locked():
            pass
    assert not (tmp_path / "new").exists()  # nothing was written


HOLD = """
import sys, time
from oneshot_tf.system.json_files import read_json, write_json
from oneshot_tf.system.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ost.InputError, match=f"process {process.pid}"), locked(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_is_removed(directory):
    left = directory.path / "checkpoints" / ".step_000000007.npz.123.writing"
    left.parent.mkdir()
    left.write_bytes(b"half")
    folder = directory.path / ".export.77.writing"
    (folder / "variables").mkdir(parents=True)
    with directory.locked(shared=True):
        assert left.exists()  # may be another's
    with directory.locked():
        assert not left.exists() and not folder.exists()
    assert (directory.path / "config.json").exists()


# ---------------------------------------------------------------------------- interruptions

STOP = """
import sys, time
from oneshot_tf.system.interrupts import Interrupted, uninterrupted, listen
listen()
try:
    with uninterrupted():
        print("in", flush=True)
        for _ in range(int(sys.argv[1])):
            time.sleep(0.1)
        print("whole", flush=True)
except Interrupted as interrupt:
    print(interrupt, interrupt.number)
"""


@pytest.mark.parametrize("times", [1, 2])
def test_an_interruption_waits_for_the_end_of_the_block_a_second_does_not(times):
    process = subprocess.Popen(
        [sys.executable, "-c", STOP, "10" if times == 1 else "600"], stdout=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout.readline() == "in\n"
    for _ in range(times):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    out, _ = process.communicate(timeout=30)
    assert ("whole" in out) == (times == 1)
    assert "stopped by SIGTERM 15" in out
