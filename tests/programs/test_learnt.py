"""A run that learns its architecture, from training to the report, and what is refused."""

import csv
import json

import numpy as np
import pytest

import oneshot_tf as ost
from oneshot_tf import search, settings, train
from oneshot_tf.analysis.report import Report
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.searching.restored import restore_learner, restore_supernet
from oneshot_tf.strategies import (
    DartsSettings,
    EnasSettings,
    GumbelSettings,
    LearntSettings,
    PathDropoutSettings,
    RandomSearchSettings,
)


def start(path, strategy, num_validation=200, **values):
    train.main(
        settings.RunSettings(run_dir=str(path)),
        settings.DataSettings(dataset="digits", num_validation=num_validation),
        settings.ModelSettings(num_blocks=1, num_cells=1, filters=4),
        settings.TrainSettings(batch_size=64, **values),
        settings.OneShotSettings(train_steps=4),
        strategy,
        settings.DeviceSettings(log_steps=1),
    )
    return RunDirectory(path)


def learnt(run, count=6):
    search.main(
        settings.RunSettings(run_dir=str(run.path)),
        search.SearchSettings(num_candidates=count, name="learnt"),
        LearntSettings(), settings.LocationSettings(), settings.DistributionSettings(),
    )  # fmt: skip
    with open(run.path / "search" / "learnt" / "candidates.csv") as file:
        return sorted(csv.DictReader(file), key=lambda row: int(row["order"]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    chosen = DartsSettings(architecture_learning_rate=0.3)
    return start(tmp_path_factory.mktemp("learnt") / "run", chosen)


def test_the_learnt_architecture_is_scored_first_and_draws_follow(run, capsys):
    rows = learnt(run, 4)
    lines = [json.loads(line) for line in (run.path / "decisions.jsonl").read_text().splitlines()]
    assert rows[0]["architecture"] == lines[-1]["architecture"]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert len({row["architecture"] for row in rows}) == 4
    assert learnt(run, 6)[:4] == [
        {**row, "rank": again["rank"]} for row, again in zip(rows, learnt(run, 6))
    ]  # a continued search goes on with the same draws


def test_random_draws_on_the_same_weights_are_a_search_beside_it(run, capsys):
    search.main(
        settings.RunSettings(run_dir=str(run.path)),
        search.SearchSettings(num_candidates=2, name="random"),
        RandomSearchSettings(), settings.LocationSettings(), settings.DistributionSettings(),
    )  # fmt: skip
    assert "--strategy=learnt searches what it learnt" in capsys.readouterr().out


def mixture(run):
    """The accuracy of the mixture on the validation images, without the evaluator."""
    supernet, _ = restore_supernet(run)
    learner, data = restore_learner(run), run.load_data(settings.LocationSettings())
    split, size = data.validation, 32
    rows = np.arange(-(-len(split) // size) * size) % len(split)  # the last ghost batch is full
    found = split.take(rows)
    logits = learner.logits.value
    outputs = supernet(
        data.normalize(found.images), learner.mixture(logits, len(rows) // size), training=False
    )
    hits = outputs.numpy().argmax(axis=1) == found.labels
    return hits[: len(split)].mean()


def test_the_report_shows_what_was_learnt(run):
    text = Report(run).write().read_text()
    assert "What was learnt" in text and "held-out images" in text
    lines = [json.loads(line) for line in (run.path / "decisions.jsonl").read_text().splitlines()]
    with open(run.path / "report" / "learnt.csv") as file:
        assert list(csv.DictReader(file))[-1]["parameters"] == f"{lines[-1]['parameters']:,}"
    with open(run.path / "report" / "curvature.csv") as file:
        (row,) = csv.DictReader(file)
        assert float(row["dominant eigenvalue, nats"]) == pytest.approx(
            lines[-1]["dominant_eigenvalue"], rel=1e-3
        )
    with open(run.path / "report" / "on_the_same_weights.csv") as file:
        rows = {row["on the same weights"]: row for row in csv.DictReader(file)}
    assert rows["the mixture of all options"]["accuracy"] == f"{mixture(run):.4f}"
    assert rows["other draws from what was learnt"]["architectures"] == "5"
    assert rows["random draws"]["architectures"] == "2"
    best = min(learnt(run), key=lambda row: int(row["order"]))["candidate_accuracy"]
    assert float(rows["the most probable architecture"]["accuracy"]) == pytest.approx(float(best))


def test_a_run_resumes_only_with_the_settings_of_its_learner(run):
    with pytest.raises(ost.InputError, match="--architecture_learning_rate"):
        start(run.path, DartsSettings())
    with pytest.raises(ost.InputError, match="--strategy"):
        start(run.path, GumbelSettings())


def test_a_run_that_learnt_nothing_is_refused(tmp_path):
    plain = start(tmp_path / "plain", PathDropoutSettings())
    with pytest.raises(ost.InputError, match="needs a run whose architecture was learnt"):
        learnt(plain)


def test_what_cannot_learn_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ost.InputError, match="--num_validation must be at least --batch_size=64"):
        start(tmp_path / "few", DartsSettings(), num_validation=63)
    with pytest.raises(ost.InputError, match="No architecture update follows"):
        start(tmp_path / "few", DartsSettings(warmup_steps=4))
    with pytest.raises(ost.InputError, match="No architecture update follows"):
        start(tmp_path / "few", EnasSettings(phase_steps=5))
    assert not (tmp_path / "few").exists()
