"""The live page: what it says, and that it can never harm the work that it shows."""

import errno
import io
import os
import re

import pytest
from candidate_runs import begin
from pages import checked

import oneshot_tf as ost
from oneshot_tf import settings
from oneshot_tf.analysis import live
from oneshot_tf.analysis.curves import curve, thinned
from oneshot_tf.system.interrupts import Interrupted
from oneshot_tf.system.progress import Progress, tell, watching

CELL = "prev1+prev2:sep3x3 | block0:max3x3"
HOSTILE = "<script>alert(1)</script>&\x1b[31m"


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def search(clock, title="search", done=60):
    """Some progress of a search at 2 candidates/s."""
    progress = Progress(title, 100, "candidates", stream=io.StringIO(), axis=("images", 10))
    for number in (20, done):
        progress.point(number, **{"best accuracy so far": number / 100})
        progress.update(number, f"best {number / 100:.4f}")
        clock[0] += 20.0
    return progress


def test_the_page_says_phase_progress_time_left_and_the_best(tmp_path, clock):
    page = live.LivePage(tmp_path / "live.html", "cifar", "search")
    with live.phase("search", 3, 7, 720.0) as now, watching(page):
        tell(architecture=CELL, about="The best candidate so far: candidate accuracy 0.6000")
        search(clock)
        text = checked(page.path.read_text())
        parts = ("cifar", "Phase 3 of 7: search; 11m40s left in all", "60 of 100 candidates",
                     "(60%)", "2 candidates/s, 20s left", CELL, "candidate accuracy 0.6000",
                     "best accuracy so far: 0.6", "images", "concat, 1x1", "Last update",
                     "the program may have stopped", "'refresh' content='5'")  # fmt: skip
        assert [part for part in parts if part not in text] == []
        now.expect(65.0)
        page.write()
        assert "search; 1m05s left in all" in page.path.read_text()
    assert "Phase" not in page.html()


def test_a_net_in_training_tells_how_long_all_of_them_take(tmp_path, clock):
    page = live.LivePage(tmp_path / "live.html", "cifar", "retrain")
    with watching(page):
        tell(part="net 2/4, run 1/1", architecture="plain_cnn:24", more="2")
        text = page.path.read_text()  # already before the first line, which may take minutes
        assert "net 2/4" in text and "data-patience='600'" in text
        search(clock, "stand-alone training")
    text = checked(page.path.read_text())
    assert "net 2/4, run 1/1" in text and "plain_cnn:24" in text  # a baseline has no drawing
    assert "About 2m00s left with the 2 more to train." in text  # at 2/s: 40 + 2 * 100 are left
    assert "data-patience='60'" in text


