"""What auto finds, decides and remembers."""

import dataclasses
import json
import os
import time
import types
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import oneshot_tf as ost
from oneshot_tf.cost import counts
from oneshot_tf.planning import contest, looking, plan
from oneshot_tf.planning.asked import AutoSettings
from oneshot_tf.planning.budgets import NAMED, as_time, parse_budget
from oneshot_tf.planning.contest import Contender, Outcome
from oneshot_tf.planning.diary import Diary
from oneshot_tf.planning.job import Job
from oneshot_tf.planning.plan import PHASES, Clock
from oneshot_tf.planning.speed import Speed, time_training
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.settings import (
    DataSettings,
    LimitSettings,
    LocationSettings,
    ModelSettings,
    TrainSettings,
)
from oneshot_tf.system.errors import InputError

SPACE = ost.bender2018()
FAST, SLOW = Speed(start=1.0, image=1e-5), Speed(start=7.0, image=3e-3)


# ------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize(
    "text, seconds", [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("720h", 2592000)]
)
def test_times(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "1.5h", "30m1h", "59s", "721h", "soon"])
def test_a_budget_that_is_none_is_refused_with_its_value(text):
    with pytest.raises(InputError, match=r"--budget must be") as error:
        parse_budget(text)
    assert text in str(error.value)


def test_named_budgets_grow():
    sizes = [dataclasses.astuple(NAMED[name]) for name in ("quick", "standard", "thorough")]
    assert np.all(np.diff(np.array(sizes), axis=0) >= 0)


def test_times_are_readable():
    assert [as_time(s) for s in (-3, 40, 89, 700, 3900)] == [
        "0 s", "40 s", "89 s", "12 min", "1 h 05 min",
    ]  # fmt: skip


# ------------------------------------------------------------------------------- looking


def folder_of(path, sizes):
    for index, (width, height) in enumerate(sizes):
        place = path / f"class{index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros([height, width, 3], np.uint8)).save(place / f"{index}.png")
    return DataSettings(dataset=f"folder:{path}")


def test_a_folder_is_counted_and_its_images_are_sized(tmp_path):
    data = folder_of(tmp_path, [(30, 90), (50, 40), (70, 200), (40, 60)])
    (tmp_path / "class0" / "broken.png").write_bytes(b"no image")
    found = looking.look(data)
    assert found == looking.Found(5, 40, has_validation=False)  # sides 30, 40, 40, 70


@pytest.mark.parametrize(
    "side, expected",
    [(3, [(8, 1)]), (28, [(28, 1), (28, 2)]), (40, [(40, 1), (40, 2)]), (50, [(32, 1), (32, 2)]),
     (64, [(64, 2), (64, 4), (32, 1), (32, 2)]),
     (500, [(224, 4), (128, 4), (64, 2), (64, 4), (32, 1), (32, 2)])],
)  # fmt: skip
def test_images_are_not_enlarged(side, expected):
    assert looking.image_sizes(side) == expected


def test_large_data_stays_on_disk_and_validates_on_a_part():
    data = DataSettings(dataset="folder:/photos")
    small, large = (looking.Found(n, 500, has_validation=False) for n in (1_000, 10**9))
    assert looking.data_for(data, small, 64) == dataclasses.replace(data, image_size=64)
    found = looking.data_for(data, large, 64)
    assert (found.storage, found.num_validation) == ("files", 10_000)
    own = dataclasses.replace(large, has_validation=True)
    assert looking.data_for(data, own, 64).num_validation == 0
    asked = dataclasses.replace(data, image_size=48, num_validation=7)
    found = looking.data_for(asked, large, 64)
    assert (found.image_size, found.num_validation) == (48, 7)


# ---------------------------------------------------------------------------------- plan


def planned(minutes, speed, images=5_000, sizes=((32, 1),), **fixed):
    clock = Clock(60.0 * minutes, 0.0, speed)
    return plan.plan_for_time(clock, images, list(sizes), 6, fixed)


