"""Tables in a run directory: what is refused, what is kept, and limits that come from them."""

import dataclasses
import json
import re

import numpy as np
import pytest
from candidate_runs import begin, candidates
from conftest import edit_json

import oneshot_tf as ost
from oneshot_tf import measure, settings
from oneshot_tf.cost.limits import Limit, Limits
from oneshot_tf.cost.unit_names import unit_names
from oneshot_tf.runs.candidates import ranked
from oneshot_tf.settings import LimitSettings, RetrainSettings
from oneshot_tf.timing import limits as limits_module
from oneshot_tf.timing import measuring, other_device
from oneshot_tf.timing.choosing import check_within, select_within
from oneshot_tf.timing.limits import RunLimits
from oneshot_tf.timing.measuring import sampled
from oneshot_tf.timing.other_device import read_csv
from oneshot_tf.timing.tables import Place, new_table

SPACE = ost.bender2018(num_blocks=2)
FASTEST = "prev2:identity | prev2:identity"


@pytest.fixture
def run(tmp_path):
    return begin(tmp_path / "run", SPACE)


def times(place, rng=None):
    """Planted times: 1 ms for each operation that is a convolution, otherwise little."""
    names = unit_names(SPACE, place.stack, 8)
    return {name: 1.0 if name[:3] in ("sep", "con") else 0.01 for name in names}


def true_latency(place, nets):
    names = unit_names(SPACE, place.stack, 8)
    used = limits_module.Estimate(np.array([times(place)[n] for n in names]), 2.0)
    return used.of(SPACE, place.stack.num_cells, nets)


def planted(run, noise=0.0, **values):
    """A table as `measure` writes it, whose nets have planted latencies."""
    limits = LimitSettings(max_latency_ms=1.0, **values)
    place = Place(run, run.stack(), limits)
    nets = sampled(SPACE, 16)
    latencies = true_latency(place, nets)
    latencies[8:] *= 1 + noise
    place.write(new_table(nets, latencies.tolist(), 8, times(place), "TensorFlow"))
    return place


def test_a_table_is_read_back(run):
    place = planted(run, noise=0.25)
    assert place.path.name == "latency_tensorflow_batch1_threads1_cells2_filters4.json"
    estimate = place.estimate(place.read())
    names = unit_names(SPACE, place.stack, 8)
    np.testing.assert_allclose(estimate.per_unit, [times(place)[n] for n in names], atol=1e-6)
    assert estimate.worst_error == pytest.approx(0.2)
    assert "off by 20.0% on average and by 20.0% at worst" in place.described(place.read())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"device": {"processor": "Abacus"}}, "was measured with processor Abacus; here it is"),
        ({"device": {"tensorflow": "1.15"}}, "was measured with tensorflow 1.15; here"),
        ({"run_id": "0" * 32}, "belongs to the run 00000000"),
        ({"nets": [{"architecture": "prev9:nothing", "value": 1.0}] * 16}, "prev9"),
        ({"nets": [{"architecture": FASTEST, "value": 0.0}] * 16}, "is damaged. Remove it to"),
        ({"num_fitted": 17}, "is damaged. Remove it to measure anew"),
        ({"unit_milliseconds": {"stem": -1.0}}, "is damaged. Remove it to measure anew"),
        ({"measured": [{"architecture": FASTEST}]}, "it holds no /measured/0/value"),
    ],
)
def test_another_device_and_damage_are_refused(run, change, words):
    place = planted(run)
    before = json.loads(place.path.read_text())
    if "device" in change:
        change = {"device": {**before["device"], **change["device"]}}
    edit_json(place.path, **change)
    with pytest.raises(ost.InputError, match=re.escape(words)):
        place.read()


