"""Files of a run that are damaged, of another run, or of another step: one line, no traceback."""

import functools
import json
import shutil

import numpy as np
import pytest
from conftest import complete_result, edit_json

import oneshot_tf as ost
from oneshot_tf import analyze, export, retrain, search, settings, train
from oneshot_tf.cost import counts
from oneshot_tf.evaluation.racing import Race
from oneshot_tf.learning.checkpoints import Checkpoints, WrongOwner
from oneshot_tf.learning.not_finite import Rollbacks
from oneshot_tf.retraining import jobs
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.runs.config_file import facts_of
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.results import owner_of, read_results
from oneshot_tf.runs.sizes import check_one_shot, one_shot_parameters
from oneshot_tf.searching import restored
from oneshot_tf.strategies import PathDropoutSettings, RandomSearchSettings
from oneshot_tf.system.array_files import read_arrays, write_arrays
from oneshot_tf.system.files import checksum
from oneshot_tf.system.json_files import read_json, read_json_lines, write_json

STEPS, NET = 6, "top/net_00/run_0"
SPACE, STACK = ost.bender2018(1), ost.Stack(1, 4)
GROUPS = {
    "data": settings.DataSettings(dataset="digits", num_validation=100),
    "model": settings.ModelSettings(num_cells=1, filters=4, num_blocks=1),
    "train": settings.TrainSettings(),
    "one_shot": settings.OneShotSettings(train_steps=STEPS),
    "strategy": PathDropoutSettings(),
    "device": settings.DeviceSettings(),
}
SEARCH = {"seed": 0, "step": STEPS, "rank_by": "accuracy", "skip_twins": True, "budget": "full",
          "trained_in": ""}  # fmt: skip


def make_run(path, digits, seed):
    """A run with random weights of step 4 and 6, a candidate, and a net trained alone."""
    directory = RunDirectory(path)
    directory.begin(GROUPS, SPACE, [], facts_of(digits))
    run_id = directory.run_id()
    supernet = ost.Supernet(SPACE, STACK, 10, seed)
    for step in (4, STEPS):
        Checkpoints(path / "checkpoints", owner=run_id).save(step, supernet.variables)
    (a,) = ost.RandomSearch(SPACE, 0).propose(1)
    counted = (SPACE, [a], STACK, 10)
    costs = int(counts.parameters(*counted)[0]), int(counts.multiply_adds(*counted, 8)[0])
    write_json(path / "search.json", {**SEARCH, "num_images": 100, "run_id": run_id})
    CandidateFile(directory).write([Candidate(a, 0.5, 1.0, 100, *costs, 1)])
    net = {"architecture": str(a), "rank": 1, "candidate_accuracy": 0.5, "parameters": costs[0],
           "multiply_adds": costs[1], "folder": [NET], "accuracies": [0.25]}  # fmt: skip
    result = {"retrain": {"select": "top", "num_cells": 1, "filters": 4, "name": "top"},
              "evaluated_on": "validation", "num_steps": 5, "nets": [net]}  # fmt: skip
    alone = ost.Standalone(SPACE, a, STACK, 10, seed)
    folder = path / "retrain" / NET / "checkpoints"
    Checkpoints(folder, owner=owner_of(run_id, NET)).save(5, alone.variables)
    write_json(path / "retrain" / "top" / "result.json", complete_result(directory, result))
    return directory


@pytest.fixture(scope="module")
def made(tmp_path_factory, digits):
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / name, digits, seed).path for name, seed in (("a", 1), ("b", 2))]


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "run")
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def other(made):
    """Another run of the same shape."""
    return made[1]


def start(program, directory):
    """Starts a program on a run directory, with the settings that config.json has."""
    config = json.loads((directory.path / "config.json").read_text())
    groups = [kind.from_stored(config.get(n) or {}) for n, kind in
              ((n, type(group)) for n, group in GROUPS.items())]  # fmt: skip
    run, place = settings.RunSettings(run_dir=str(directory.path)), settings.LocationSettings()
    device = settings.DeviceSettings()
    arguments = {
        train: groups,
        search: (
            search.SearchSettings(num_candidates=2),
            RandomSearchSettings(),
            place,
            device,
        ),  # one more
        retrain: (
            settings.RetrainSettings(top=1, count=1),
            settings.TrainSettings(),
            device,
            place,
        ),
        export: (export.ExportSettings(), place),
        analyze: (analyze.AnalyzeSettings(),),
    }
    program.main(run, *arguments[program])