def test_names_from_anybody_are_escaped(tmp_path, clock):
    page = live.LivePage(tmp_path / "live.html", HOSTILE, "search")
    with live.phase(HOSTILE, 1, 2), watching(page):
        tell(part=HOSTILE, architecture=HOSTILE, about=HOSTILE)
        progress = Progress(HOSTILE, 3, HOSTILE, stream=io.StringIO())
        for number in range(3):
            progress.point(number, **{HOSTILE: float(number), "nan": float("nan")})
        progress.update(3, HOSTILE)
    with pytest.raises(ost.InputError), page.ending():
        raise ost.InputError(HOSTILE)
    text = page.path.read_text()
    assert "<script>alert" not in text and "\x1b" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;\\x1b[31m") >= 8
    assert "ended with an error" in text


@pytest.mark.parametrize(
    "error, said",
    [(None, "train is done."), (Interrupted(2, ""), "To resume, repeat the command."),
     (ValueError(), "ended with an error: ValueError.")],
)  # fmt: skip
def test_the_last_version_says_how_the_program_ended(tmp_path, space, capsys, error, said):
    directory = begin(tmp_path / "run", space)
    try:
        with live.live_page(directory, "train"):
            tell(part="net 1/1")
            assert "The first step takes" in (directory.path / "report/live.html").read_text()
            if error:
                raise error
    except type(error or ValueError):
        pass
    text = checked((directory.path / "report" / "live.html").read_text())
    assert said in text and "id='old'" not in text and "content='30'" in text
    assert capsys.readouterr().out == f"Live page: {directory.path}/report/live.html\n"


def test_a_folder_that_cannot_be_written_warns_once(tmp_path, space, capsys):
    directory = begin(tmp_path / "run", space)
    (directory.path / "report").write_text("a file")
    with live.live_page(directory, "train"):
        for _ in range(3):
            progress = Progress("training", 2, "steps")
            progress.update(2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Warning"] + ["training"] * 3
    assert lines[0].endswith("report/live.html cannot be written (Not a directory). The program "
                             "goes on without it.")  # fmt: skip
    assert (directory.path / "report").read_text() == "a file"


def test_a_full_disk_leaves_the_last_version_whole(tmp_path, monkeypatch, capsys):
    page = live.LivePage(tmp_path / "live.html", "Adam", "train")
    assert page.write()
    with open(page.path) as reader:
        page.title = "Berta"
        assert page.write()
        assert checked(reader.read()).count("Adam") == 2  # the reader has the old version
    assert page.path.read_text().count("Berta") == 2

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        page.title = "Carl"
        assert not page.write() and not page.write()
    assert page.path.read_text().count("Berta") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["live.html"]
    assert capsys.readouterr().out.count("No space left on device") == 1
    assert page.write() and page.path.read_text().count("Carl") == 2  # there is space again


def test_other_workers_write_no_page_and_a_second_program_has_its_own(tmp_path, space, capsys):
    directory = begin(tmp_path / "run", space)
    with live.live_page(directory, "train", writes=False):
        Progress("training", 1, "steps").update(1)
    assert not (directory.path / "report").exists()
    with live.live_page(directory, "search"), live.live_page(directory, "retrain"):
        tell(part="all")
    names = {path.name for path in (directory.path / "report").iterdir()}
    assert names == {"live.html", "live_2.html"}


def test_a_mistake_before_the_work_writes_nothing(tmp_path, space, capsys):
    directory = begin(tmp_path / "run", space)
    before = sorted(directory.path.rglob("*"))
    with pytest.raises(ost.InputError), live.live_page(directory, "search"):
        raise ost.InputError("--num_candidates must be at least 1; got 0.")
    assert sorted(directory.path.rglob("*")) == before and not capsys.readouterr().out


def test_a_page_is_not_written_at_every_line(tmp_path, clock):
    page = live.LivePage(tmp_path / "live.html", "run", "train", seconds=3.0)
    with watching(page):
        progress = Progress("training", 100, "steps", seconds=0.0, stream=io.StringIO())
        for number in range(9):
            progress.update(number, f"line {number}")
            clock[0] += 1.0
    assert "line 8" in page.html() and "line 6" in page.path.read_text()


def test_a_training_that_resumes_shows_its_whole_curve(tmp_path, digits):
    space = ost.bender2018(num_blocks=1)
    stack, train = ost.Stack(1, 4), settings.TrainSettings(batch_size=64)
    device = settings.DeviceSettings(log_steps=1, checkpoint_steps=2)
    page = live.LivePage(tmp_path / "live.html", "run", "train", seconds=0.0)

    def fit(steps):
        net = ost.Standalone(space, ost.Architecture.from_text("prev1:max3x3"), stack, 10)
        ost.fit_standalone(net, digits, steps, train, 0, tmp_path / "run", device=device)

    with watching(page):
        fit(2)
        fit(4)
    points = page._works["stand-alone training"].points
    assert [x for x, _ in points] == [1, 2, 3, 4]
    text = checked(page.path.read_text())
    assert text.count("<polyline") == 2 and "4 of 4 steps (100%)" in text


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_a_curve_lies_inside_its_axes(scale):
    points = [(x * scale, (x * 7 % 13 - 5) * scale) for x in range(1000)]
    some = thinned(points)
    assert len(some) <= 301 and some[-1] == points[-1]
    svg = curve(some, "x", "y")
    places = re.search(r"points='([^']+)'", svg)[1].split()
    xs, ys = zip(*(map(float, place.split(",")) for place in places))
    assert min(xs) >= 58 and max(xs) <= 466 and min(ys) >= 28 and max(ys) <= 224
    assert max(ys) - min(ys) > 100 and max(xs) - min(xs) > 400  # they use the height and width
    assert curve([(0.0, 1.0)], "x", "y") == curve([(1, float("nan"))] * 9, "x", "y") == ""
    assert "<polyline" in curve([(0.0, 1.0), (1.0, 1.0)], "x", "y")
