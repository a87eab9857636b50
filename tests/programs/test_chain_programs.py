"""A chain goes the whole way: trained, searched within limits, retrained, exported, reported."""

import csv
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf import analyze, draw, export, retrain, search, settings, train
from oneshot_tf.cost import counts
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.strategies import (
    DartsSettings,
    EvolutionSettings,
    LearntSettings,
    PathDropoutSettings,
    SinglePathSettings,
)

MODEL = settings.ModelSettings(space="digits_chain", filters=4)


def start(path, strategy, model=MODEL, steps=4):
    train.main(
        settings.RunSettings(run_dir=str(path)),
        settings.DataSettings(dataset="digits", num_validation=200),
        model,
        settings.TrainSettings(batch_size=64),
        settings.OneShotSettings(train_steps=steps),
        strategy,
        settings.DeviceSettings(log_steps=1),
    )
    return RunDirectory(path)


def rows_of(run, settings_of_strategy, name="", limits=None, **values):
    search.main(
        settings.RunSettings(run_dir=str(run.path)),
        search.SearchSettings(name=name, **values),
        settings_of_strategy, settings.LocationSettings(), settings.DistributionSettings(),
        limits,
    )  # fmt: skip
    folder = run.path / "search" / name if name else run.path
    with open(folder / "candidates.csv") as file:
        return list(csv.DictReader(file))


def test_a_chain_goes_the_whole_way(tmp_path, capsys, digits):
    run = start(tmp_path / "run", SinglePathSettings())
    assert "One-shot model: 4 layer(s), F = 4" in capsys.readouterr().out
    assert json.loads((run.path / "space.json").read_text())["kind"] == "chain"
    rows = rows_of(
        run, EvolutionSettings(population=6, sample_size=3),
        num_candidates=12, limits=settings.LimitSettings(max_multiply_adds=60_000),
    )  # fmt: skip
    space = run.space()
    every = [space.parse(row["architecture"]) for row in rows]
    counted = counts.multiply_adds(space, every, run.stack(), 10, 8)
    assert [int(row["multiply_adds"]) for row in rows] == counted.tolist()
    assert max(counted) <= 60_000 and len(set(every)) == 12
    retrain.main(
        settings.RunSettings(run_dir=str(run.path)),
        settings.RetrainSettings(top=1, count=1, epochs=0.1),
        settings.TrainSettings(batch_size=64), settings.DeviceSettings(),
        settings.LocationSettings(),
    )  # fmt: skip
    export.main(
        settings.RunSettings(run_dir=str(run.path)), export.ExportSettings(),
        settings.LocationSettings(),
    )  # fmt: skip
    served = tf.saved_model.load(str(run.path / "export" / "1"))
    images = tf.constant(digits.train.take([0, 1]).in_memory().images)
    probabilities = served.signatures["serving_default"](images)["probabilities"]
    np.testing.assert_allclose(tf.reduce_sum(probabilities, axis=1), 1.0, rtol=1e-5)
    analyze.main(settings.RunSettings(run_dir=str(run.path)), analyze.AnalyzeSettings())
    page = (run.path / "report" / "report.html").read_text()
    assert "4 layers" in page and "<title>" in page and str(every[0]) in page


def test_a_chain_is_learnt(tmp_path):
    run = start(tmp_path / "run", DartsSettings(architecture_learning_rate=0.3))
    rows = rows_of(run, LearntSettings(), name="learnt", num_candidates=3)
    (first,) = [row for row in rows if row["order"] == "1"]
    lines = (run.path / "decisions.jsonl").read_text().splitlines()
    assert first["architecture"] == json.loads(lines[-1])["architecture"]
    assert len({row["architecture"] for row in rows}) == 3


def test_images_that_are_too_small_are_refused_before_training(tmp_path):
    with pytest.raises(ost.InputError, match="divides height and width by 16.*at least 16"):
        start(
            tmp_path / "run", PathDropoutSettings(),
            settings.ModelSettings(space="mobile_chain", filters=4),
        )  # fmt: skip
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_chain_is_drawn(tmp_path):
    text = "mb3k5 | skip | mb6k7 | " + " | ".join(["mb3k3"] * 8)
    draw.main(draw.DrawSettings(architecture=text, file=str(tmp_path / "chain.svg")))
    root = ET.parse(tmp_path / "chain.svg").getroot()
    words = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("mb3k3") == 8 and "layer 1 (skip)" in words and words[-1] == "classifier"