def refused(action, *arguments) -> str:
    """The one line that an action ends with."""
    with pytest.raises(ost.InputError) as error:
        action(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


PROGRAMS = [train, search, retrain, export, analyze]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
@pytest.mark.parametrize(
    "changes, part",
    [
        ({"data": None}, "group 'data' of settings is missing"),
        ({"data": {}}, "'data' has no setting 'data_dir'"),
        ({"one_shot": None}, "group 'one_shot' of settings is missing"),
        ({"facts": None}, "/facts"),
    ],
)
def test_every_program_names_what_config_json_lacks(run, program, changes, part):
    edit_json(run.path / "config.json", **changes)
    line = refused(start, program, run)
    assert "config.json is damaged" in line and part in line


@pytest.mark.parametrize("program", [train, search, retrain, export], ids=lambda p: p.__name__)
@pytest.mark.parametrize(
    "model", [{"num_cells": 64}, {"filters": 4096}, {"num_cells": 64, "filters": 4096}]
)
def test_a_size_that_no_checkpoint_has_builds_nothing(run, program, model, monkeypatch):
    for module, name in ((train, "Supernet"), (restored, "Supernet"), (export, "Standalone"),
                         (jobs, "Standalone"), (train, "load_data")):  # fmt: skip
        monkeypatch.setattr(module, name, None)  # a call would be a TypeError
    edit_json(run.path / "config.json", model={**GROUPS["model"].to_dict(), **model})
    (run.path / "candidates.csv").unlink()  # its costs would not fit either
    line = refused(start, program, run)
    assert "step_000000006.npz" in line and f"has {one_shot_parameters(run):,}." in line


def test_the_size_of_a_checkpoint_is_that_of_the_net(run):
    supernet = ost.Supernet(SPACE, STACK, 10)
    assert one_shot_parameters(run) == supernet.count_params()
    check_one_shot(run)
    (run.path / "checkpoints" / "step_000000006.npz").write_bytes(b"damaged")
    check_one_shot(run)  # that of step 4 fits
    edit_json(run.path / "config.json", model={**GROUPS["model"].to_dict(), "filters": 8})
    assert "step_000000004.npz" in refused(check_one_shot, run)


def test_a_net_trained_alone_of_another_size_is_not_built(run, monkeypatch):
    """Where result.json agrees with itself, but not with the checkpoint."""
    monkeypatch.setattr(export, "Standalone", None)
    path = run.path / "retrain" / "top" / "result.json"
    result = json.loads(path.read_text())
    (net,) = result["nets"]
    counted = (SPACE, [ost.Architecture.from_text(net["architecture"])], ost.Stack(64, 4096), 10)
    net |= {"parameters": int(counts.parameters(*counted)[0]),
            "multiply_adds": int(counts.multiply_adds(*counted, 8)[0])}  # fmt: skip
    edit_json(path, nets=[net], retrain={**result["retrain"], "num_cells": 64, "filters": 4096})
    with monkeypatch.context() as patch:
        reductions = GROUPS["model"].stack(64, 4096).num_reductions
        assert reductions == 0  # those of the one-shot model, so that the sizes above differ
        patch.setattr(export, "Standalone", None)
        assert "result.json is damaged" in refused(start, export, run)
    counted = (*counted[:2], ost.Stack(64, 4096, 0), 10)
    net |= {"parameters": int(counts.parameters(*counted)[0]),
            "multiply_adds": int(counts.multiply_adds(*counted, 8)[0])}  # fmt: skip
    edit_json(path, nets=[net])
    line = refused(start, export, run)
    assert "step_000000005.npz" in line and f"has {net['parameters']:,}." in line


HUGE = 10**400


@pytest.mark.parametrize(
    "changes, part",
    [
        ({"parameters": HUGE}, "64 bits"),
        ({"multiply_adds": HUGE}, "64 bits"),
        ({"accuracies": [HUGE]}, "64 bits"),
        ({"accuracies": [7.5], "mean": 7.5}, "from 0 to 1"),
        ({"accuracies": [-1e30], "mean": -1e30}, "from 0 to 1"),
        ({"accuracies": [float("nan")]}, "from 0 to 1"),
        ({"accuracies": [float("inf")]}, "from 0 to 1"),
        ({"mean": -3}, "from 0 to 1"),
        ({"mean": 0.5}, "a mean must be 0.25; got 0.5"),
        ({"std": 0.1}, "a std must be None; got 0.1"),
        ({"accuracies": [0.255], "mean": 0.255}, "multiples of 1/100"),
        ({"candidate_accuracy": 2.0}, "from 0 to 1"),
        ({"candidate_num_images": -1}, "negative"),
        ({"rank": -1}, "negative"),
        ({"parameters": 1}, "parameters; the file says 1"),
        ({"multiply_adds": 1}, "multiply_adds; the file says 1"),
        ({"architecture": "prev1:no_such"}, "no_such"),
        ({"accuracies": []}, "a folder for each accuracy"),
    ],
)
def test_what_no_net_can_have(run, changes, part):
    path = run.path / "retrain" / "top" / "result.json"
    (net,) = json.loads(path.read_text())["nets"]
    edit_json(path, nets=[{**net, **changes}])
    line = refused(read_results, run)
    assert part in line and str(path) in line


@pytest.mark.parametrize(
    "changes, part",
    [
        ({"num_steps": HUGE}, "64 bits"),
        ({"num_steps": 2**62}, "num_steps=4611686018427387904"),
        ({"num_steps": 6}, "num_steps must be 5, .* got 6"),
        ({"num_images": 48}, "num_images must be 100, .* got 48"),
        ({"num_training_images": 7}, "num_training_images must be 1397, .* got 7"),
        ({"evaluated_on": "test"}, "evaluated_on must be validation, .* got 'test'"),
        ({"mean": 0.3}, "a mean must be 0.25; got 0.3"),
        ({"train": {}}, "'train' has no setting 'batch_size'"),
        ({"retrain": None}, "/retrain"),
        ({"chosen": {"architectures": []}}, "not the chosen architectures"),
        ({"nets": []}, "no nets"),
        ({"run_id": None}, "to a run without an id"),
    ],
)
def test_what_no_result_can_have(run, changes, part):
    path = run.path / "retrain" / "top" / "result.json"
    edit_json(path, **changes)
    with pytest.raises(ost.InputError, match=part):
        read_results(run)
    assert str(path) in refused(start, export, run)
    assert str(path) in refused(start, analyze, run)


def test_a_result_that_was_not_changed_is_read(run):
    (result,) = read_results(run)
    assert result["nets"][0]["mean"] == 0.25 and result["num_training_images"] == 1397


# ---------------------------------------------------------------------------- lines and folders


def test_a_number_that_does_not_fit_into_64_bits_is_no_line_of_metrics(run):
    path = run.path / "metrics.jsonl"
    line = {"step": 1, "loss": 2.0, "accuracy": 0.5}
    huge = {**line, "step": HUGE}
    path.write_text("".join(json.dumps(x) + "\n" for x in (line, huge, {**line, "loss": HUGE})))
    assert read_json_lines(path, {"step": int, "loss": float}) == [line]


@pytest.mark.parametrize("name", ["metrics.jsonl", "provenance.jsonl", "tracked.jsonl"])
def test_a_folder_is_no_file(run, name):
    (run.path / name).mkdir()
    assert f"{name} must be a file" in refused(start, analyze, run)


class Evaluator:
    num_images, chunk_size = 200, 50


def test_a_folder_is_no_race(run):
    (run.path / "race.npz").mkdir()
    assert "race.npz must be a file" in refused(checksum, run.path / "race.npz")
    assert "race.npz must be a file" in refused(
        Race, run.path / "race.npz", Evaluator, ["0"], 1, 0.9
    )
    assert "race.npz must be a file" in refused(start, search, run)


# ---------------------------------------------------------------------------- of another run


def restore(directory, step=None):
    """Fills a one-shot model as search (a step) or train does."""
    owner = directory.run_id()
    checkpoints = Checkpoints(directory.path / "checkpoints", owner=owner, num_steps=STEPS)
    variables = ost.Supernet(SPACE, STACK, 10).variables
    return checkpoints.restore_step(step, variables) if step else checkpoints.restore(variables)


def test_a_checkpoint_of_another_run_is_refused(run, other):
    assert restore(run) == STEPS
    mine, theirs = run.run_id(), RunDirectory(other).run_id()
    shutil.copy(other / "checkpoints" / "step_000000006.npz", run.path / "checkpoints")
    for line in (refused(restore, run), refused(restore, run, STEPS), refused(start, search, run)):
        assert "step_000000006.npz belongs to the run" in line and mine in line and theirs in line


@pytest.mark.parametrize("name", ["step_000000006.npz", "step_000000005.npz"])
def test_a_checkpoint_of_another_step_is_refused(run, name):
    folder = run.path / "checkpoints"
    (folder / "step_000000006.npz").unlink()
    shutil.copy(folder / "step_000000004.npz", folder / name)
    line = refused(restore, run)
    assert f"{name} holds step 4, not what its name says" in line
    if name == "step_000000006.npz":
        assert "holds step 4" in refused(start, search, run)


def test_a_checkpoint_without_an_id_is_refused_unless_the_run_has_none(run):
    variables = ost.Supernet(SPACE, STACK, 10).variables
    Checkpoints(run.path / "checkpoints").save(STEPS, variables)
    assert "belongs to a run without an id" in refused(restore, run)
    edit_json(run.path / "config.json", version=1, run_id=None)
    assert run.run_id() is None and restore(run) == STEPS


def test_a_checkpoint_beyond_the_end_is_refused(run):
    folder = run.path / "checkpoints"
    shutil.copy(folder / "step_000000006.npz", folder / "step_000000999.npz")
    for line in (refused(restore, run), refused(start, train, run), refused(start, search, run)):
        assert "step_000000999.npz comes after" in line


def test_weights_of_another_net_of_the_run_are_refused(run):
    """The nets of two selections may have the same shape."""
    (a,) = ost.RandomSearch(SPACE, 0).propose(1)
    variables = ost.Standalone(SPACE, a, STACK, 10).variables
    folder = run.path / "retrain" / NET / "checkpoints"
    run_id = run.run_id()
    Checkpoints(folder, owner=owner_of(run_id, NET)).restore_step(5, variables)
    with pytest.raises(WrongOwner, match="run_0'; this is the run .*top/net_01/run_0'"):
        Checkpoints(folder, owner=owner_of(run_id, "top/net_01/run_0")).restore(variables)


def test_a_result_of_another_run_is_refused(run, other):
    shutil.copy(other / "retrain" / "top" / "result.json", run.path / "retrain" / "top")
    mine, theirs = run.run_id(), RunDirectory(other).run_id()
    for line in (refused(start, analyze, run), refused(start, export, run)):
        assert "result.json belongs to the run" in line and mine[:8] in line and theirs[:8] in line


def test_a_selection_of_another_run_is_not_gone_on_with(run, other):
    write_json(run.path / "retrain" / "top" / "settings.json",
               {"run_id": RunDirectory(other).run_id()})  # fmt: skip
    assert "settings.json belongs to the run" in refused(start, retrain, run)


def test_a_search_of_another_run_or_without_its_settings_is_not_gone_on_with(run, other):
    shutil.copy(other / "search.json", run.path)
    assert "search.json belongs to the run" in refused(start, search, run)
    (run.path / "search.json").unlink()
    assert "search.json is missing" in refused(start, search, run)


def test_a_race_of_another_run_is_refused(tmp_path):
    names, path = [str(i) for i in range(6)], tmp_path / "race.npz"
    Race(path, Evaluator, names, 2, 0.9, run_id="1" * 32)._save()
    Race(path, Evaluator, names, 2, 0.9, run_id="1" * 32)
    Race(path, Evaluator, names, 2, 0.9)  # of a run that an earlier version began
    others = functools.partial(Race, path, Evaluator, names, 2, 0.9, run_id="2" * 32)
    line = refused(others)
    assert "race.npz belongs to the run 11111111; this is the run 22222222" in line
    path.unlink()
    Race(path, Evaluator, names, 2, 0.9)._save()
    assert "race.npz belongs to a run without an id; this is the run 22222222" in refused(others)


def test_a_race_with_values_that_cannot_be_is_damaged(tmp_path):
    race = Race(tmp_path / "race.npz", Evaluator, ["0", "1"], 1, 0.9)
    race._save()
    whole = dict(read_arrays(race.path))
    for name, value, message in (
        ("entropy", np.array([0.0, -1.0]), "cannot be negative"),
        ("lost", np.array([0.0, 1.5]), "from 0 to 1"),
        ("outcomes", np.zeros(3, np.uint8), "an outcome for each image"),
        ("seen", np.array([0, 10**6]), "an outcome for each image"),
    ):
        write_arrays(race.path, {**whole, name: value})
        assert message in refused(Race, race.path, Evaluator, ["0", "1"], 1, 0.9)


def test_rollbacks_of_another_run_or_that_cannot_be_are_refused(tmp_path):
    path = tmp_path / "rollbacks.json"
    Rollbacks(path, "mine").add(9, 5)
    assert len(Rollbacks(path, "mine")) == 1 == len(Rollbacks(path))
    assert "rollbacks.json belongs to the run mine" in refused(Rollbacks, path, "theirs")
    for rows in ([(5, 5)], [(9, -1)], [(9, 5)] * 21, [(HUGE, 5)]):
        rollbacks = [{"diverged": d, "back_to": b} for d, b in rows]
        path.write_text(json.dumps({"owner": "mine", "rollbacks": rollbacks}))
        assert "rollbacks.json" in refused(Rollbacks, path, "mine")


def test_ids_change_no_weights(made):
    """Two runs of one seed have the same weights; only what says whose they are differs."""
    arrays = []
    for path in made:
        with np.load(path / "checkpoints" / "step_000000006.npz") as found:
            arrays.append({name: found[name] for name in found.files})
    assert arrays[0].keys() == arrays[1].keys()
    same = {n for n in arrays[0] if np.array_equal(arrays[0][n], arrays[1][n])}
    assert "checkpoint/step" in same and "checkpoint/owner" not in same
    assert read_json(made[0] / "config.json")["one_shot"] == GROUPS["one_shot"].to_dict()