def test_a_limit_keeps_the_margin_and_counts_measured_nets(run, monkeypatch):
    place = planted(run, noise=0.25)
    some = candidates(SPACE, 60)
    nets = [c.architecture for c in some]
    truth = true_latency(place, nets)
    most = float(np.quantile(truth, 0.6))
    asked = LimitSettings(max_latency_ms=most)
    limits = RunLimits(run, asked, run.stack())
    known = place.estimate(place.read()).known
    expected = [known.get(a, 1.2 * ms) <= most * (1 + 1e-9) for a, ms in zip(nets, truth)]
    assert limits.within(nets) == expected and 0 < sum(expected) < 36
    # What is measured replaces the estimate. The first choice is measured, and one is too slow.
    slow, rounds = [], []

    def measured(place, new):
        rounds.append(new)
        slow.extend(new[:1] if len(rounds) == 1 else [])
        table = place.read()
        table["measured"] += [
            {"architecture": str(a), "value": most * (2 if a in slow else 0.9)} for a in new
        ]
        place.write(table)

    monkeypatch.setattr(limits_module, "_measure", measured)
    chosen = select_within(some, RetrainSettings(top=10, count=4), limits)
    assert len(chosen) == 4 and not {c.architecture for c in chosen} & set(slow)
    assert len(rounds) == 2 and all(c.latency_ms <= most for c in chosen)
    best = {c.architecture: c.rank for c in ranked(some)}
    assert [c.rank for c in chosen] == [best[c.architecture] for c in chosen]
    again = select_within(
        some, RetrainSettings(top=10, count=4), RunLimits(run, asked, run.stack())
    )
    assert [c.architecture for c in again] == [c.architecture for c in chosen]
    assert len(rounds) == 2  # all is known
    with pytest.raises(ost.InputError, match=re.escape(f"is not within --max_latency_ms={most:g}")):
        check_within(slow[0], limits)


def test_the_front_by_latency_has_measured_nets_only(run, monkeypatch):
    place = planted(run)
    some = candidates(SPACE, 60)
    nets = [c.architecture for c in some]
    truth = dict(zip(nets, true_latency(place, nets).tolist()))

    def measured(place, new):
        table = place.read()
        table["measured"] += [{"architecture": str(a), "value": truth[a]} for a in new]
        place.write(table)

    monkeypatch.setattr(limits_module, "_measure", measured)
    limits = RunLimits(run, LimitSettings(), run.stack(), cost="latency_ms")
    assert not limits
    chosen = select_within(some, RetrainSettings(select="pareto", front="latency", count=3), limits)
    for c in chosen:
        beaten = [o for o in some if truth[o.architecture] < truth[c.architecture] - 1e-9
                  and o.candidate_accuracy >= c.candidate_accuracy]  # fmt: skip
        assert not beaten and limits.measured(c.architecture)["latency_ms"] == c.latency_ms
    front = limits.fronts(some)["latency_ms"]
    accuracies = [c.candidate_accuracy for c in front]
    assert accuracies == sorted(accuracies) and len(front) >= 3


def test_limits_nobody_meets_name_the_nearest(run):
    planted(run)
    limits = RunLimits(run, LimitSettings(max_latency_ms=0.5), run.stack())
    with pytest.raises(ost.InputError, match="No architecture is within --max_latency_ms=0.5."):
        limits.apply(SPACE)
    some = candidates(SPACE, 20)
    with pytest.raises(ost.InputError, match="None of the 20 candidates is within --max_latency_m"):
        select_within(some, RetrainSettings(top=3, count=3), limits)


def test_a_limit_on_the_space(run):
    planted(run)
    limits = RunLimits(run, LimitSettings(max_latency_ms=6.5), run.stack())
    space = limits.apply(SPACE)
    rng = np.random.default_rng(0)
    nets = [space.sample(rng) for _ in range(20)]
    place = Place(run, run.stack(), LimitSettings())
    assert (true_latency(place, nets) <= 6.5 + 1e-6).all()
    assert (true_latency(place, sampled(SPACE, 40)) > 6.5).any()


