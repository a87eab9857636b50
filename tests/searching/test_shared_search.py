"""Copies of a search give the files of one process; what stops them leaves work to go on with."""

import shutil
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import edit_json
from shared_runs import ALONE, SEARCH, SHARED, begin, contents, differing, run_search

import oneshot_tf as ost
from oneshot_tf import settings
from oneshot_tf.evaluation.shared_weights import Score
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.opened import opened
from oneshot_tf.searching import SearchJob, scorers, sharing
from oneshot_tf.settings import DistributionSettings
from oneshot_tf.strategies import PROPOSERS
from oneshot_tf.system import files
from oneshot_tf.system.interrupts import Interrupted


class MadeUp:
    """Scores that cost nothing: they follow from the text of the architecture."""

    num_images = 100

    def __init__(self):
        self.scored = []

    def __call__(self, architectures):
        self.scored.extend(architectures)
        hits = [zlib.crc32(str(a).encode()) % 101 for a in architectures]
        return [Score(count / 100, 2.0 - count / 100, 100) for count in hits]


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Replaces the evaluators, except where the weights matter."""
    made_up = MadeUp()

    def evaluator(job, largest_chunk=None):
        job.record.note(all_on_accuracy=0.5, num_images=100, chunk_size=32)
        return made_up

    def divergences(architectures):
        return np.full(len(architectures), 0.25)

    if getattr(request, "param", True):
        monkeypatch.setattr(SearchJob, "evaluator", evaluator)
        monkeypatch.setattr(SearchJob, "divergence", lambda job: divergences)
        monkeypatch.setattr(scorers.SharedWeights, "load", lambda self: None)
    return made_up


@pytest.fixture(scope="module")
def base(tmp_path_factory, digits):
    return begin(tmp_path_factory.mktemp("base") / "run", digits)


@pytest.fixture
def whole(base, tmp_path, quick):
    """The run after a search by one process."""
    path = tmp_path / "whole"
    shutil.copytree(base, path)
    run_search(path, ALONE)
    return path


@pytest.fixture
def run(base, tmp_path):
    shutil.copytree(base, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def stop(monkeypatch):
    """Stops the search with an error in a block; the blocks are counted from 0."""

    def stop(number, error):
        write, count = scorers.SharedWeights.score, []

        def score(self, block, claim):
            if claim is not None:
                count.append(block)
                if len(count) == number + 1:
                    raise error
            return write(self, block, claim)

        patch = pytest.MonkeyPatch()
        patch.setattr(scorers.SharedWeights, "score", score)
        return patch

    return stop


def stopped(run, stop, number=3, error=None):
    patch = stop(number, error or Interrupted())
    with pytest.raises(type(error or Interrupted())):
        run_search(run)
    patch.undo()
    return run


@pytest.mark.parametrize("quick", [False], indirect=True)
def test_a_copy_alone_gives_the_files_of_a_process_alone(whole, run, capsys):
    run_search(run)
    assert differing(whole, run) == []
    assert "search: 20/20 blocks" in capsys.readouterr().out
    run_search(run)  # there is nothing left to do
    assert differing(whole, run) == []


@pytest.mark.parametrize("sharing", [SHARED, ALONE])
def test_a_stopped_copy_leaves_its_blocks(whole, run, stop, sharing, quick):
    stopped(run, stop)
    blocks = sorted(path.name for path in (run / "claims").glob("*.csv"))
    assert len(blocks) == 3 and len((run / "candidates.csv").read_text().splitlines()) == 1
    quick.scored.clear()
    run_search(run, sharing)
    assert differing(whole, run) == []
    assert len(set(quick.scored)) == 34  # the candidates of the other 17 blocks


def test_a_search_that_began_alone_and_that_copies_continue(whole, run):
    run_search(run, ALONE, num_candidates=15)
    run_search(run)
    assert differing(whole, run) == []


def test_named_searches_are_shared_too(whole, run, stop):
    run_search(run, name="mine")
    assert (run / "search" / "mine" / "candidates.csv").read_bytes() == (
        whole / "candidates.csv"
    ).read_bytes()
    assert not (run / "search" / "mine" / "claims").exists()


@pytest.mark.parametrize("sharing", [SHARED, pytest.param(ALONE, marks=pytest.mark.slow)])
def test_trainings_are_shared_too(run, base, tmp_path, sharing, monkeypatch):
    """A copy stops in the second of two trainings."""
    values = {"evaluator": "stand_alone", "epochs": 0.1, "num_candidates": 2}
    alone = tmp_path / "alone"
    shutil.copytree(base, alone)
    run_search(alone, ALONE, **values)
    done, score = [], scorers.Trial.score

    def stopping(self, architecture, before_write):
        done.append(architecture)
        if len(done) == 2:
            raise Interrupted()
        return score(self, architecture, before_write)

    with monkeypatch.context() as patch:
        patch.setattr(scorers.Trial, "score", stopping)
        with pytest.raises(Interrupted):
            run_search(run, **values)
    assert len(list((run / "claims").glob("*.csv"))) == 1
    run_search(run, sharing, **values)
    assert differing(alone, run) == []


@pytest.mark.parametrize("lost", [False, True])
def test_a_copy_that_lost_its_claim_removes_no_training(run, lost):
    cleaned, copy = [], object.__new__(sharing._Copy)
    copy.job, copy.folder = SimpleNamespace(directory=RunDirectory(run)), run
    copy.scorer = SimpleNamespace(score=lambda block, claim: [], clean=cleaned.append)
    copy._do({"block": []}, SimpleNamespace(name="block", lost=lambda: lost))
    assert (run / "block.csv").exists() and cleaned == ([] if lost else [[]])


@pytest.mark.parametrize(
    "values, message",
    [
        ({"seed": 1}, "began with --seed=0; now --seed=1"),
        ({"num_candidates": 50}, "evaluate 40 candidates; this one wants 50. Give --num_cand"),
    ],
)
def test_copies_with_other_settings_are_refused(run, stop, values, message):
    before = contents(stopped(run, stop))
    with pytest.raises(ost.InputError, match=message):
        run_search(run, **values)
    assert contents(run) == before


def test_other_candidates_than_at_the_start_are_refused(run, stop):
    run_search(run, ALONE, num_candidates=10)
    stopped(run, stop)
    lines = (run / "candidates.csv").read_text().splitlines(keepends=True)
    (run / "candidates.csv").write_text("".join(lines[:-1]))
    with pytest.raises(ost.InputError, match=r"candidates\.csv has changed since copies began"):
        run_search(run)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"budget": "race"}, "--share_work needs --budget=full; got --budget=race"),
        ({"rank_by": "kl"}, "--share_work needs --rank_by=accuracy; got --rank_by=kl"),
        ({"evaluator": "table", "table": "x.csv"}, "--evaluator=shared or stand_alone; got"),
    ],
)
def test_searches_that_cannot_be_shared_are_refused(run, tmp_path, monkeypatch, values, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(ost.InputError, match=message):
        run_search(run, **values)


def test_strategies_that_learn_are_refused(run):
    strategy = PROPOSERS["evolution"].settings(population=5, sample_size=2)
    with pytest.raises(ost.InputError, match="--share_work needs a --strategy whose proposals"):
        run_search(run, strategy=strategy)


@pytest.mark.parametrize("name", ["multi_worker", "tpu"])
def test_devices_of_several_machines_are_refused(run, name):
    with pytest.raises(ost.InputError, match=f"works alone; got --distribution={name}"):
        run_search(run, device=DistributionSettings(distribution=name))


@pytest.mark.parametrize("name", ["", "mine"])
def test_copies_and_a_process_alone_exclude_each_other(run, name):
    directory = RunDirectory(run, name)
    strategy = tf.distribute.get_strategy()
    refused = pytest.raises(ost.InputError, match="is in use by process")
    with opened(directory, strategy, directory.searched, shared=True), refused:
        run_search(run, ALONE, name=name)
    with opened(directory, strategy, directory.searched if name else None), refused:
        run_search(run, SHARED, name=name)


def test_limits_are_met_by_copies(whole, run):
    limits = settings.LimitSettings(max_parameters=600)
    run_search(run, limits=limits, num_candidates=20)
    alone = run.parent / "alone"
    shutil.copytree(run, alone)
    (alone / "candidates.csv").unlink()
    (alone / "search.json").unlink()
    run_search(alone, ALONE, limits=limits, num_candidates=20)
    assert differing(alone, run) == []


@pytest.mark.parametrize("damage", ["text", "cut", "empty", "other"])
@pytest.mark.parametrize("sharing", [SHARED, ALONE])
def test_a_damaged_block_is_scored_again(whole, run, stop, damage, sharing, capsys):
    stopped(run, stop)
    one, other = sorted((run / "claims").glob("*.csv"))[:2]
    text = one.read_text()
    one.write_text({"text": "\x00garbage", "cut": text[: len(text) // 2], "empty": "",
                    "other": other.read_text()}[damage])  # fmt: skip
    run_search(run, sharing)
    assert differing(whole, run) == []


@pytest.mark.parametrize("name", ["plan.json", "block"])
@pytest.mark.parametrize("kind", ["text", "folder"])
def test_what_is_hostile_in_the_folder_gives_one_line(whole, run, stop, name, kind):
    stopped(run, stop)
    block = sorted((run / "claims").glob("*.csv"))[0]
    path = block if name == "block" else run / "claims" / name
    if kind == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_text("[]")
    if (name, kind) == ("block", "text"):
        run_search(run)
        assert differing(whole, run) == []
        return
    with pytest.raises(ost.InputError) as raised:
        run_search(run)
    assert "\n" not in str(raised.value) and path.name in str(raised.value)
    shutil.rmtree(run / "claims")
    run_search(run)
    assert differing(whole, run) == []


def test_a_plan_of_another_form_or_run_is_refused(run, stop):
    plan = stopped(run, stop) / "claims" / "plan.json"
    for values, message in (
        ({"block_size": 0}, "a block must have at least 1 candidate"),
        ({"block_size": "2"}, "holds a str at /block_size"),
        ({"run_id": "x"}, "belongs to the run x"),
    ):
        before = plan.read_text()
        edit_json(plan, **values)
        with pytest.raises(ost.InputError, match=f"{message}.* remove .*claims"):
            run_search(run)
        plan.write_text(before)


def test_a_claims_folder_that_is_a_file_gives_one_line(run):
    (run / "claims").write_text("")
    with pytest.raises(ost.InputError, match="Cannot write .*claims: File exists"):
        run_search(run)


def test_a_full_disk_gives_one_line_and_leaves_the_blocks(whole, run, monkeypatch):
    fsync, count = files.os.fsync, []

    def failing(descriptor):
        count.append(descriptor)
        if len(count) > 12:
            raise OSError(28, "No space left on device")
        return fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", failing)
        with pytest.raises(ost.InputError, match="Cannot write .*No space left on device"):
            run_search(run)
    assert list((run / "claims").glob("*.csv"))
    run_search(run)
    assert differing(whole, run) == []


def test_all_copies_print_the_same_result(run, capsys):
    outputs = []
    for _ in range(2):
        run_search(run)
        outputs.append(capsys.readouterr().out.partition("rank  ")[2])
    assert outputs[0] == outputs[1] != ""


def test_a_longer_search_can_be_shared(run, base):
    run_search(run, num_candidates=20)
    run_search(run)
    alone = run.parent / "alone"
    shutil.copytree(base, alone)
    run_search(alone, ALONE, **SEARCH)
    assert differing(alone, run) == []
