"""Tuning: the same trials after a kill, one process or several, and flags that train takes."""

import csv
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import complete_result
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

import oneshot_tf as ost
from oneshot_tf import settings, tune
from oneshot_tf.analysis import ranking
from oneshot_tf.cost import counts
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.runs.config_file import facts_of
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.strategies import PathDropoutSettings
from oneshot_tf.tuning import trials as one_trial
from oneshot_tf.tuning.worker import VARIABLES, tuner_worker

ROOT = pathlib.Path(__file__).parents[2]
GROUPS = ("data", "model", "train", "one_shot", "strategy", "device")
FLAGS = ["--dataset=digits", "--num_validation=100", "--num_blocks=1", "--num_cells=2",
         "--filters=2", "--batch_size=64", "--train_steps=6", "--num_candidates=6", "--top=2",
         "--augmentation=crop"]  # fmt: skip


def start(folder, *flags, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "oneshot_tf.tune", *FLAGS, *flags], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def finish(process, code=0):
    out, errors = process.communicate(timeout=300)
    assert process.returncode == code, out + errors
    assert "Traceback" not in errors
    return out, errors


def trials(folder):
    with open(folder / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    return sorted((row["drop_rate"], row["score"]) for row in rows)


def groups(**changes):
    kinds = {"tune": {"num_candidates": 6, "top": 2, "max_trials": 3},
             "data": {"dataset": "digits", "num_validation": 100},
             "model": {"num_cells": 2, "filters": 2, "num_blocks": 1},
             "train": {"batch_size": 64, "augmentation": "crop"},
             "one_shot": {"train_steps": 6}, "strategy": {}, "device": {}}  # fmt: skip
    classes = {"tune": tune.TuneSettings, "data": settings.DataSettings,
               "model": settings.ModelSettings, "train": settings.TrainSettings,
               "one_shot": settings.OneShotSettings, "strategy": PathDropoutSettings,
               "device": settings.DeviceSettings}  # fmt: skip
    return [kind(**{**kinds[name], **changes.get(name, {})}) for name, kind in classes.items()]


def run(folder, **changes):
    tune.main(settings.RunSettings(str(folder)), *groups(**changes))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune") / "run"
    run(folder)
    return folder


def test_it_ends_with_flags_that_train_takes(whole, tmp_path):
    assert len(trials(whole)) == 3 and (whole / "curve.svg").exists()
    most = max(score for _, score in trials(whole))
    flags = (whole / "best.flags").read_text()
    # So short a training may give several trials the same score.
    assert any(f"--drop_rate={r}\n" in flags for r, score in trials(whole) if score == most)
    done = subprocess.run(
        [sys.executable, "-m", "oneshot_tf.train", f"--flagfile={whole / 'best.flags'}",
         "--run_dir=run"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_tensorboard_compares_the_trials(whole):
    paths = list(whole.glob("trials/*/result.json"))
    assert len(paths) == 3
    for path in paths:
        result = json.loads(path.read_text())
        events = EventAccumulator(str(path.parent / "tensorboard"), {"tensors": 0}).Reload()
        content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        values = metadata.parse_session_start_info_plugin_data(content).hparams
        assert values["drop_rate"].number_value == result["values"]["drop_rate"]
        (score,) = events.Tensors("score")
        assert tf.make_ndarray(score.tensor_proto) == pytest.approx(result["score"])


@pytest.mark.slow
def test_killed_and_started_again_it_is_the_same(whole, tmp_path, monkeypatch):
    """Also with KerasTuner's own file cut off, and with more trials afterwards."""
    original, calls = one_trial.fit_supernet, []

    def killed(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(one_trial, "fit_supernet", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run")
    oracle = tmp_path / "run" / "keras_tuner" / "oracle.json"
    oracle.write_text(oracle.read_text()[:50] if oracle.exists() else "{")
    calls.clear()

    def counted(*arguments, **options):
        calls.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(one_trial, "fit_supernet", counted)
    run(tmp_path / "run")
    assert trials(tmp_path / "run") == trials(whole) and len(calls) == 2  # the first one was done
    run(tmp_path / "run", tune={"max_trials": 4})
    assert len(calls) == 3 and set(trials(whole)) < set(trials(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["hyperband", "bayesian"])
def test_other_tuners(tmp_path, tuner, monkeypatch):
    for module in (tune, one_trial):  # or Hyperband takes some fifty trials
        monkeypatch.setattr(module, "LONGEST", 3)
    changes = {"tuner": tuner, "tune": "drop_rate,learning_rate_schedule", "max_trials": 4}
    if tuner == "hyperband":
        changes["num_candidates"] = changes["top"] = 1
    run(tmp_path / "run", tune=changes, one_shot={"train_steps": 3})
    assert len(trials(tmp_path / "run")) >= 4
    again = (tmp_path / "run" / "trials.csv").read_text()
    run(tmp_path / "run", tune=changes, one_shot={"train_steps": 3})
    assert (tmp_path / "run" / "trials.csv").read_text() == again


def test_a_diverged_trial_has_the_worst_score(tmp_path):
    changes = {"tune": "learning_rate", "learning_rate_range": "90,100", "max_trials": 1}
    run(tmp_path / "run", tune=changes, train={"weight_decay": 1.0}, one_shot={"train_steps": 60})
    (result,) = (tmp_path / "run" / "trials").glob("*/result.json")
    assert json.loads(result.read_text())["score"] == 0.0
    assert "not finite" in json.loads(result.read_text())["why"]


def test_a_full_disk_is_not_taken_for_divergence(tmp_path, monkeypatch):
    def fails(net, data, sampler, steps, train, seed, folder, device):
        (folder / "diverged.json").write_text("{}")  # of a rollback
        raise ost.InputError("Cannot write: no space left.")

    monkeypatch.setattr(one_trial, "fit_supernet", fails)
    with pytest.raises(ost.InputError, match="no space left"):
        run(tmp_path / "run")
    assert not list((tmp_path / "run" / "trials").glob("*/result.json"))


def _costs(space, architectures, stack, num_classes):
    """Parameters and multiply-adds of each, for images of 8x8 pixels."""
    counted = (space, architectures, stack, num_classes)
    parameters, multiply_adds = counts.parameters(*counted), counts.multiply_adds(*counted, 8)
    return list(zip(map(int, parameters), map(int, multiply_adds)))


@pytest.fixture
def source(tmp_path, digits):
    """A run with candidates and stand-alone nets, of the same data and space."""
    run, space = RunDirectory(tmp_path / "source"), ost.bender2018(1)
    _, data, model, train, one_shot, strategy, device = groups()
    parts = {"data": data, "model": model, "train": train, "one_shot": one_shot,
             "strategy": strategy, "device": device}  # fmt: skip
    run.begin(parts, space, [], facts_of(digits))
    architectures = ost.RandomSearch(space, 0).propose(6)
    costs = _costs(space, architectures, model.stack(), 10)
    rows = [
        Candidate(a, 0.1 * i, 1.5, 100, *each, 6 - i, 0.5)
        for i, (a, each) in enumerate(zip(architectures, costs))
    ]
    CandidateFile(run).write(rows)
    nets = [
        {"architecture": str(c.architecture), "rank": c.rank, "candidate_accuracy": 0.5,
         "parameters": size, "multiply_adds": adds, "folder": [f"top/net_{i}/run_0"],
         "accuracies": [0.5 + 0.01 * i], "mean": 0.5 + 0.01 * i, "std": None}
        for i, (c, (size, adds)) in enumerate(
            zip(rows, _costs(space, architectures, model.stack(2, 2), 10))
        )
    ]  # fmt: skip
    retrain = {"select": "top", "num_cells": 2, "filters": 2, "seed": 0}
    result = {"run_id": run.run_id(), "retrain": retrain, "nets": nets,
              "evaluated_on": "validation", "num_images": 100, "num_steps": 5, "mean": 0.5,
              "std": 0.1}  # fmt: skip
    (run.path / "retrain" / "top").mkdir(parents=True)
    result = complete_result(run, result)
    (run.path / "retrain" / "top" / "result.json").write_text(json.dumps(result))
    return run.path


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["rank", "stand_alone"])
def test_other_objectives(source, tmp_path, objective):
    changes = {"objective": objective, "of_run": str(source), "tune": "learning_rate"}
    run(tmp_path / "run", tune={**changes, "max_trials": 2})
    found = [
        json.loads(path.read_text())["score"]
        for path in (tmp_path / "run" / "trials").glob("*/result.json")
    ]
    assert len(found) == 2 and all(-1 <= score <= 1 for score in found)
    with pytest.raises(ost.InputError, match="images of digits have changed"):
        run(tmp_path / "other", tune=changes, data={"num_validation": 90})
    if objective == "rank":
        (source / "retrain" / "top" / "result.json").unlink()
        with pytest.raises(ost.InputError, match="has 0 stand-alone models"):
            run(tmp_path / "none", tune=changes)


def test_a_refused_command_pins_no_settings(source, tmp_path):
    with pytest.raises(ost.InputError, match="--of_run"):
        run(tmp_path / "run", tune={"objective": "rank", "tune": "learning_rate"})
    assert not (tmp_path / "run" / "settings.json").exists()


def test_nets_judged_on_test_images_tune_nothing(source, tmp_path):
    """Whichever are more; the command that the error gives reads no test images."""
    result = json.loads((source / "retrain" / "top" / "result.json").read_text())
    changes = {"objective": "rank", "tune": "learning_rate", "of_run": str(source)}

    def nets():
        made = {group: g for group, g in zip(("tune", *GROUPS), groups(tune=changes))}
        return one_trial.Trials(
            RunDirectory(tmp_path / "run"), made, settings.DeviceSettings()
        ).nets

    final = source / "retrain" / "final" / "result.json"
    final.parent.mkdir()
    first = {**result["nets"][0], "folder": ["final/net_0/run_0"]}
    others = ost.RandomSearch(ost.bender2018(1), 0).propose(15)[6:]
    sizes = _costs(ost.bender2018(1), others, groups()[2].stack(2, 2), 10)
    more = [
        {**first, "architecture": str(a), "parameters": size, "multiply_adds": adds}
        for a, (size, adds) in zip(others, sizes)
    ]
    result_of_more = {**result, "evaluated_on": "test", "nets": more}
    final.write_text(json.dumps(complete_result(RunDirectory(source), result_of_more)))
    assert [n.accuracies for n in nets()] == [tuple(n["accuracies"]) for n in result["nets"]]
    (source / "retrain" / "top" / "result.json").unlink()
    with pytest.raises(ost.InputError, match="has 0 stand-alone models scored on val") as error:
        nets()
    assert "9 scored on test images, which do not count" in str(error.value)
    command = str(error.value).partition("python -m oneshot_tf.retrain")[2]
    assert "--evaluate_on=validation" in command and str(source) in command


@pytest.mark.slow
def test_chief_and_two_workers(whole, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": port}
    flags = ["--run_dir=run", "--max_trials=3"]
    chief = start(tmp_path, *flags, KERASTUNER_TUNER_ID="chief", **common)
    workers = [
        start(tmp_path, *flags, KERASTUNER_TUNER_ID=f"worker{i}", **common) for i in range(2)
    ]
    for process in [*workers, chief]:
        finish(process)
    assert [rate for rate, _ in trials(tmp_path / "run")] == [rate for rate, _ in trials(whole)]


@pytest.mark.parametrize(
    "flags, code, part",
    [
        (["--tune=momentum"], 2, "--tune must name some of"),
        (["--drop_rate_range=0.5"], 2, "--drop_rate_range must be two numbers"),
        (["--drop_rate_range=0.5,0.1"], 2, "FROM,TO"),
        (["--top=7"], 2, "--top must be at most --num_candidates=6; got 7"),
        (["--objective=rank"], 1, "--of_run"),
        (["--objective=stand_alone", "--tune=learning_rate", "--of_run=x"], 1, "holds no run"),
        (["--objective=stand_alone"], 2, "must not name drop_rate"),
        (["--dataset=nothing_like_it"], 1, "nothing_like_it"),
        (["--distribution=mirrored"], 1, "a trial runs on one device"),
    ],
)
def test_mistakes(tmp_path, flags, code, part):
    _, errors = finish(start(tmp_path, "--run_dir=run", *flags), code)
    lines = [line for line in errors.splitlines() if ": error: " in line]
    assert len(lines) == 1 and part in lines[0]


@pytest.mark.parametrize(
    "environment, part",
    [
        ({"KERASTUNER_TUNER_ID": "worker0"}, "set without KERASTUNER_ORACLE_IP and"),
        ({"KERASTUNER_ORACLE_IP": "127.0.0.1"}, "set without KERASTUNER_TUNER_ID and"),
        (
            dict(zip(VARIABLES, ("chief", "127.0.0.1", "many"))),
            "PORT must be a number from 1 to 65535; got many",
        ),
        (dict(zip(VARIABLES, ("chief", "192.0.2.1", "5000"))), "cannot listen at"),
    ],
)
def test_variables_of_several_processes_go_together(monkeypatch, environment, part):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ost.InputError, match=part):
        tuner_worker()


def test_equal_accuracies_rank_nothing():
    assert np.isnan(ranking.spearman([0.5] * 6, range(6)))


def test_other_settings_are_refused(whole):
    with pytest.raises(ost.InputError, match="--train_steps=6; now --train_steps=7"):
        run(whole, one_shot={"train_steps": 7})
