"""What scores a candidate: stand-alone training, or a table of known results."""

import csv
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from candidate_runs import begin

import oneshot_tf as ost
from oneshot_tf import search, settings, train
from oneshot_tf.analysis.report import Report
from oneshot_tf.learning.loop import Loop
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.opened import opened
from oneshot_tf.runs.results import net_seed
from oneshot_tf.searching.known_results import read_table
from oneshot_tf.strategies import PROPOSERS, PathDropoutSettings
from oneshot_tf.system.json_files import read_json

TABLE = pathlib.Path(__file__).parents[2] / "docs" / "results" / "cells84.csv"
SPACE = ost.bender2018(num_blocks=1)
TRAIN = settings.TrainSettings(batch_size=64, augmentation="none")


def start(path, strategy="random", values=None, **options):
    """Starts the program in this process."""
    limits = settings.LimitSettings(max_parameters=options.pop("max_parameters", 0))
    search.main(
        settings.RunSettings(str(path)),
        search.SearchSettings(**options),
        PROPOSERS[strategy].settings(**values or {}),
        settings.LocationSettings(),
        settings.DistributionSettings(),
        limits,
    )
    return CandidateFile(RunDirectory(path, options.get("name", ""))).read()


def in_table(path, **options):
    return start(path, **{"evaluator": "table", "table": str(TABLE), **options})


@pytest.fixture
def run(tmp_path):
    """A run without weights: nothing here may need them."""
    return begin(tmp_path / "run", SPACE).path


def test_a_table_answers_what_it_holds(run):
    table = read_table(TABLE, SPACE)
    found = in_table(run, num_candidates=84, name="all")
    assert {c.architecture: c.candidate_accuracy for c in found} == {
        a: round(accuracy, 6) for a, accuracy in table.items()
    }
    with open(TABLE) as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        best = max(rows, key=lambda row: sum(float(row[f"accuracy_{i}"]) for i in range(3)))
    assert str(found[0].architecture) == best["architecture"]
    record = read_json(run / "search" / "all" / "search.json")
    assert record["image_evaluations"] == record["multiply_adds_spent"] == 0


def test_a_continued_search_in_a_table_is_one_search(run):
    small = {"population": 10, "sample_size": 3}
    options = {"strategy": "evolution", "values": small}
    whole = in_table(run, num_candidates=40, name="whole", **options)
    for count in (13, 40):
        parts = in_table(run, num_candidates=count, name="parts", **options)
    assert parts == whole


def test_a_report_names_what_was_measured(run):
    in_table(run, num_candidates=20)
    page = Report(RunDirectory(run)).write().read_text()
    assert "Accuracy in the table" in page and "shared weights" not in page.split("Commands")[0]


@pytest.mark.parametrize(("change", "message"), [
    (lambda lines: lines[:-2], r"82 of the 84 architectures.* 2 are missing, for example prev2"),
    (lambda lines: [*lines, lines[-1]], "has two lines"),
    (lambda lines: [*lines, "prev1+block1:avg3x3,1,1,0.1,0.1,0.1"], "line 89: .*must be of the"),
    (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",46.4"], "from 0 to 1; got '46.4'"),
    (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",nan"], "from 0 to 1; got 'nan'"),
    (lambda lines: [*lines[:-1], lines[-1] + ",3"], "must have 6 fields; got 7"),
    (lambda lines: [line.replace("accuracy", "score") for line in lines], "must have the column"),
    (lambda lines: [], "must have the column"),
])  # fmt: skip
def test_a_wrong_table_is_refused_before_anything_is_written(run, tmp_path, change, message):
    path = tmp_path / "table.csv"
    path.write_text("\n".join(change(TABLE.read_text().splitlines())) + "\n")
    before = sorted(run.iterdir())
    with pytest.raises(ost.InputError, match=message):
        in_table(run, num_candidates=5, table=str(path))
    assert sorted(run.iterdir()) == before


def test_a_search_keeps_its_evaluator_and_its_table(run, tmp_path):
    in_table(run, num_candidates=5)
    with pytest.raises(ost.InputError, match="began with --evaluator=table; now .*=shared"):
        start(run, num_candidates=6)
    other = tmp_path / "other.csv"
    other.write_text(TABLE.read_text().replace("0.355,", "0.356,", 1))
    with pytest.raises(ost.InputError, match="began with another table"):
        in_table(run, num_candidates=6, table=str(other))
    moved = tmp_path / "moved.csv"
    moved.write_bytes(TABLE.read_bytes())
    assert len(in_table(run, num_candidates=6, table=str(moved))) == 6