def test_more_time_and_faster_machines_make_larger_nets():
    sizes = [(p.num_cells, p.filters) for p in (planned(90, SLOW), planned(90, FAST))]
    assert sizes == [(3, 8), (6, 32)]
    passes = [planned(minutes, SLOW).one_shot_passes for minutes in (60, 75, 90)]
    assert 0 < passes[0] < passes[1] < passes[2]
    assert planned(10_000, FAST).one_shot_passes == plan.MOST_PASSES["one_shot"]


def test_images_get_smaller_before_there_is_no_search():
    sizes = [(224, 4), (64, 2), (32, 1)]
    assert planned(600, FAST, sizes=sizes).image_size == 224
    assert planned(60, SLOW, 40_000, sizes).image_size < 224


def test_the_stem_reduces_images_if_the_time_is_short():
    sizes = looking.image_sizes(28)
    assert planned(600, SLOW, sizes=sizes).stem_stride == 1
    short = planned(40, SLOW, sizes=sizes)
    assert short.stem_stride == 2 and short.one_shot_passes >= plan.GOOD_PASSES


def test_a_short_time_leaves_no_search_and_a_shorter_one_is_refused():
    assert planned(8, SLOW).one_shot_passes == 0
    with pytest.raises(InputError, match="--budget must be at least (\\d+)m.*got 2m") as error:
        planned(2, SLOW)
    least = int(str(error.value).split("at least ")[1].split("m")[0])
    planned(least, SLOW)  # the fix that the message names works


def test_without_a_search_the_final_net_gets_enough_passes():
    """Also if no time at all would be left for the one-shot model."""
    sizes = looking.image_sizes(28)
    for minutes in (4, 6):
        found = planned(minutes, SLOW, images=2_000, sizes=sizes)
        assert found.one_shot_passes == 0 and found.stem_stride == 2
    larger = planned(9, Speed(start=20.0, image=1e-4), images=2_000, sizes=sizes)
    assert larger.one_shot_passes == 0 and larger.stem_stride == 1


def test_sizes_that_the_user_chose_stay():
    found = planned(30, SLOW, num_cells=2, filters=5)
    assert (found.num_cells, found.filters) == (2, 5)
    found = plan.plan_for_passes(NAMED["quick"], 1_000, [(128, 4), (64, 2)], {"filters": 5})
    assert (found.image_size, found.stem_stride, found.num_cells, found.filters) == (64, 2, 3, 5)


def test_the_shares_use_up_the_time():
    """If each phase takes what it was given, with its start, the whole budget is spent."""
    seconds, nets = 3_600.0, 6
    spent, starts = 0.0, [plan.ONE_SHOT_START, plan.SEARCH_START, plan.NET_START * nets,
                          plan.NET_START]  # fmt: skip
    for index, (phase, start) in enumerate(zip(PHASES, starts)):
        clock = Clock(seconds, spent, SLOW)
        spent += clock.share(phase, PHASES[index:], nets) + start * SLOW.start
    spent += plan.END_SECONDS + plan.END_START * SLOW.start
    assert spent == pytest.approx(seconds)


def test_a_late_phase_makes_the_last_one_shorter():
    early, late = (Clock(3_600.0, spent, SLOW).share("final", ("final",), 6) for spent in (0, 600))
    assert early - late == pytest.approx(600)
    assert Clock(60.0, 1e6, SLOW).share("final", ("final",), 6) == 0.0


def test_fewer_nets_are_compared_if_the_time_is_short():
    long, short, over = (Clock(3_600.0, spent, SLOW) for spent in (0, 3_350, 4_000))
    assert plan.affordable(long, 6, 10.0) == 6
    assert 2 <= plan.affordable(short, 6, 10.0) < 6
    assert plan.affordable(over, 6, 10.0) == 2


@pytest.mark.parametrize("images, ghost", [(1_000_000, 32), (128, 32), (127, 16), (9, 2), (2, 2)])
def test_a_step_has_four_ghost_batches_if_there_are_images(images, ghost):
    assert plan.ghost_batch_size(images) == ghost


