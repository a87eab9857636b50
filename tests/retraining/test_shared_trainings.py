"""Copies of `retrain` give the files of one process, and score the models once."""

import json
import os
import shutil

import pytest
import tensorflow as tf
from shared_runs import ALONE, SHARED, begin, differing, run_retrain, run_search

import oneshot_tf as ost
from oneshot_tf import settings
from oneshot_tf.learning.loop import Loop
from oneshot_tf.retraining.jobs import Jobs
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.opened import opened
from oneshot_tf.system.interrupts import Interrupted

STEPS = 5  # of a training


@pytest.fixture(scope="module")
def base(tmp_path_factory, digits):
    path = begin(tmp_path_factory.mktemp("base") / "run", digits)
    run_search(path, ALONE, num_candidates=4)
    return path


@pytest.fixture(scope="module")
def whole(base):
    """The run after `retrain` in one process."""
    path = base.parent / "whole"
    shutil.copytree(base, path)
    run_retrain(path, ALONE)
    return path


@pytest.fixture
def run(base, tmp_path):
    shutil.copytree(base, tmp_path / "run")
    return tmp_path / "run"


def at_step(monkeypatch, number, act):
    """Calls `act()` at a step; the steps of all trainings are counted together from 1."""
    count, step = [], Loop._step

    def counted(self, *arguments):
        count.append(number)
        if len(count) == number:
            act()
        return step(self, *arguments)

    monkeypatch.setattr(Loop, "_step", counted)
    return count


def test_a_copy_alone_gives_the_files_of_a_process_alone(whole, run, monkeypatch, capsys):
    run_retrain(run)
    assert differing(whole, run) == []
    assert "top: 2/2 trainings" in capsys.readouterr().out
    # A copy that comes later prints the result. It neither scores nor writes anything again.
    result = run / "retrain" / "top" / "result.json"
    before = result.stat()
    monkeypatch.setattr(Jobs, "evaluate", lambda *_: pytest.fail("scored again"))
    run_retrain(run)
    assert "over 1 net(s)) on 300 test images" in capsys.readouterr().out
    assert result.stat().st_mtime_ns == before.st_mtime_ns
    assert differing(whole, run) == []


@pytest.mark.parametrize("sharing", [SHARED, pytest.param(ALONE, marks=pytest.mark.slow)])
def test_a_stopped_copy_leaves_its_trainings(whole, run, monkeypatch, sharing):
    """It stops in the second training, after seven steps in all."""

    def stop():
        raise Interrupted()

    with monkeypatch.context() as patch:
        at_step(patch, 8, stop)
        with pytest.raises(Interrupted):
            run_retrain(run)
    assert [p.name for p in (run / "retrain" / "top").rglob("*.done")] == ["net_00_run_0.done"]
    assert not (run / "retrain" / "top" / "result.json").exists()
    with monkeypatch.context() as patch:
        count = at_step(patch, 0, stop)
        run_retrain(run, sharing)
    assert len(count) == STEPS * 2 - 7  # no step was repeated
    assert differing(whole, run) == []


def test_a_copy_whose_work_was_taken_over_writes_nothing_more(whole, run, monkeypatch):
    """Another copy has claimed the training at its third step, and dies later."""
    claims = run / "retrain" / "top" / "claims"
    lines = []

    def take_over():
        (claims / "net_00_run_0.1.claim").write_text("")

    train = Jobs.train

    def watched(self, chosen, index, repeat, before_write):
        try:
            return train(self, chosen, index, repeat, before_write)
        finally:
            if (index, repeat, len(lines)) == (0, 0, 0):
                path = self.folder_of(0, 0) / "metrics.jsonl"
                lines.extend(path.read_text().splitlines())
                os.utime(claims / "net_00_run_0.1.claim", (1.0, 1.0))

    at_step(monkeypatch, 3, take_over)
    monkeypatch.setattr(Jobs, "train", watched)
    run_retrain(run)
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert differing(whole, run) == []


def test_copies_with_other_settings_are_refused(whole, run):
    shutil.copytree(whole / "retrain", run / "retrain")
    other = settings.TrainSettings(batch_size=64, augmentation="none")
    with pytest.raises(ost.InputError, match="was made with --batch_size=32; now --batch_size=64"):
        run_retrain(run, train=other)
    (run / "retrain" / "top" / "settings.json").unlink()
    with pytest.raises(ost.InputError, match="was made with --batch_size=32; now --batch_size=64"):
        run_retrain(run, train=other)


@pytest.mark.parametrize("name", ["multi_worker", "tpu"])
def test_devices_of_several_machines_are_refused(run, name):
    device = settings.DeviceSettings(distribution=name)
    with pytest.raises(ost.InputError, match=f"works alone; got --distribution={name}"):
        run_retrain(run, device=device)


def test_copies_and_a_process_alone_exclude_each_other(run):
    directory, folder = RunDirectory(run), run / "retrain" / "top"
    for shared, other in ((True, ALONE), (False, SHARED)):
        refused = pytest.raises(ost.InputError, match="is in use by process")
        with opened(directory, tf.distribute.get_strategy(), folder, shared), refused:
            run_retrain(run, other)


@pytest.mark.slow
def test_a_damaged_model_is_trained_again_after_one_line(whole, run, monkeypatch):
    checkpoint = run / "retrain" / "top" / "net_00" / "run_0" / "checkpoints" / "step_000000005.npz"
    evaluate = Jobs.evaluate

    def damaged(self, chosen):
        checkpoint.write_bytes(b"damaged")
        return evaluate(self, chosen)

    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "evaluate", damaged)
        with pytest.raises(ost.InputError, match=r"step_000000005\.npz cannot be read"):
            run_retrain(run)
    run_retrain(run)
    assert differing(whole, run) == []
