"""Rankings, drawings and the report: right numbers, honest words, nothing missing unsaid."""

import csv
import dataclasses
import html.parser
import json
import os
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import scipy.stats
from conftest import complete_result, edit_json

import oneshot_tf as ost
from oneshot_tf import analyze, settings
from oneshot_tf.analysis import paper, plots, ranking
from oneshot_tf.analysis.drawing import draw_cell
from oneshot_tf.analysis.nets import Net, collect, left_out, weighted
from oneshot_tf.cost import counts
from oneshot_tf.export import _folders
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate, ranked
from oneshot_tf.runs.config_file import facts_of
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.selection import Strata, select

ROOT = pathlib.Path(__file__).parents[2]


def nets(count, strength, runs=2, seed=0, parameters_too=False):
    """Architectures whose candidate accuracy tells their stand-alone accuracy more or less."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=count)
    candidate = 0.5 + 0.05 * (strength * quality + rng.normal(size=count))
    found = []
    for i in range(count):
        accuracies = tuple(0.9 + 0.01 * quality[i] + 0.002 * rng.normal(size=runs))
        size = int(1e6 + 1e5 * quality[i]) if parameters_too else int(rng.integers(10**6))
        found.append(Net(str(i), accuracies, ("stratified",), candidate[i], None, size, 2 * size))
    return found


def test_measures_by_hand():
    found = [
        Net(str(i), (a,), ("random",), c, d, 10, 20)
        for i, (a, c, d) in enumerate(
            [(0.5, 0.1, 9.0), (0.6, 0.3, 5.0), (0.7, 0.2, 6.0), (0.9, 0.4, 1.0)]
        )
    ]  # fmt: skip
    report = ranking.rank(found, top=2)
    values = {m.name: m.value for m in report["candidate accuracy"]}
    assert values["Spearman"] == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert values["Kendall tau-b"] == pytest.approx(4 / 6)
    assert values["precision at 2"] == 0.5 and values["regret at most"] == 0.0
    assert np.isnan([values["regret at least"], values[ranking.QUARTER]]).all()
    same = {m.name: m.value for m in report["divergence (KL)"]}  # the same order
    np.testing.assert_equal(same, values)
    assert all(np.isnan(m.low) for m in report["candidate accuracy"])  # four are too few
    chance = {m.name: m.value for m in report["random choice"]}
    assert chance.pop("regret at most") == pytest.approx(0.9 - 0.675)
    assert np.isnan(chance.pop("regret at least"))  # one run each
    assert chance == {"Spearman": 0, ranking.QUARTER: 0, "Kendall tau-b": 0, "precision at 2": 0.5}
    equal = {m.name: m.value for m in report["parameters"]}
    assert np.isnan(equal["Spearman"])  # ranks nothing
    assert equal["precision at 2"] == 0.5
    assert equal["regret at most"] == pytest.approx(0.9 - 0.675)


@pytest.mark.parametrize("count, k", [(32, 8), (32, 0), (10, 3)])
def test_when_all_nets_are_equal_no_predictor_finds_any(count, k):
    accuracy = np.random.default_rng(0).random(count)
    found = [Net(str(i), (0.97, 0.97), ("stratified",), float(c), None, 10, 20)
             for i, c in enumerate(np.sort(accuracy)[::-1])]  # fmt: skip
    for measures in ranking.rank(found, 20, k).values():
        values = {m.name: m.value for m in measures}
        assert values[f"precision at {k or 8}"] == pytest.approx((k or 8) / count, abs=1e-12)
        regrets = values["regret at least"], values["regret at most"]
        assert regrets == pytest.approx((0.0, 0.0), abs=1e-12)


def test_ties_share_their_places_by_hand():
    # Best two of 5: one is above, three tie for the second place.
    assert ranking.in_top([7, 5, 5, 5, 1], 2).tolist() == [1, 1 / 3, 1 / 3, 1 / 3, 0]
    precision = ranking.statistics(None, 2)["precision at 2"]
    y = np.array([9.0, 8.0, 3.0, 2.0, 1.0])
    # In the true best two are the first, surely, and the second, with a third.
    assert precision(np.array([7.0, 5.0, 5.0, 5.0, 1.0]), y) == pytest.approx((1 + 1 / 3) / 2)
    # Both tie: (1 * 1 + 3 * (1 / 3 * 1 / 3)) / 2.
    ties = np.array([7.0, 5.0, 5.0, 5.0, 1.0])
    assert precision(ties, ties) == pytest.approx((1 + 1 / 3) / 2)
    # What ties for the predictor's first place has 9 or 3; the best has 9.
    assert ranking.regret([5, 1, 5, 1, 1], y[:, None].tolist())[1] == pytest.approx(9 - 6)


def test_regret_by_hand_and_between_its_bounds():
    runs = [(0.5, 0.7), (0.6, 0.6), (0.4, 0.8)]
    # By run 0 net 1 is best: 0.6 in run 1; by run 1 net 2 is: 0.4 in run 0. The first has 0.7, 0.5.
    least, most = ranking.regret([3, 2, 1], runs)
    assert least == pytest.approx(((0.6 - 0.7) + (0.4 - 0.5)) / 2) and most == pytest.approx(0.0)
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        true = 0.45 + 0.016 * rng.normal(size=32)
        known = true + 0.02 * rng.normal(size=32)
        runs = true[:, None] + 0.01 * rng.normal(size=(32, 2))
        found.append([*ranking.regret(known, runs), true.max() - true[known.argmax()],
                      *ranking.regret(true, runs)])  # fmt: skip
    least, most, truth, least_of_truth, most_of_truth = np.mean(found, axis=0)
    assert least + 0.002 < truth < most - 0.001
    assert least_of_truth < 0 < most_of_truth < 0.005  # a predictor that is the truth


def test_the_top_quarter_is_that_of_the_predictor():
    x = np.arange(24.0)
    y = np.concatenate([np.arange(18.0), [5, 4, 3, 2, 1, 0]])
    assert ranking.statistics(None, 6)[ranking.QUARTER](x, y) == pytest.approx(-1.0)
    assert ranking.statistics(None, 6)["Spearman"](x, y) > 0.1
    assert np.isnan(ranking.statistics(None, 6)[ranking.QUARTER](x[:16], y[:16]))  # four


def test_weighted_spearman_is_that_of_repeated_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.integers(9, size=20).astype(float), rng.integers(9, size=20).astype(float)
    times = rng.integers(1, 5, size=20)
    expected = ranking.spearman(np.repeat(x, times), np.repeat(y, times))
    assert ranking.weighted_spearman(x, y, times) == pytest.approx(expected)
    assert np.isnan(ranking.weighted_spearman(np.ones(20), y, times))


@pytest.mark.parametrize("strength", [0.3, 0.6])
def test_weights_take_back_what_a_stratified_sample_adds(space, strength):
    """Means over samples of 32 of 320 candidates, with a long tail of bad ones."""
    architectures = ost.RandomSearch(space, 0).propose(320)
    found, covered = [], 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        z, other = rng.normal(size=(2, 320))
        true = strength * z + (1 - strength**2) ** 0.5 * other
        known = np.round(0.47 + 0.05 * z - 0.012 * z**2 * (z < 0), 6)
        rows = [Candidate(a, float(c), 1.0, 5000, 1, 1) for a, c in zip(architectures, known)]
        quality = dict(zip(architectures, true))
        chosen = select(rows, settings.RetrainSettings(select="stratified", count=32, seed=seed))
        sample = [Net(str(c.architecture), (quality[c.architecture],), ("stratified",),
                      c.candidate_accuracy, None, 1, 1) for c in chosen]  # fmt: skip
        sample = weighted(sample, {n.architecture for n in sample}, Strata.of(rows, 32))
        over = ranking.over_space(sample, 40)["candidate accuracy"]
        plain = ranking.rank(sample, 1)["candidate accuracy"][0].value
        truth = ranking.spearman(known, true)
        found.append([plain - truth, over.value - truth])
        covered += over.low <= truth <= over.high
    plain, over = np.mean(found, axis=0)
    assert plain > 0.12 and abs(over) < 0.06
    assert covered >= 51  # 85 %; of 60 at 95 %, fewer are seen once in a thousand


def test_sparse_tau_is_blind_to_noise():
    found = nets(40, 0.0, runs=4)
    assert ranking.noise(found) == pytest.approx(0.001, rel=0.2)  # 0.002 / sqrt(4)
    function = ranking.statistics(0.1, 5)["sparse tau"]
    accuracy = np.array([net.mean for net in found])
    one_step = np.round(accuracy / 0.1)
    assert np.isnan(function(np.arange(40.0), accuracy)) == (len(set(one_step)) == 1)


@pytest.mark.parametrize("strength, low", [(3.0, 0.6), (0.0, -0.7)])
def test_intervals_hold_what_they_should(strength, low):
    measures = {m.name: m for m in ranking.rank(nets(60, strength))["candidate accuracy"]}
    spearman = measures["Spearman"]
    assert low < spearman.low < spearman.value < spearman.high <= 1
    assert (spearman.low > 0) == (strength > 0)
    again = {m.name: m for m in ranking.rank(nets(60, strength))["candidate accuracy"]}
    assert again["Spearman"] == spearman  # the same seed


def test_coverage_of_the_interval():
    """The 95 % interval of Spearman holds the true value in most of many repetitions."""
    truth = scipy.stats.spearmanr(
        *np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 200_000).T
    ).statistic
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed + 1)
        x, y = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 40).T
        m = ranking.measure(ranking.statistics(None, 5)["Spearman"], "", x, y, resamples=200)
        hits += m.low <= truth <= m.high
    assert 85 <= hits <= 100


def test_advantage_over_parameters():
    better = ranking.advantage(nets(60, 3.0), "parameters")
    assert better.low > 0
    tie = ranking.advantage(nets(60, 0.2, parameters_too=True), "parameters")
    assert tie.high < 0
    assert ranking.advantage(nets(60, 1.0), "divergence (KL)") is None


def test_what_runs_and_other_predictors_leave():
    found = nets(60, 3.0, parameters_too=True)
    again = ranking.agreement_of_runs(found)
    assert 0.85 < again.low < again.value < again.high <= 1.0
    assert ranking.agreement_of_runs(nets(60, 3.0, runs=1)) is None
    # Size says all there is to know here, up to the noise; candidate accuracy nothing more.
    rest = ranking.partial(found, "candidate accuracy", "parameters")
    size = ranking.partial(found, "parameters", "candidate accuracy")
    assert rest.value < 0.35 < 0.8 < size.value
    # By hand: the usual formula, of three rank correlations.
    x, y, z = ([f(net) for net in found] for f in (
        lambda n: n.candidate_accuracy, lambda n: n.mean, lambda n: n.parameters))  # fmt: skip
    a, b, c = ranking.spearman(x, y), ranking.spearman(x, z), ranking.spearman(y, z)
    assert rest.value == pytest.approx((a - b * c) / ((1 - b * b) * (1 - c * c)) ** 0.5)


def test_the_ceiling_has_the_interval_of_what_it_comes_from():
    found = nets(60, 3.0)
    again, most = ranking.agreement_of_runs(found), ranking.ceiling(found)
    for a, c in ((again.low, most.low), (again.value, most.value), (again.high, most.high)):
        assert c == pytest.approx((2 * a / (1 + a)) ** 0.5)
    assert ranking.ceiling(nets(60, 3.0, runs=1)) is None


def of(selections, accuracies):
    return [Net(str(i), (a,), selections, None, None, 1, 1) for i, a in enumerate(accuracies)]


def test_selections_that_share_nets():
    both = of(("top", "random"), np.random.default_rng(0).random(8))
    same = ranking.compare_selections(both, "top", "random")
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    rng = np.random.default_rng(1)
    apart = of(("top",), rng.random(8)), of(("random",), rng.random(6))
    m = ranking.compare_selections([*apart[0], *apart[1]], "top", "random")
    welch = scipy.stats.ttest_ind(*[[n.mean for n in g] for g in apart], equal_var=False)
    np.testing.assert_allclose((m.low, m.high), welch.confidence_interval())
    some = ranking.compare_selections([*both, *of(("top",), [0.3, 0.8])], "top", "random")
    assert 0 < some.high - some.low < m.high - m.low


def test_the_papers_rows():
    assert paper.row("cifar10", "top", 32) == (2.7, 0.3, 95.5, 0.1)
    assert paper.row("digits", "top", 32) is None and paper.row("cifar10", "top", 8) is None


# ---------------------------------------------------------------------------- drawing


def test_a_cell_is_drawn_whole(space):
    rng = np.random.default_rng(0)
    for a in [space.all_on(), *(space.sample(rng) for _ in range(20))]:
        root = ET.fromstring(draw_cell(a))
        texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
        assert texts.count("+") == len(a.blocks)
        for block in a.blocks:
            for operation in block.operations:
                assert texts.count(operation) == sum(operation in b.operations for b in a.blocks)
        arrows = [p for p in root.iter("{http://www.w3.org/2000/svg}path") if p.get("d")[-1] == "z"]
        assert len(arrows) == sum(len(b.inputs) for b in a.blocks) + len(a.blocks)
        assert str(a) == root.find("{http://www.w3.org/2000/svg}title").text


@pytest.mark.slow
def test_draw_as_a_user_types_it(tmp_path):
    def draw(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "oneshot_tf.draw", *arguments], cwd=tmp_path, text=True,
            capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    done = draw("prev1+prev2:sep3x3 | block0:max3x3+identity", "out.svg")
    assert done.returncode == 0 and ET.parse(tmp_path / "out.svg")
    wrong = draw("prev1:unheard_of", "other.svg")
    assert wrong.returncode == 1 and "unheard_of" in wrong.stderr
    assert "Traceback" not in wrong.stderr and not (tmp_path / "other.svg").exists()
    assert draw("a", "b", "c").returncode == 2


# ---------------------------------------------------------------------------- the report


@pytest.fixture
def run(tmp_path, space, digits):
    """A run directory with made-up candidates."""
    directory = RunDirectory(tmp_path / "run")
    groups = {
        "data": settings.DataSettings(dataset="digits"), "model": settings.ModelSettings(),
        "train": settings.TrainSettings(), "one_shot": settings.OneShotSettings(),
        "device": settings.DeviceSettings(),
    }  # fmt: skip
    counts = {name: [400, 1, 2] for name in ("train", "validation", "test")}
    facts = {**facts_of(digits), "class_names": ["<a>", "b"], "fingerprint": counts}
    directory.begin(groups, space, [], facts)
    return directory


def add_candidates(directory, space, count=60):
    rng = np.random.default_rng(0)
    architectures = ost.RandomSearch(space, seed=0).propose(count)
    counted = (space, architectures, ost.Stack(6, 16), 2)
    costs = zip(counts.parameters(*counted).tolist(), counts.multiply_adds(*counted, 8).tolist())
    rows = [
        Candidate(a, int(160 + 80 * rng.random()) / 400, 1.5, 400, *map(int, each), 0,
                  float(rng.random()) + 0.1)
        for a, each in zip(architectures, costs)
    ]  # fmt: skip
    rows = ranked(rows)
    CandidateFile(directory).write(rows)
    return rows


def add_result(directory, name, rows, runs=2, select="stratified", first_run=0):
    rng = np.random.default_rng(1)
    found = []
    for i, c in enumerate(rows):
        accuracies = [0.5 + c.candidate_accuracy / 2 + 0.01 * rng.random() for _ in range(runs)]
        accuracies = [round(400 * accuracy) / 400 for accuracy in accuracies]
        found.append(
            {"architecture": str(c.architecture), "rank": c.rank, "parameters": c.parameters,
             "candidate_accuracy": c.candidate_accuracy, "multiply_adds": c.multiply_adds,
             "folder": [f"{name}/net_{i:02d}/run_{first_run + r}" for r in range(runs)],
             "accuracies": accuracies, "mean": float(np.mean(accuracies)), "std": None}
        )  # fmt: skip
    folder = directory.path / "retrain" / name
    folder.mkdir(parents=True)
    result = {
        "run_id": directory.run_id(),
        "retrain": {"select": select, "num_cells": 6, "filters": 16, "seed": 0}, "nets": found,
        "evaluated_on": "validation", "num_images": 400, "num_steps": 10, "mean": 0.7, "std": 0.01,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(complete_result(directory, result)))


def test_runs_of_several_folders_count_once_each(run, space):
    rows = add_candidates(run, space)
    add_result(run, "stratified", rows[:3])
    add_result(run, "more", rows[:3], first_run=2)
    add_result(run, "top", rows[:1], select="top")  # the same runs again
    (alone,) = collect(run, ["more"]).values()
    assert [len(net.accuracies) for net in alone] == [2, 2, 2]
    with pytest.raises(ost.InputError, match="there is no less"):
        collect(run, ["less"])
    (found,) = collect(run).values()
    assert [len(net.accuracies) for net in found] == [4, 4, 4]
    assert set(found[0].selections) == {"stratified", "top"}


def change(directory, name, **changes):
    """Rewrites a result.json; changes of "net" go into each net."""
    path = directory.path / "retrain" / name / "result.json"
    result = json.loads(path.read_text())
    result.pop("checksum", None)
    for net in result["nets"]:
        net.update(changes.get("net", {}))
    result.update({k: v for k, v in changes.items() if k != "net"})
    stack = ost.Stack(6, result["retrain"]["filters"])
    for net in result["nets"]:
        counted = ost.bender2018(), [ost.Architecture.from_text(net["architecture"])], stack, 2
        net["parameters"] = int(counts.parameters(*counted)[0])
        net["multiply_adds"] = int(counts.multiply_adds(*counted, 8)[0])
    path.write_text(json.dumps(complete_result(directory, result)))


def test_accuracies_on_fewer_images_are_left_out(run, space):
    """As after a race; also where candidates.csv is gone, if the result knows."""
    rows = add_candidates(run, space)
    early = {"num_images": 128, "candidate_accuracy": 60 / 128}
    rows = ranked(dataclasses.replace(c, **early) if i % 2 else c for i, c in enumerate(rows))
    CandidateFile(run).write(rows)
    add_result(run, "random", rows[20:40], select="random")
    (kept,), (rest,) = collect(run).values(), left_out(run).values()
    assert {n.num_images for n in kept} == {400} and {n.num_images for n in rest} == {128}
    assert len(kept) == len(rest) == 10
    page = report(run)
    assert "10 nets are left out of the ranking" in page.text
    add_result(run, "top", rows[:6], select="top")
    change(run, "random", net={"candidate_num_images": 128})
    change(run, "top", net={"candidate_num_images": 400})
    (run.path / "candidates.csv").unlink()
    (kept,), (rest,) = collect(run).values(), left_out(run).values()
    assert len(kept) == 6 and len(rest) == 20


def test_the_net_of_the_best_rank_is_exported(run, space):
    """Not the luckiest on few images; equals by size; test accuracies choose nothing."""
    rows = add_candidates(run, space, 12)
    lucky = dataclasses.replace(rows[5], num_images=128, candidate_accuracy=90 / 128)
    rows = ranked([*rows[:5], lucky, *rows[6:]])
    assert rows[-1].architecture == lucky.architecture
    CandidateFile(run).write(rows)

    def chosen():
        return str(_folders(run, "")[0].relative_to((run.path / "retrain").resolve()))

    # Of nets judged on validation images, the best accuracy.
    add_result(run, "judged", rows[:2], runs=1)
    change(run, "judged", net={"accuracies": [0.5], "mean": 0.5})
    assert chosen() == "judged/net_00/run_0"  # equal means: the better rank
    for name, filters, part in (
        ("a_small", 8, rows[1:]), ("random", 16, [rows[-1], rows[3]]), ("z_large", 32, rows[1:4]),
    ):  # fmt: skip
        add_result(run, name, part, select="random")
        settings_of = {"select": "random", "num_cells": 6, "filters": filters, "seed": 0}
        change(run, name, evaluated_on="test", retrain=settings_of)
    assert chosen() == "z_large/net_00/run_0"
    change(run, "z_large", net={"accuracies": [0.1] * 2, "mean": 0.1})
    assert chosen() == "z_large/net_00/run_0"
    shutil.rmtree(run.path / "retrain" / "z_large")
    assert chosen() == "a_small/net_00/run_0"


def test_precisions_are_not_mixed(run, space):
    rows = add_candidates(run, space)
    for name, part, changes in (
        ("a", rows[:6], {}),
        ("b", rows[6:12], {"device": {"mixed_precision": True}, "evaluated_in": "bfloat16"}),
        ("c", rows[12:17], {"device": {"mixed_precision": True}, "evaluated_in": "float32"}),
    ):  # fmt: skip
        add_result(run, name, part)
        change(run, name, **changes)
    found = {p.precision: len(nets) for p, nets in collect(run).items()}
    assert found == {"float32, evaluated in float32": 6, "bfloat16, evaluated in bfloat16": 6,
                     "bfloat16, evaluated in float32": 5}  # fmt: skip


def test_weights_are_shares_of_all_candidates(run, space):
    """Also without strata in the result: these follow from candidates.csv."""
    rows = add_candidates(run, space, 90)
    chosen = select(rows, settings.RetrainSettings(select="stratified", count=16))
    add_result(run, "stratified", chosen)
    add_result(run, "top", [c for c in rows if c not in chosen][:3], select="top")
    (old,) = collect(run).values()
    strata = Strata.of(rows, 16)
    assert sum(strata.candidates) == 90 and len(strata.edges) == 5
    for net in old:
        if net.selections == ("top",):
            assert net.weight is None
        else:
            share = strata.candidates[net.bucket] / 90
            assert net.weight == pytest.approx(share / 4)
    change(run, "stratified", strata=dataclasses.asdict(strata))
    (run.path / "candidates.csv").unlink()
    (new,) = collect(run).values()
    assert [(n.bucket, n.weight) for n in new] == [(n.bucket, n.weight) for n in old]
    change(run, "stratified", strata={"edges": [0.1], "candidates": [1]})
    with pytest.raises(ost.InputError, match="B \\+ 1 edges"):
        collect(run)


def test_no_command_of_the_report_reads_test_images(run, space):
    text = report(run).text
    add_result(run, "top", add_candidates(run, space)[:3], runs=1, select="top")
    text += report(run).text
    commands = [line.split("To add the")[0] for line in text.split("oneshot_tf.retrain")[1:]]
    assert len(commands) >= 3 and all("--evaluate_on=validation" in line for line in commands)


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def read_table(directory, name):
    with open(directory.path / "report" / f"{name}.csv") as file:
        return list(csv.reader(file))


def nets_of(directory):
    (found,) = collect(directory).values()
    return found


def report(directory, **options):
    analyze.main(
        settings.RunSettings(str(directory.path)),
        analyze.AnalyzeSettings(**{"resamples": 100, **options}),
    )
    page = Page((directory.path / "report" / "report.html").read_text())
    # One file, offline: nothing is fetched, nothing runs.
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe"}
    assert any(
        tag == "meta" and "width=device-width" in a.get("content", "") for tag, a in page.tags
    )
    return page


def test_a_run_of_which_nothing_is_done_says_how_to_go_on(run):
    text = report(run).text
    for command in ("oneshot_tf.search --run_dir", "oneshot_tf.retrain --run_dir"):
        assert command in text
    assert "no architecture was trained alone" in text


def test_a_whole_run(run, space, capsys):
    rows = add_candidates(run, space)
    add_result(run, "stratified", rows[::3])
    add_result(run, "top", rows[:5], select="top")
    add_result(run, "random", rows[5:40:7], select="random")
    run.note_provenance("train")
    page = report(run)
    assert sum(tag == "svg" for tag, _ in page.tags) == 6
    said = capsys.readouterr().out
    assert "ranks these" in said and "better than chance" in said and "one one-shot model" in said
    folder = run.path / "report"
    table = read_table(run, "ranking")
    assert [line[0] for line in table[1:]] == [
        "candidate accuracy", "parameters", "multiply-adds", "divergence (KL)", "random choice",
    ]  # fmt: skip
    assert float(table[1][1].split()[0]) > 0.9
    chosen = read_table(run, "selections")
    assert [line[0] for line in chosen[1:]] == ["top", "random", "stratified"]
    assert "top minus random" in page.text
    assert "raises correlations" in page.text and "fairer" not in page.text
    assert f"{len(nets_of(run))} architectures, {len(nets_of(run))} with 2 runs;" in page.text
    assert "not corrected for their number" in said and "Over the space" in said
    assert table[0][-1] == "Spearman over the space" and ranking.QUARTER in table[0]
    assert "Python" in (folder / "commands.csv").read_text()
    for name in ("ranking", "candidates", "divergence", "best_cell"):
        ET.fromstring((folder / f"{name}.svg").read_text())


def test_too_few_nets_conclude_nothing(run, space, capsys):
    add_result(run, "top", add_candidates(run, space)[:3], runs=1, select="top")
    text = report(run).text
    assert "too few" in text and "the noise is unknown" in text
    assert "No conclusion about ranking" in capsys.readouterr().out


def test_other_one_shot_models(run, space, tmp_path, capsys):
    rows = add_candidates(run, space)
    add_result(run, "stratified", rows[::3])
    other, third = tmp_path / "other", tmp_path / "third"
    shutil.copytree(run.path, other)
    shutil.copytree(run.path, third)
    (third / "candidates.csv").unlink()
    text = report(run, compare=f"{other},{third}").text
    assert "Over 2 one-shot models" in capsys.readouterr().out
    assert "has 0 of the 20 architectures" in text
    table = read_table(run, "one_shot_models")
    assert len(table) == 3 and table[1][2:] == table[2][2:]
    assert [row[0][:2] for row in table[1:]] == ["1:", "2:"]
    assert [row[1] for row in table[1:]] == [run.path.name, "other"]
    for path in (run.path / "report").glob("*.svg"):  # the same once a folder is renamed
        text = path.read_text()
        assert not any(part in text for part in ("other", f"{run.path.name} (n", ">run:")), path
    with pytest.raises(ost.InputError, match="holds no run"):
        report(run, compare=str(tmp_path / "nothing"))
    facts = json.loads((other / "config.json").read_text())["facts"]
    facts["fingerprint"]["train"][0] += 1
    edit_json(other / "config.json", facts=facts)
    with pytest.raises(ost.InputError, match="must have the same images"):
        report(run, compare=str(other))


def test_names_do_not_break_a_plot():
    point = (0.5, 0.6, [0.6])
    drawing = plots.ranking({"top$\\no$\x1b": [point]}, "x")
    assert r"top$\no$\x1b" in drawing and "\x1b" not in drawing


def test_names_do_not_break_the_page(run, space):
    rows = add_candidates(run, space)
    (run.path / "retrain").mkdir()
    add_result(run, "top<script>", rows[:6], select="top")
    assert "script" not in {tag for tag, _ in report(run).tags}