@pytest.mark.parametrize("images", [2, 9, 40, 200, 5_000, 1_000_000])
@pytest.mark.parametrize("passes", [0.0, 4.0, 228.0])
def test_batches_are_whole_ghost_batches_within_the_images(images, passes):
    found = plan.sized(ModelSettings(), 32, passes, images)
    for batch in (found.batch_size, found.final_batch_size):
        assert batch % found.ghost_batch_size == 0 and batch <= max(images, 2)
    TrainSettings(batch_size=found.batch_size, ghost_batch_size=found.ghost_batch_size)


def test_short_trainings_take_smaller_steps():
    assert plan.one_shot_batch(45_000, 228, 32) == 1024  # the paper's
    short = plan.one_shot_batch(5_000, 18, 32)
    assert short < 1024 and 5_000 * 18 / short >= 400
    assert plan.one_shot_batch(5_000, 1, 32) == 128  # at least four ghost batches


def test_a_timed_training_has_a_start_and_a_speed():
    net = ost.Standalone(SPACE, SPACE.all_on(), ost.Stack(1, 2), num_classes=3)
    found = time_training(net, 8, TrainSettings(batch_size=32))
    assert found.start > 0 and 0 < found.image < 1


# --------------------------------------------------------------------------------- diary


def diary_of(path, **values):
    return Diary(path, {"auto": AutoSettings(data="digits", out=str(path), **values)})


def test_a_decision_is_made_once(tmp_path):
    assert diary_of(tmp_path).decided("number", lambda: 3) == 3
    assert diary_of(tmp_path).decided("number", lambda: 4) == 3


def test_a_plan_may_change_until_a_phase_begins(tmp_path):
    """A budget that was too small is repaired by another one."""
    diary_of(tmp_path, budget="1m").decided("number", lambda: 3)
    assert diary_of(tmp_path, budget="3m").decided("number", lambda: 4) == 4
    assert diary_of(tmp_path, budget="3m").decided("number", lambda: 5) == 4


def test_other_settings_and_other_runs_are_refused(tmp_path):
    with diary_of(tmp_path).phase("train"):
        pass
    with pytest.raises(InputError, match="was made with --budget=30m; now --budget=1h"):
        diary_of(tmp_path, budget="1h")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="has a run that auto did not begin"):
        diary_of(tmp_path / "other")


def test_phases_are_done_once_and_errors_leave_them_open(tmp_path):
    diary = diary_of(tmp_path)
    with pytest.raises(KeyboardInterrupt), diary.phase("train"):
        time.sleep(0.05)
        raise KeyboardInterrupt
    again = diary_of(tmp_path)
    assert not again.is_done("train") and again.spent >= 0.05
    with again.phase("train"):
        time.sleep(0.05)
    last = diary_of(tmp_path)
    assert last.is_done("train") and last.seconds["train"] >= 0.1


def test_the_time_of_a_killed_process_counts(tmp_path):
    diary = diary_of(tmp_path)
    open_phase = diary.phase("train")
    open_phase.__enter__()  # and then SIGKILL
    state = json.loads((tmp_path / "auto.json").read_text())
    assert state["open"] == "train"
    noted = (tmp_path / "auto.json").stat().st_mtime
    (tmp_path / "metrics.jsonl").write_text("{}")
    os.utime(tmp_path / "metrics.jsonl", (noted + 100, noted + 100))
    assert 100 <= diary_of(tmp_path).spent < 105


def test_a_damaged_diary_is_refused(tmp_path):
    diary_of(tmp_path).decided("number", lambda: 3)
    (tmp_path / "auto.json").write_text('{"asked": 1}')
    with pytest.raises(InputError, match="auto.json is damaged"):
        diary_of(tmp_path)


# ------------------------------------------------------------------------------- contest


