"""`search --strategy=NAME` on a trained model: names, limits, records, kills, and mistakes."""

import csv
import itertools
import json
import re

import numpy as np
import pytest
from program_runs import run

import oneshot_tf as ost
from oneshot_tf import search as program
from oneshot_tf import settings
from oneshot_tf.cost import counts
from oneshot_tf.cost.limits import Limits, counted_limits
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.search_record import with_schedule
from oneshot_tf.strategies import PROPOSERS

FLAGS = ["--dataset=digits", "--num_validation=100", "--num_blocks=2", "--num_cells=2",
         "--filters=2", "--train_steps=4", "--batch_size=64", "--strategy=single_path"]  # fmt: skip
SMALL = {
    "evolution": ["--population=10", "--sample_size=3", "--identity_rate=0"],
    "genetic": ["--generation_size=10", "--parents=3", "--mutations=4", "--crossovers=4"],
}
SPACE, STACK = ost.bender2018(num_blocks=2), ost.Stack(2, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a trained one-shot model."""
    folder = tmp_path_factory.mktemp("user")
    run("train", *FLAGS, "--run_dir=run", cwd=folder)
    return folder


def search(folder, strategy, name, count, *flags):
    return run(
        "search", "--run_dir=run", f"--strategy={strategy}", f"--name={name}",
        f"--num_candidates={count}", *SMALL[strategy], *flags, cwd=folder,
    )  # fmt: skip


def lines(folder, name):
    """The lines of candidates.csv in the order of proposals, without the run."""
    with open(folder / "run" / "search" / name / "candidates.csv") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["order"]))
    return [{k: v for k, v in row.items() if k != "run"} for row in rows]


@pytest.mark.slow
def test_a_continued_search_is_the_same_as_a_longer_one(folder):
    """A search that stops after 17 candidates resumes by replay."""
    search(folder, "evolution", "whole", 30)
    search(folder, "evolution", "parts", 17)
    search(folder, "evolution", "parts", 30)
    whole = lines(folder, "whole")
    assert len(whole) == 30 and lines(folder, "parts") == whole
    # A child has a parent that was proposed before it.
    parents = [int(row["parent"] or 0) for row in whole]
    assert not any(parents[:10]) and all(0 < p < i for i, p in enumerate(parents[10:], 11))


def test_limits_and_records(folder):
    out, _ = search(folder, "genetic", "small", 40, "--max_parameters=400")
    rows = lines(folder, "small")
    assert len(rows) == 40 and max(int(row["parameters"]) for row in rows) <= 400
    assert [int(row["order"]) for row in rows] == list(range(1, 41))
    assert 10 < sum(row["parent"] != "" for row in rows) <= 3 * 8  # three generations have children
    record = json.loads((folder / "run" / "search" / "small" / "search.json").read_text())
    assert record["strategy"] == "genetic" and record["max_parameters"] == 400
    assert record["image_evaluations"] == 40 * 100
    assert record["multiply_adds_spent"] == 100 * sum(int(row["multiply_adds"]) for row in rows)
    front = [line for line in out.splitlines() if line.startswith("Pareto front")]
    assert len(front) == 2 and " by parameters: " in front[0]
    run("retrain", "--run_dir=run", "--search=small", "--select=pareto", "--count=1",
        "--epochs=0.1", "--augmentation=none", cwd=folder)  # fmt: skip
    result = json.loads((folder / "run" / "retrain" / "pareto" / "result.json").read_text())
    least = min(rows, key=lambda row: (int(row["parameters"]), -float(row["candidate_accuracy"])))
    assert result["nets"][0]["parameters"] == int(least["parameters"])


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        (
            "random",
            {"max_parameters": 99, "max_multiply_adds": 9},
            "=99 and --max_multiply_adds=9",
        ),
        ("random", {"max_parameters": 100}, "No architecture is within --max_parameters=100. The "),
        ("random", {"max_multiply_adds": 9}, "No architecture is within --max_multiply_adds=9."),
        ("evolution", {"budget": "race"}, "learns from accuracies on all validation images"),
        ("evolution", {"rank_by": "kl"}, "learns from accuracies on all validation images"),
        ("random", {"name": "../up"}, "The name of a search must be 1 to 100 letters"),
        ("evolution", {"trained_in": "run"}, "--trained_in evaluates given architectures"),
        ("random", {"trained_in": "run", "max_parameters": 9}, "--trained_in evaluates given"),
        ("tournament", {"name": "small"}, "began with --strategy=genetic; now --strategy=tourna"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(folder, name, values, words):
    before = sorted(folder.rglob("*"))
    limits = {n: values.pop(n) for n in list(values) if n.startswith("max_")}
    with pytest.raises(ost.InputError, match=re.escape(words)):
        program.main(
            settings.RunSettings(run_dir=str(folder / "run")),
            program.SearchSettings(**values),
            PROPOSERS[name].settings(),
            settings.LocationSettings(),
            settings.DistributionSettings(),
            settings.LimitSettings(**limits),
        )
    assert sorted(folder.rglob("*")) == before


def test_a_schedule_stays_that_of_the_beginning(folder):
    directory = RunDirectory(folder / "run", "small")
    chosen = PROPOSERS["q_learning"].settings()
    assert with_schedule(directory, chosen, 30, new=True).episodes == 30
    path = directory.searched / "search.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps({**json.loads(before), "episodes": 17, "checksum": None}))
        assert with_schedule(directory, chosen, 30, new=False).episodes == 17
        fixed = PROPOSERS["q_learning"].settings(episodes=5)
        assert with_schedule(directory, fixed, 30, new=False).episodes == 5
    finally:
        path.write_text(before)


def test_the_smallest_architecture_is_found():
    """Against all 84 cells of one block, and all 16,464 of two blocks."""
    for blocks in (1, 2):
        space = ost.bender2018(num_blocks=blocks)
        limits = Limits(counted_limits(space, STACK, 10, 8, 1, 10), STACK.filters)
        options = itertools.product(*(range(d.num_options) for d in space.decisions))
        every = [space.architecture(genes) for genes in options]
        ratios = limits.ratios(every)
        assert limits.ratios([limits.smallest(space)])[0] == ratios.min()
    sizes, adds = counts.costs(SPACE, every[:5], STACK, 10, 8)
    expected = np.maximum(sizes / 1, adds / 10)
    np.testing.assert_allclose(limits.ratios(every[:5]), expected)
