"""The paper's experiments, each from one flag file."""

import os
import pathlib
import subprocess
import sys

import pytest

import oneshot_tf as ost
from oneshot_tf import analyze, reproduce, search, settings
from oneshot_tf.settings import command_line
from oneshot_tf.strategies import DEFAULT_STRATEGY, PROPOSERS, STRATEGIES

ROOT = pathlib.Path(__file__).parents[2]
KINDS = (settings.RunSettings, reproduce.ReproduceSettings, settings.LocationSettings,
         settings.DistributionSettings)  # fmt: skip
TRAIN = """
--dataset=digits
--num_validation=100
--num_cells=2
--filters=2
--num_blocks=1
--batch_size=64
--augmentation=crop
--train_steps=4
"""


def commands(*flags):
    run, *others = command_line.parse(["reproduce", "--run_dir=r", *flags], KINDS)
    return reproduce.commands(pathlib.Path(run.run_dir), *others)


def run(folder, *flags, code=0):
    (folder / "small.flags").write_text(TRAIN)
    (folder / "alone.flags").write_text("--epochs=0.1\n--augmentation=none\n")
    done = subprocess.run(
        [sys.executable, "-m", "oneshot_tf.reproduce", "--run_dir=run", "--train_flags=small.flags",
         "--retrain_flags=alone.flags", *flags],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


EXPERIMENTS = sorted(p.name for p in (ROOT / "flags").iterdir() if p.name[:5] in ("figur", "table"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_programs_take_the_flags_that_they_are_given(name):
    kinds = {"train": (settings.RunSettings, settings.DataSettings, settings.ModelSettings,
                       settings.TrainSettings, settings.OneShotSettings,
                       command_line.strategy(STRATEGIES, DEFAULT_STRATEGY),
                       settings.DeviceSettings),
             "search": (settings.RunSettings, search.SearchSettings,
                        command_line.strategy(PROPOSERS, "random"), settings.LocationSettings,
                        settings.DistributionSettings, settings.LimitSettings),
             "retrain": (settings.RunSettings, settings.RetrainSettings, settings.TrainSettings,
                         settings.DeviceSettings, settings.LocationSettings,
                         settings.FinalSettings),
             "analyze": (settings.RunSettings, analyze.AnalyzeSettings)}  # fmt: skip
    made = commands(f"--flagfile={name}")
    assert made[0][0] == "train" and made[-1][0] == "analyze"
    for program, *flags in made:
        command_line.parse([program, *flags], kinds[program])


def test_rows_of_a_table():
    made = commands("--experiment=table1", "--filters=16,32", "--rows=top,random", "--count=10")
    names = [flag for command in made for flag in command if flag.startswith("--name=")]
    assert names == ["--name=top_16", "--name=random_16", "--name=top_32", "--name=random_32"]


@pytest.mark.parametrize(
    "flags, part",
    [(["--experiment=table1", "--rows=best"], "--rows=best"),
     (["--experiment=table1", "--filters=many"], "--filters must be numbers"),
     (["--experiment=figure4", "--rates=0.1;0.2"], "--rates must be numbers")],
)  # fmt: skip
def test_mistakes(flags, part):
    with pytest.raises(ost.InputError, match=part):
        commands(*flags)


@pytest.mark.slow
def test_figure_7(tmp_path):
    out = run(tmp_path, "--experiment=figure7")
    assert "[2/2] python -m oneshot_tf.analyze" in out
    assert (tmp_path / "run" / "one_shot" / "report" / "tracked.svg").exists()
    out = run(tmp_path, "--experiment=figure7", "--train_steps=5", code=1)
    assert "Step 1 of 2 (train) ended with code 1" in out and "--train_steps=4; now" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment, files",
    [("figure4", ["rate_0.1/report/one_shot_models.svg"]),
     ("figure5", ["one_shot/report/ranking.svg"]), ("figure6", ["one_shot/report/divergence.svg"]),
     ("table1", ["one_shot/report/selections.csv"])],
)  # fmt: skip
def test_the_others(tmp_path, experiment, files):
    flags = [f"--experiment={experiment}", "--num_candidates=8", "--count=5", "--repeats=1",
             "--rates=0.1,0.3", "--top=6", "--filters=2,3", "--rows=top,all_on"]  # fmt: skip
    run(tmp_path, *flags)
    assert "The report is" in run(tmp_path, *flags)  # again, nothing is done twice
    for file in files:
        assert (tmp_path / "run" / file).exists()