@pytest.fixture(scope="module")
def candidates():
    architectures = ost.RandomSearch(SPACE, seed=0).propose(60)
    costs = counts.costs(SPACE, architectures, ost.Stack(3, 8), 10, 32)
    rng = np.random.default_rng(0)
    return [
        Candidate(a, float(accuracy), 1.0, 100, int(p), int(m), order=i)
        for i, (a, accuracy, p, m) in enumerate(
            zip(architectures, rng.uniform(0.4, 0.6, 60), *costs), start=1
        )
    ]


def test_the_best_smaller_ones_and_random_ones_of_like_size(candidates):
    nets = contest.searched_nets(candidates, 2, seed=0)
    by_text = {str(c.architecture): c for c in candidates}
    kinds = [net.kind for net in nets]
    assert kinds == ["searched net"] * 2 + ["random net"] * 2
    best, smaller, *randoms = [by_text[net.net] for net in nets]
    assert best.candidate_accuracy == max(c.candidate_accuracy for c in candidates)
    assert smaller.parameters <= 0.7 * best.parameters
    better = [c for c in candidates if c.candidate_accuracy > smaller.candidate_accuracy]
    assert all(c.parameters > smaller.parameters for c in better)
    distances = sorted(abs(c.parameters - best.parameters) for c in candidates)
    for each in randoms:
        assert each not in (best, smaller)
        assert abs(each.parameters - best.parameters) <= distances[8]


def test_nets_are_trained_in_the_order_of_importance(candidates):
    """If the time is short, the last ones are left out."""
    nets = contest.searched_nets(candidates, 2, seed=0)
    nets += contest.baselines(50_000, ost.Stack(3, 8), 10, 32, LimitSettings())
    names = [net.name for net in contest.by_importance(nets)]
    assert names[:4] == ["searched_1", "plain_cnn", "random_1", "mobile_net"]
    assert sorted(names) == sorted(net.name for net in nets)
    rest = [net.name for net in contest.by_importance(nets[2:])]
    assert rest == ["plain_cnn", "random_1", "mobile_net", "random_2"]


def test_a_net_is_trained_as_what_it_is():
    stack = ost.Stack(3, 8)
    nets = contest.baselines(50_000, stack, 10, 32, LimitSettings())
    for net in nets:
        wanted = net.retraining(stack, 10)
        assert wanted["select"] == net.name
        assert wanted["parameters"] == net.parameters(SPACE, stack, 10)
        assert abs(wanted["parameters"] - 50_000) < 10_000
    cell = contest.random_nets(ost.RandomSearch(SPACE, seed=0).propose(1))[0]
    assert cell.retraining(stack, 10) == {"architecture": cell.net}


def test_limits_make_baselines_smaller_or_ineligible():
    stack = ost.Stack(3, 8)
    for net in contest.baselines(50_000, stack, 10, 32, LimitSettings(max_parameters=40_000)):
        assert net.parameters(SPACE, stack, 10) <= 40_000 and net.eligible
    limits = LimitSettings(max_multiply_adds=2_000_000)
    for net in contest.baselines(50_000, stack, 10, 32, limits):
        assert net.baseline.multiply_adds(stack, 10, 32) <= 2_000_000
    limits = LimitSettings(max_latency_ms=3.0)
    assert not any(n.eligible for n in contest.baselines(50_000, stack, 10, 32, limits))


def outcome(name, accuracy, balanced, parameters=1, eligible=True):
    net = Contender(name, name, "plain_cnn:3", eligible)
    return Outcome(net, accuracy, balanced, parameters, 1, 1.0, 1.0, 100)


def test_the_winner_is_the_best_eligible_net_and_the_smallest_of_equals():
    nets = [outcome("a", 0.9, 0.5), outcome("b", 0.8, 0.7), outcome("c", 0.95, 0.9, eligible=False),
            outcome("d", 0.9, 0.4, parameters=0)]  # fmt: skip
    assert contest.winner(nets, balanced=False).contender.name == "d"
    assert contest.winner(nets, balanced=True).contender.name == "b"
    lines = contest.table(nets).splitlines()
    assert lines[1].startswith("c (c)") and lines[-1].startswith("b (b)")


