"""A chain goes the whole way: trained, searched within limits, retrained, exported, reported."""

import csv
import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost
from oneshot_tf import analyze, draw, export, retrain, search, settings, train
from oneshot_tf.cost import counts
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.space import known
from oneshot_tf.strategies import (
    DartsSettings,
    EvolutionSettings,
    LearntSettings,
    PathDropoutSettings,
    RandomSearchSettings,
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


@pytest.fixture
def my_space(tmp_path, monkeypatch):
    """The module of docs/spaces.md, in the current folder."""
    text = (pathlib.Path(__file__).parents[2] / "docs" / "spaces.md").read_text()
    (block,) = re.findall(r"```python\n(# my_space.py\n.*?)```", text, re.DOTALL)
    assert len(block.splitlines()) <= 30
    (tmp_path / "my_space.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield block
    sys.modules.pop("my_space", None)
    known.find.cache_clear()


def test_a_space_of_ones_own_goes_the_whole_way(my_space, tmp_path, capsys):
    model = settings.ModelSettings(space="my_space:SPACE", filters=4)
    run = start(tmp_path / "run", SinglePathSettings(), model)
    rows = rows_of(
        run, RandomSearchSettings(), num_candidates=8,
        limits=settings.LimitSettings(max_parameters=2_000),
    )  # fmt: skip
    assert max(int(row["parameters"]) for row in rows) <= 2_000
    for name in rows[0]["architecture"].split(" | "):
        assert name in ("sep3", "conv5", "mb3k3", "skip")
    net = ost.Standalone(
        run.space(), run.space().parse(rows[0]["architecture"]), run.stack(), num_classes=10
    )
    assert net.count_params() >= int(rows[0]["parameters"])
    assert run.stack(filters=8).filters == 8
    with pytest.raises(ost.InputError, match="--num_cells has no meaning"):
        run.stack(num_cells=3)


def test_a_space_that_is_missing_or_has_changed_is_named(my_space, tmp_path):
    model = settings.ModelSettings(space="my_space:SPACE", filters=4)
    run = start(tmp_path / "run", SinglePathSettings(), model, steps=1)

    def again(text):
        sys.modules.pop("my_space", None)
        known.find.cache_clear()
        (tmp_path / "my_space.py").write_text(text)
        return run.space()

    with pytest.raises(ost.InputError, match="my_space:SPACE has changed since, restore it"):
        again(my_space.replace("repeats=2", "repeats=3"))
    for text, part in (
        ("x = (", "cannot be imported.*SyntaxError"),
        ("import nothing_like_this", "cannot be imported.*ModuleNotFoundError"),
        ("SPACE = None", "SPACE in my_space must be a space.*got nothing"),
        ("def SPACE(): pass", "must be a space.*got function"),
        ("import oneshot_tf as ost\nSPACE = ost.ChainSpace(())", "`layers` must be a list"),
    ):
        with pytest.raises(ost.InputError, match=part) as error:
            again(text)
        assert "damaged" not in str(error.value)
    assert again(my_space).num_paths == 12
    for name in ("os:abort", "my_space.SPACE", "my_space:", ":SPACE", "a b:c", "bender"):
        with pytest.raises(ost.InputError, match="--space"):
            settings.ModelSettings(space=name)


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
