"""Rankings, drawings and the report: right numbers, honest words, nothing missing unsaid."""

import csv
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

import oneshot_tf as ost
from oneshot_tf import analyze, settings
from oneshot_tf.analysis import paper, ranking
from oneshot_tf.analysis.drawing import draw_cell
from oneshot_tf.candidates import Candidate, CandidateFile, ranked
from oneshot_tf.records import RunDirectory

ROOT = pathlib.Path(__file__).parent.parent


def nets(count, strength, runs=2, seed=0, parameters_too=False):
    """Architectures whose candidate accuracy tells their stand-alone accuracy more or less."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=count)
    candidate = 0.5 + 0.05 * (strength * quality + rng.normal(size=count))
    found = []
    for i in range(count):
        accuracies = tuple(0.9 + 0.01 * quality[i] + 0.002 * rng.normal(size=runs))
        size = int(1e6 + 1e5 * quality[i]) if parameters_too else int(rng.integers(10**6))
        found.append(
            ranking.Net(str(i), accuracies, ("stratified",), candidate[i], None, size, 2 * size)
        )
    return found


def test_measures_by_hand():
    found = [
        ranking.Net(str(i), (a,), ("random",), c, d, 10, 20)
        for i, (a, c, d) in enumerate(
            [(0.5, 0.1, 9.0), (0.6, 0.3, 5.0), (0.7, 0.2, 6.0), (0.9, 0.4, 1.0)]
        )
    ]  # fmt: skip
    report = ranking.rank(found, top=2)
    values = {m.name: m.value for m in report["candidate accuracy"]}
    assert values["Spearman"] == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert values["Kendall tau-b"] == pytest.approx(4 / 6)
    assert values["precision at 2"] == 0.5 and values["regret"] == 0.0
    assert {m.name: m.value for m in report["divergence (KL)"]} == values  # the same order
    assert all(np.isnan(m.low) for m in report["candidate accuracy"])  # four are too few
    chance = {m.name: m.value for m in report["random choice"]}
    assert chance == {"Spearman": 0, "Kendall tau-b": 0, "precision at 2": 0.5,
                      "regret": pytest.approx(0.9 - 0.675)}  # fmt: skip
    assert np.isnan(report["parameters"][0].value)  # all equal: ranks nothing


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
    facts = {"class_names": ["<a>", "b"], "image_size": 8, "fingerprint": digits.fingerprint()}
    directory.begin(groups, space, [], facts)
    return directory


def add_candidates(directory, space, count=60):
    rng = np.random.default_rng(0)
    architectures = ost.RandomSearch(space, seed=0).propose(count)
    rows = [
        Candidate(a, 0.4 + 0.2 * rng.random(), 1.5, 400, int(rng.integers(10**5)), 7, 0,
                  float(rng.random()) + 0.1)
        for a in architectures
    ]  # fmt: skip
    rows = ranked(rows)
    CandidateFile(directory.path / "candidates.csv", space).write(rows)
    return rows


def add_result(directory, name, rows, runs=2, select="stratified", first_run=0):
    rng = np.random.default_rng(1)
    found = []
    for i, c in enumerate(rows):
        accuracies = [0.5 + c.candidate_accuracy / 2 + 0.01 * rng.random() for _ in range(runs)]
        found.append(
            {"architecture": str(c.architecture), "rank": c.rank, "parameters": c.parameters,
             "candidate_accuracy": c.candidate_accuracy, "multiply_adds": c.multiply_adds,
             "folder": [f"{name}/net_{i:02d}/run_{first_run + r}" for r in range(runs)],
             "accuracies": accuracies, "mean": float(np.mean(accuracies)), "std": None}
        )  # fmt: skip
    folder = directory.path / "retrain" / name
    folder.mkdir(parents=True)
    result = {
        "retrain": {"select": select, "num_cells": 6, "filters": 16, "seed": 0}, "nets": found,
        "evaluated_on": "validation", "num_images": 400, "num_steps": 10, "mean": 0.7, "std": 0.01,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))


def test_runs_of_several_folders_count_once_each(run, space):
    rows = add_candidates(run, space)
    add_result(run, "stratified", rows[:3])
    add_result(run, "more", rows[:3], first_run=2)
    add_result(run, "top", rows[:1], select="top")  # the same runs again
    (alone,) = ranking.collect(run, ["more"]).values()
    assert [len(net.accuracies) for net in alone] == [2, 2, 2]
    with pytest.raises(ost.InputError, match="no stand-alone nets called less"):
        ranking.collect(run, ["less"])
    (found,) = ranking.collect(run).values()
    assert [len(net.accuracies) for net in found] == [4, 4, 4]
    assert set(found[0].selections) == {"stratified", "top"}


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


def report(directory, **options):
    analyze.main(
        settings.RunSettings(str(directory.path)),
        settings.AnalyzeSettings(**{"resamples": 100, **options}),
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
    run.note_provenance(["CPU:0"])
    page = report(run)
    assert sum(tag == "svg" for tag, _ in page.tags) == 4
    said = capsys.readouterr().out
    assert "ranks these" in said and "better than chance" in said and "One one-shot model" in said
    folder = run.path / "report"
    table = read_table(run, "ranking")
    assert [line[0] for line in table[1:]] == [
        "candidate accuracy", "parameters", "multiply-adds", "divergence (KL)", "random choice",
    ]  # fmt: skip
    assert float(table[1][1].split()[0]) > 0.9
    chosen = read_table(run, "selections")
    assert [line[0] for line in chosen[1:]] == ["top", "random", "stratified"]
    assert "top less random" in page.text
    assert "Python" in (folder / "commands.csv").read_text()
    for name in ("ranking", "candidates", "divergence", "best_cell"):
        ET.fromstring((folder / f"{name}.svg").read_text())


def test_too_few_nets_conclude_nothing(run, space, capsys):
    add_result(run, "top", add_candidates(run, space)[:3], runs=1, select="top")
    text = report(run).text
    assert "too few" in text and "the noise is unknown" in text
    assert "Nothing about ranking" in capsys.readouterr().out


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
    assert len(table) == 3 and table[1][1:] == table[2][1:]
    with pytest.raises(ost.InputError, match="holds no run"):
        report(run, compare=str(tmp_path / "nothing"))
    config = json.loads((other / "config.json").read_text())
    config["facts"]["fingerprint"]["train"][0] += 1
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ost.InputError, match="other images"):
        report(run, compare=str(other))


def test_names_do_not_break_the_page(run, space):
    rows = add_candidates(run, space)
    (run.path / "retrain").mkdir()
    add_result(run, "top<script>", rows[:6], select="top")
    assert "script" not in {tag for tag, _ in report(run).tags}