@pytest.mark.parametrize("plain, mirrored, found", [(0.8, 0.9, "crop_flip"), (0.8, 0.8, "")])
def test_images_are_mirrored_in_the_end_if_it_helps_the_plain_cnn(plain, mirrored, found):
    nets = [outcome("random_1", 0.99, 0.5), outcome("plain_cnn", plain, 0.5)]
    assert contest.augmentation_of(nets, balanced=False) == ""  # mirroring was not tried
    nets.append(outcome("plain_cnn_mirrored", mirrored, 0.4))
    assert contest.augmentation_of(nets, balanced=False) == found
    assert contest.augmentation_of(nets, balanced=True) == ""
    again = contest.mirrored([net.contender for net in nets])
    assert (again.net, again.augmentation) == (nets[1].contender.net, "crop_flip")


@pytest.fixture
def job(tmp_path):
    """A run of 30 minutes in which two nets of the comparison are trained, in 100 s each."""
    diary = diary_of(tmp_path)
    diary.decided("speed", lambda: {"start": 1.0, "image": 0.001})
    auto = AutoSettings(data="digits", out=str(tmp_path))
    job = Job(auto, LocationSettings(), LimitSettings(), RunDirectory(tmp_path), diary)
    images = types.SimpleNamespace(train=range(900), validation=range(100))
    trained = [dataclasses.replace(outcome(name, accuracy, 0.5), seconds=100.0, epochs=50.0)
               for name, accuracy in (("a", 0.8), ("b", 0.9))]  # fmt: skip
    vars(job).update(dataset=images, balanced=False)
    with mock.patch.object(Job, "outcomes", lambda self: trained):
        yield job


@pytest.mark.parametrize("spent, affords", [(0, True), (1_500, True), (1_600, False)])
def test_the_comparison_ends_before_it_takes_the_time_of_the_final_training(job, spent, affords):
    """One more net takes 100 s, the final training 111 s for the same passes, the end 34 s."""
    job.diary._before = spent
    assert job.affords(Contender("c", "c", "plain_cnn:3")) == affords


@pytest.mark.parametrize("spent", [0, 1_700, 5_000])
def test_the_final_training_is_as_long_as_in_the_comparison_or_longer(job, spent):
    job.diary._before = spent
    best = contest.winner(job.outcomes(), balanced=False)
    epochs = job.final_epochs(best)
    assert epochs == best.epochs if spent else epochs > 2 * best.epochs


def test_after_a_search_the_first_cell_is_timed_and_others_follow_by_multiply_adds(job):
    space, stack = ost.bender2018(), ost.Stack(3, 8)
    cells = ["prev1:sep3x3 | block0:sep3x3 | block1:max3x3 | block2:identity",
             "prev1:sep7x7 | block0:sep7x7 | block1:sep7x7 | block2:sep7x7"]  # fmt: skip
    nets = [Contender(f"searched_{i}", "cell", cell) for i, cell in enumerate(cells)]
    found = plan.sized(ModelSettings(num_cells=3, filters=8), 8, 20.0, 900)
    directory = mock.Mock(space=lambda: space, stack=lambda: stack)
    timed = []
    with mock.patch.object(Job, "_timed", lambda self, net: timed.append(net) or 0.5):
        job = dataclasses.replace(job, directory=directory)
        vars(job).update(plan=found, contenders=nets, dataset=types.SimpleNamespace(num_classes=10))
        seconds = [job._seconds_for_image(net) for net in nets]
    costs = ost.multiply_adds(space, [space.parse(cell) for cell in cells], stack, 10, 8)
    assert [str(net.architecture) for net in timed] == [str(space.parse(cells[0]))]
    assert seconds[0] == 0.5
    assert seconds[1] == pytest.approx(0.5 * plan.relative_time(costs[1], costs[0]))