@pytest.mark.parametrize(("options", "message"), [
    ({"evaluator": "table"}, "--evaluator=table needs --table"),
    ({"evaluator": "stand_alone"}, "--evaluator=stand_alone needs --epochs"),
    ({"epochs": 1.0}, "--epochs is for --evaluator=stand_alone; got --evaluator=shared"),
    ({"table": "x"}, "--table is for --evaluator=table; got --evaluator=shared"),
    ({"evaluator": "table", "table": "x", "budget": "race"}, "--budget=race needs shared weights"),
    ({"evaluator": "stand_alone", "epochs": 1.0, "rank_by": "kl"}, "--rank_by=kl needs shared"),
])  # fmt: skip
def test_settings_of_other_evaluators_are_refused(options, message):
    with pytest.raises(ost.InputError, match=message):
        search.SearchSettings(**options)


def test_a_missing_table_is_named(run):
    with pytest.raises(ost.InputError, match="nowhere.csv"):
        in_table(run, table="nowhere.csv")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run on the digits whose one-shot model was trained for one step only."""
    path = tmp_path_factory.mktemp("multi_trial") / "run"
    train.main(
        settings.RunSettings(str(path)),
        settings.DataSettings(dataset="digits"),
        settings.ModelSettings(num_blocks=1, num_cells=1, filters=4),
        TRAIN,
        settings.OneShotSettings(train_steps=1),
        PathDropoutSettings(),
        settings.DeviceSettings(),
    )
    return path


def multi_trial(path, **options):
    options = {"num_candidates": 3, "evaluator": "stand_alone", "epochs": 0.5, **options}
    return start(path, **options)


def test_a_candidate_is_scored_as_a_net_trained_by_hand(begun, digits):
    best = multi_trial(begun, name="by_hand", num_candidates=2, seed=4)[0]
    net_of = net_seed(4, best.architecture)
    net = ost.Standalone(SPACE, best.architecture, ost.Stack(1, 4), 10, net_of)
    data = RunDirectory(begun).load_data(settings.LocationSettings())
    ost.fit_standalone(net, data, -(-len(data.train) // 128), TRAIN, net_of)
    score = ost.evaluate_standalone(net, data.validation, data.normalize)
    assert best.candidate_accuracy == round(score.accuracy, 6)
    assert best.num_images == len(data.validation)
    record = read_json(begun / "search" / "by_hand" / "search.json")
    assert record["training_images"] == 2 * 64 * -(-len(data.train) // 128)


@pytest.mark.slow
def test_an_interrupted_multi_trial_search_resumes_to_the_bit(begun, monkeypatch):
    whole = multi_trial(begun, name="whole")
    step, taken = Loop._step, []

    def interrupting(self, *arguments):
        step(self, *arguments)
        taken.append(self)
        if len(taken) in (3, 15, 30):  # within the first net, the second and the third
            raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "_step", interrupting)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            multi_trial(begun, name="parts")
        assert (begun / "search" / "parts" / "stand_alone").is_dir()
    parts = multi_trial(begun, name="parts")
    assert parts == whole
    # No step was repeated, and no checkpoints are left.
    assert len(taken) == 3 * taken[0].num_steps
    assert not (begun / "search" / "parts" / "stand_alone").exists()


def test_limits_hold_for_every_evaluator(begun, run):
    options = {"max_parameters": 400, "name": "limited"}
    assert all(c.parameters <= 400 for c in multi_trial(begun, **options))
    found = in_table(run, num_candidates=84, max_parameters=700, name="limited")
    assert 0 < len(found) < 84 and max(c.parameters for c in found) <= 700
    assert np.isfinite([c.candidate_accuracy for c in found]).all()


def test_searches_with_names_run_at_the_same_time(run):
    directory = RunDirectory(run, "one")
    with opened(directory, tf.distribute.get_strategy(), directory.searched):
        assert len(in_table(run, num_candidates=3, name="two")) == 3
        for name in ("one", ""):
            with pytest.raises(ost.InputError, match="is in use by"):
                in_table(run, num_candidates=3, name=name)