def test_large_limits_are_shown_whole():
    limit = Limit("--max_parameters", 12_345_678, lambda some: np.zeros(len(some)), "{}")
    assert Limits([limit], 16).given() == "--max_parameters=12345678"


def write_csv(path, lines):
    path.write_text("kind,name,milliseconds\n" + "".join(f"{line}\n" for line in lines))
    return path


def csv_lines(place, nets=()):
    lines = [f"unit,{name},{ms}" for name, ms in times(place).items()]
    pairs = zip(nets, true_latency(place, nets)) if nets else []
    return lines + [f"net,{a},{ms}" for a, ms in pairs]


def test_a_table_of_another_device(run, tmp_path):
    place = Place(run, run.stack(), LimitSettings())
    nets = sampled(SPACE, 12)
    estimates = {}
    for name, some in (("units", []), ("nets", nets)):
        path = write_csv(tmp_path / f"{name}.csv", csv_lines(place, some))
        estimates[name] = place.estimate(read_csv(path, place))
    whole = estimates["nets"].of(SPACE, 2, nets)
    np.testing.assert_allclose(whole, true_latency(place, nets))
    assert estimates["nets"].worst_error < 1e-6
    np.testing.assert_allclose(estimates["units"].of(SPACE, 2, nets), whole - 2.0)
    assert estimates["units"].worst_error is None
    asked = LimitSettings(max_latency_ms=8.0, latency_table=str(tmp_path / "nets.csv"))
    limits = RunLimits(run, asked, run.stack())
    limits.measure(sampled(SPACE, 30))  # measures nothing: this is not the device
    assert not (run.path / "costs").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[1:], "has no time for 1 units, for example 'input 8x8x4 to 4'"),
        (lambda lines: [*lines, lines[0]], "'input 8x8x4 to 4' has two lines"),
        (lambda lines: [lines[0].replace("0.01", "")], "line 2: milliseconds must be a number"),
        (
            lambda lines: [lines[0].replace("0.01", "nan")],
            "milliseconds must be a number of",
        ),
        (lambda lines: [lines[0].replace("0.01", "-1")], "of at least 0; got '-1'"),
        (lambda lines: [lines[0].replace("unit", "part")], "kind must be unit, or net with"),
        (
            lambda lines: [*lines, f"net,{FASTEST},1.0"],
            "has 1 whole nets. Give at least 5",
        ),
        (lambda lines: [*lines, "net,prev9:none,1.0"], "prev9"),
    ],
)
def test_wrong_tables_of_another_device_are_refused(run, tmp_path, change, words):
    place = Place(run, run.stack(), LimitSettings())
    path = write_csv(tmp_path / "x.csv", change(csv_lines(place)))
    with pytest.raises(ost.InputError, match=re.escape(words)):
        read_csv(path, place)
    path.write_text("name,time\na,1\n")
    with pytest.raises(ost.InputError, match="must have the columns kind, name and milliseconds"):
        read_csv(path, place)
    with pytest.raises(ost.InputError, match="is not a file"):
        read_csv(tmp_path / "none.csv", place)


def test_a_slower_moment_of_the_machine_is_taken_out(run, monkeypatch, capsys):
    place = planted(run)
    workshop, some = measuring.Workshop(place), sampled(SPACE, 40)[16:]

    def measure_slowly(nets, folder):
        return (1.5 * true_latency(place, nets)).tolist(), ""

    monkeypatch.setattr(workshop, "_measure", measure_slowly)
    found = workshop.measured(some, place.read())
    np.testing.assert_allclose(found, true_latency(place, some), rtol=1e-6)
    assert "5 nets of the table take 1.50 times as long" in capsys.readouterr().out


def start(run, limits=None, **values):
    measure.main(
        settings.RunSettings(str(run.path)),
        measure.MeasureSettings(**values),
        limits or LimitSettings(latency_batch=2),
    )


