"""retrain with the tools of final training, and baselines: what it keeps, scores and exports."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import edit_json

import oneshot_tf as ost
from oneshot_tf import analyze, export, retrain, settings
from oneshot_tf.analysis.nets import collect
from oneshot_tf.cost import counts
from oneshot_tf.cost.baselines import BASELINES, of_size, of_text
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.nn.baselines import BaselineModel
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.runs.config_file import facts_of
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.results import owner_of, read_results
from oneshot_tf.settings import FinalSettings

SPACE, STACK = ost.bender2018(1), ost.Stack(2, 4)
CELL = "prev1+prev2:sep3x3+max3x3"
TOOLS = FinalSettings(
    warmup_epochs=0.05, weight_average=0.9, drop_path_keep=0.7, class_weights="balanced"
)
NET = "tools/net_00/run_0"


def begin(path, digits):
    directory = RunDirectory(path)
    groups = {
        "data": settings.DataSettings(dataset="digits", num_validation=100),
        "model": settings.ModelSettings(num_cells=2, filters=4, num_blocks=1),
        "train": settings.TrainSettings(),
        "one_shot": settings.OneShotSettings(train_steps=1),
    }
    directory.begin(groups, SPACE, [], facts_of(digits))
    return directory


def start(directory, final=None, **changes):
    values = {"architecture": CELL, "epochs": 0.3, "evaluate_on": "validation", **changes}
    retrain.main(
        settings.RunSettings(run_dir=str(directory.path)),
        settings.RetrainSettings(**values),
        settings.TrainSettings(batch_size=64),
        settings.DeviceSettings(),
        settings.LocationSettings(),
        final,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits):
    directory = begin(tmp_path_factory.mktemp("tools") / "run", digits)
    start(directory, TOOLS, name="tools")
    return directory


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def refused(action, *arguments, **options):
    with pytest.raises(ost.InputError) as error:
        action(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def averaged_net(directory, averaged=True):
    net = ost.Standalone(SPACE, ost.Architecture.from_text(CELL), STACK, 10)
    folder = directory.path / "retrain" / NET / "checkpoints"
    checkpoints = Checkpoints(folder, owner=owner_of(directory.run_id(), NET))
    checkpoints.restore_step(7, net.variables, averaged=averaged)
    return net


def test_the_averaged_weights_are_scored(trained, digits):
    """And both accuracies are those of the predictions, counted by hand."""
    (result,) = read_results(trained)
    assert result["final"] == TOOLS.to_dict() and result["num_steps"] == 7
    labels = digits.validation.labels
    images = digits.normalize(digits.validation.images)
    right = np.argmax(averaged_net(trained)(images), axis=1) == labels
    recalls = [right[labels == k].mean() for k in range(10)]
    (net,) = result["nets"]
    assert net["accuracies"] == [pytest.approx(right.mean())]
    assert net["balanced_accuracies"] == [pytest.approx(np.mean(recalls))]
    assert abs(np.mean(recalls) - right.mean()) > 1e-4  # the classes are not of one size
    text = (trained.path / "retrain" / "table.txt").read_text()
    assert f"7 steps each; balanced accuracy {np.mean(recalls):.4f}" in text


def test_the_averaged_weights_are_exported(trained, digits, tmp_path):
    import tensorflow as tf

    export.main(
        settings.RunSettings(run_dir=str(trained.path)),
        export.ExportSettings(export_dir=str(tmp_path / "out"), net=NET),
        settings.LocationSettings(),
    )
    serve = tf.saved_model.load(str(tmp_path / "out" / "1")).signatures["serving_default"]
    images = digits.validation.images[:16]
    found = serve(images=tf.constant(images))["probabilities"].numpy()
    normal = digits.normalize(images)
    expected, last = (tf.nn.softmax(averaged_net(trained, a)(normal)) for a in (True, False))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - last).max() > 1e-3


def test_the_same_command_resumes_and_other_tools_are_refused(run):
    before = (run.path / "retrain" / "tools" / "result.json").read_bytes()
    start(run, TOOLS, name="tools")
    assert (run.path / "retrain" / "tools" / "result.json").read_bytes() == before
    line = refused(start, run, FinalSettings(), name="tools")
    assert "was made with --warmup_epochs=0.05; now --warmup_epochs=0.0. Set --name" in line


def test_a_folder_of_an_earlier_version_is_read_and_gone_on_with(run):
    """It has no tools and no balanced accuracies. Tools that were off are the ones it had."""
    start(run)
    folder = run.path / "retrain" / "architecture"
    shutil.rmtree(run.path / "retrain" / "tools")
    (new,) = read_results(run)
    for name in ("settings.json", "result.json"):
        values = json.loads((folder / name).read_text())
        for entry in ("final", "checksum"):
            values.pop(entry)
        for net in values.get("nets", []):
            net.pop("balanced_accuracies")
        (folder / name).write_text(json.dumps(values))
    (old,) = read_results(run)
    assert "final" not in old and old["mean"] == new["mean"]
    old_nets = collect(run)
    assert "warmup" in refused(start, run, TOOLS)
    start(run)  # resumes: everything is there
    assert read_results(run) == [new] and collect(run) == old_nets


def test_nets_with_and_without_tools_are_not_compared(run):
    start(run)
    assert len(collect(run)) == 2


@pytest.mark.parametrize(
    "changes, part",
    [
        ({"final": {}}, "'final' has no setting 'warmup_epochs'"),
        ({"final": {**TOOLS.to_dict(), "drop_path_keep": 2.0}}, "at most 1.0; got 2.0"),
        ({"final": {**TOOLS.to_dict(), "magic": 1}}, "unknown setting"),
    ],
)
def test_tools_that_no_result_can_have(run, changes, part):
    edit_json(run.path / "retrain" / "tools" / "result.json", **changes)
    assert part in refused(read_results, run)


@pytest.mark.parametrize(
    "values, part",
    [
        ([], "too few balanced accuracies"),
        ([1.5], "from 0 to 1"),
        (["a"], "balanced_accuracies"),
        (None, "balanced_accuracies"),
    ],
)
def test_balanced_accuracies_that_no_net_can_have(run, values, part):
    path = run.path / "retrain" / "tools" / "result.json"
    (net,) = json.loads(path.read_text())["nets"]
    edit_json(path, nets=[{**net, "balanced_accuracies": values}])
    line = refused(read_results, run)
    assert str(path) in line and part in line


def test_a_warm_up_that_is_too_long_leaves_no_folder_behind(run):
    """So the right one may follow under the same name."""
    line = refused(start, run, FinalSettings(warmup_epochs=1.0), name="late")
    assert "--warmup_epochs must be shorter than the training of 7 steps; got 1, which" in line
    assert not (run.path / "retrain" / "late" / "settings.json").exists()


@pytest.mark.parametrize(
    "values, part",
    [
        ({"warmup_epochs": -1.0}, "--warmup_epochs must be at least 0.0; got -1.0"),
        ({"weight_average": 1.0}, "--weight_average must be below 1.0; got 1.0"),
        ({"drop_path_keep": 0.0}, "--drop_path_keep must be above 0.0; got 0.0"),
        ({"drop_path_keep": float("nan")}, "--drop_path_keep"),
        ({"class_weights": "inverse"}, "--class_weights must be one of none, balanced"),
    ],
)
def test_tools_out_of_range(values, part):
    assert part in refused(FinalSettings, **values)


# ---------------------------------------------------------------------------- baselines


@pytest.fixture(scope="module")
def with_baselines(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("baselines") / "run"
    shutil.copytree(trained.path, path)
    directory = RunDirectory(path)
    for kind in BASELINES:
        start(directory, TOOLS, architecture="", select=kind, parameters=3_000)
    return directory


@pytest.mark.parametrize("kind", BASELINES)
def test_a_baseline_is_trained_and_scored_like_a_net(with_baselines, digits, kind):
    results = {r["name"]: r for r in read_results(with_baselines, baselines=True)}
    net, (other,) = results[kind]["nets"][0], results["tools"]["nets"]
    baseline = of_text(net["architecture"])
    assert baseline == of_size(kind, 3_000, STACK, 10)
    model = BaselineModel(kind, baseline.width, STACK.num_reductions)
    assert net["parameters"] == sum(np.prod(v.shape) for v in model.trainable_variables)
    same = ("num_steps", "num_images", "num_training_images", "evaluated_on", "train", "final")
    assert all(results[kind][name] == results["tools"][name] for name in same)
    place = net["folder"][0]
    folder = with_baselines.path / "retrain" / place / "checkpoints"
    checkpoints = Checkpoints(folder, owner=owner_of(with_baselines.run_id(), place))
    checkpoints.restore_step(7, model.variables, averaged=True)
    score = ost.evaluate_standalone(model, digits.validation, digits.normalize)
    assert net["accuracies"] == [score.accuracy]
    table = (with_baselines.path / "retrain" / "table.txt").read_text()
    assert f"{net['parameters']:10,}  {net['multiply_adds']:13,}  {baseline} (baseline)\n" in table
    assert f"{other['architecture']}\n" in table


def test_baselines_are_shown_and_are_no_nets(with_baselines):
    """They are in no ranking."""
    assert [r["name"] for r in read_results(with_baselines)] == ["tools"]
    (nets,) = collect(with_baselines).values()
    assert [net.selections for net in nets] == [("tools",)]
    analyze.main(settings.RunSettings(run_dir=str(with_baselines.path)), analyze.AnalyzeSettings())
    text = (with_baselines.path / "report" / "selections.csv").read_text()
    assert "tools," in text and "plain_cnn (baseline)," in text and "10^6 multiply-adds" in text


def test_a_baseline_is_exported_when_it_is_named(with_baselines, digits, tmp_path):
    """A fresh process compares the SavedModel with the net, so the export itself is the check."""
    run = settings.RunSettings(run_dir=str(with_baselines.path))
    chosen = export.ExportSettings(net="mobile_net/net_00/run_0", export_dir=str(tmp_path / "out"))
    export.main(run, chosen, settings.LocationSettings())
    found = json.loads((tmp_path / "out" / "1" / "architecture.json").read_text())
    (result,) = [r for r in read_results(with_baselines, True) if r["name"] == "mobile_net"]
    assert found["text"] == result["nets"][0]["architecture"]
    assert found["parameters"] == result["nets"][0]["parameters"]
    assert found["stand_alone_accuracy"] == result["nets"][0]["accuracies"][0]
    assert found["architecture"] is None and found["space"] is None
    served = tf.saved_model.load(str(tmp_path / "out" / "1")).signatures["fixed"]
    images = digits.validation.images[:5]
    assert served(images=tf.constant(images))["probabilities"].shape == [5, 10]


def test_the_default_size_is_that_of_the_best_candidate(run):
    line = refused(start, run, architecture="", select="plain_cnn")
    assert "--select=plain_cnn needs --parameters, because there are no candidates yet" in line
    small, large = (ost.Architecture.from_text(t) for t in ("prev1:max3x3", "prev1:sep7x7"))
    found = [counts.costs(SPACE, [a], STACK, 10, 8) for a in (small, large)]
    CandidateFile(run).write(
        Candidate(a, accuracy, 1.0, 100, int(p[0]), int(m[0]), rank)
        for a, accuracy, (p, m), rank in zip((large, small), (0.5, 0.4), found[::-1], (1, 2))
    )
    start(run, architecture="", select="plain_cnn")
    (result,) = [r for r in read_results(run, baselines=True) if r["name"] == "plain_cnn"]
    best = of_size("plain_cnn", int(found[1][0][0]), STACK, 10)
    assert result["nets"][0]["architecture"] == str(best)
    # The width is that of the parameters at the --filters asked for.
    start(run, architecture="", select="plain_cnn", filters=16, name="wide")
    (wide,) = [r for r in read_results(run, baselines=True) if r["name"] == "wide"]
    assert of_text(wide["nets"][0]["architecture"]).width > best.width


@pytest.mark.parametrize(
    "text, part",
    [("plain_cnn:4", "parameters; the file says"), ("plain_cnn:5000", "damaged"), ("vgg:1", "vgg")],
)
def test_baselines_that_no_result_can_have(with_baselines, tmp_path, text, part):
    shutil.copytree(with_baselines.path, tmp_path / "run")
    directory = RunDirectory(tmp_path / "run")
    path = directory.path / "retrain" / "mobile_net" / "result.json"
    (net,) = json.loads(path.read_text())["nets"]
    edit_json(path, nets=[{**net, "architecture": text}], chosen={"architectures": [text]})
    assert part in refused(read_results, directory)


def test_results_of_earlier_versions_have_no_parameters(run):
    """The setting is a later one; its value is the default."""
    start(run)
    folder = run.path / "retrain" / "architecture"
    for name in ("settings.json", "result.json"):
        values = json.loads((folder / name).read_text())
        values["retrain"].pop("parameters")
        values.pop("checksum")
        (folder / name).write_text(json.dumps(values))
    assert len(read_results(run)) == 2
    assert "--parameters=0; now --parameters=5" in refused(start, run, parameters=5)
    start(run)
