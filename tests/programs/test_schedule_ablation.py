"""The tables of the learning-rate ablation, on run directories with a planted answer."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import numpy as np

import oneshot_tf as ost
from oneshot_tf import settings
from oneshot_tf.cost import counts
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.runs.config_file import facts_of
from oneshot_tf.runs.directory import RunDirectory

ROOT = pathlib.Path(__file__).parents[2]
SPACE = ost.bender2018(num_blocks=1)


def begin(path, digits, schedule="constant", seed=0):
    directory = RunDirectory(path)
    groups = {
        "data": settings.DataSettings(dataset="digits"),
        "model": settings.ModelSettings(num_cells=3, filters=8, num_blocks=1),
        "train": settings.TrainSettings(batch_size=128, learning_rate_schedule=schedule),
        "one_shot": settings.OneShotSettings(train_steps=1500, seed=seed),
        "device": settings.DeviceSettings(),
    }
    directory.begin(groups, SPACE, [], facts_of(digits))
    directory.note_provenance("test")
    return directory


def test_a_planted_ranking_is_found(tmp_path, digits):
    """One model ranks as the truth does, the other in the opposite order."""
    cells = ost.RandomSearch(SPACE, 0).propose(84)
    counted = (SPACE, cells, ost.Stack(3, 8), 10)
    costs = list(zip(counts.parameters(*counted), counts.multiply_adds(*counted, 8)))
    truth = begin(tmp_path / "truth", digits)
    for run in range(2):
        nets = [
            {"architecture": str(a), "rank": None, "candidate_accuracy": None,
             "parameters": int(p), "multiply_adds": int(m), "folder": [f"run{run}/net_{i}/run_0"],
             "accuracies": [0.1 + 0.01 * i], "mean": 0.1 + 0.01 * i, "std": None}
            for i, (a, (p, m)) in enumerate(zip(cells, costs))
        ]  # fmt: skip
        folder = truth.path / "retrain" / f"run{run}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps({"nets": nets}))
    for schedule, accuracies in (("constant", np.arange(84)), ("cosine", np.arange(84)[::-1])):
        model = begin(tmp_path / "one_shot" / schedule, digits, schedule)
        CandidateFile(model).write(
            Candidate(a, int(x) / 100, 1.0, 100, int(p), int(m))
            for a, x, (p, m) in zip(cells, accuracies, costs)
        )
        search = {"run_id": model.run_id(), "all_on_accuracy": 0.5}
        (model.path / "search.json").write_text(json.dumps(search))
    done = subprocess.run(
        [sys.executable, "run_scripts/schedule_ablation.py", str(tmp_path),
         f"--out={tmp_path / 'out'}"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "84 cells, 2 runs: 0.100 to 0.930" in done.stdout
    assert "| 4 | 1500 | linear | constant | 1 | 1.000 | 1.000 | 1.000 | 0.000 |" in done.stdout
    assert "| 4 | 1500 | linear | cosine | 1 | -1.000 | -1.000 | 0.000 | 0.830 |" in done.stdout
    rows = list(csv.reader(
        line for line in (tmp_path / "out" / "cells84.csv").read_text().splitlines()
        if not line.startswith("#")
    ))  # fmt: skip
    assert len(rows) == 85 and rows[0][-2:] == ["accuracy_0", "accuracy_1"]
    assert (tmp_path / "out" / "cells84_schedules.svg").exists()