@pytest.mark.slow
def test_measuring_for_real(tmp_path, capsys, monkeypatch):
    """The smallest nets there are. Measured times are positive, and nets get their own."""
    monkeypatch.setattr(measuring, "_OF_LATENCY", (4, 2))
    tiny = begin(tmp_path / "run", ost.bender2018(num_blocks=1))
    (tmp_path / "nets.txt").write_text("prev1:sep7x7\n\nprev2:identity\nprev1:sep7x7\n")
    start(tiny, architectures=str(tmp_path / "nets.txt"))
    place = Place(tiny, tiny.stack(), LimitSettings(latency_batch=2))
    table = place.read()
    assert [net["architecture"] for net in table["measured"]]  # those that were not in the table
    assert table["runtime"].startswith("TensorFlow ") and len(table["nets"]) == 6
    estimate = place.estimate(table)
    slow, fast = (ost.Architecture.from_text(t) for t in ("prev1:sep7x7", "prev2:identity"))
    assert estimate.known[slow] > estimate.known[fast] > 0
    out = capsys.readouterr().out
    assert "Latency of tensorflow, 2 images, 1 thread, 2 cells, 4 filters: on 2 other" in out
    assert len(re.findall(r"\d ms +\d+\.\d+ ms  prev", out)) == 2
    before = place.path.read_text()
    start(tiny, architectures=str(tmp_path / "nets.txt"))  # all is known
    assert place.path.read_text() == before


@pytest.mark.slow
def test_lengths_of_files_are_estimated(tmp_path):
    tiny = begin(tmp_path / "run", ost.bender2018(num_blocks=1))
    start(tiny, LimitSettings(file_format="tflite"), cost="file")
    place = Place(tiny, tiny.stack(), LimitSettings(file_format="tflite"), of_files=True)
    estimate = place.estimate(place.read())
    assert estimate.worst_error < 0.05
    limits = RunLimits(tiny, LimitSettings(max_file_kb=1e6), tiny.stack())
    assert all(limits.within(sampled(tiny.space(), 20)))


@pytest.mark.parametrize(
    ("values", "limits", "words"),
    [
        ({"architectures": "none.txt"}, {}, "none.txt is missing"),
        ({"write_units": "."}, {}, "must be a new or an empty folder"),
        ({}, {"latency_table": "none.csv"}, "none.csv is not a file"),
    ],
)
def test_mistakes(run, tmp_path, monkeypatch, values, limits, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ost.InputError, match=re.escape(words)):
        start(run, LimitSettings(**limits), **values)


@pytest.mark.slow
def test_files_for_another_device(tmp_path, monkeypatch):
    """Every file runs, and the table is read back once it is filled in."""
    monkeypatch.setattr(other_device, "_WHOLE", 6)
    tiny = begin(tmp_path / "run", ost.bender2018(num_blocks=1))
    limits = dataclasses.replace(LimitSettings(), latency_batch=1)
    start(tiny, limits, write_units=str(tmp_path / "files"))
    table = (tmp_path / "files" / "latency.csv").read_text().splitlines()
    place = Place(tiny, tiny.stack(), limits)
    names = set(unit_names(tiny.space(), tiny.stack(), 8))
    assert {line.split(",")[2] for line in table if ",unit," in line} == names
    assert sum(",net," in line for line in table) == 6
    from oneshot_tf.timing.clock import Order, timed

    nets = [str(path) for path in sorted((tmp_path / "files").glob("net_*.tflite"))]
    times = timed(Order(1, 1, (8, 8), [("tflite", nets[0])]), tmp_path)
    assert len(times.nets) == 1 and times.nets[0] > 0
    from ai_edge_litert.interpreter import Interpreter

    for path in (tmp_path / "files").glob("unit_*.tflite"):
        interpreter = Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        interpreter.invoke()
    filled = [table[0], *(f"{line}1.5" for line in table[1:])]
    (tmp_path / "files" / "latency.csv").write_text("\n".join(filled))
    assert place.estimate(read_csv(tmp_path / "files" / "latency.csv", place)).worst_error < 1e-6
