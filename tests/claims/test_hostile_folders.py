"""A run directory from somebody else: no program writes outside of it, waits, or fills memory."""

import contextlib
import json
import os
import shutil
import signal
import types
import zipfile

import pytest

import oneshot_tf as ost
from oneshot_tf import (
    analyze,
    export,
    predict,
    reproduce,
    retrain,
    search,
    settings,
    train,
    tune,
)
from oneshot_tf.cost import counts
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.runs.directory import FOLDERS, RunDirectory
from oneshot_tf.strategies import PathDropoutSettings, RandomSearchSettings
from oneshot_tf.system.array_files import read_arrays
from oneshot_tf.system.json_files import write_json

SECONDS = 30  # a program that waits for a pipe waits for ever
DEVICE = settings.DeviceSettings(distribution="cpu")
GROUPS = {
    "data": settings.DataSettings(dataset="digits", num_validation=100),
    "model": settings.ModelSettings(num_blocks=1, num_cells=1, filters=2),
    "train": settings.TrainSettings(batch_size=32, augmentation="none"),
    "one_shot": settings.OneShotSettings(train_steps=2),
    "strategy": PathDropoutSettings(),
    "device": DEVICE,
}
TUNE = tune.TuneSettings(max_trials=1)
RETRAIN = settings.RetrainSettings(top=1, count=1, epochs=0.1)
PROGRAMS = {
    "train": lambda run: train.main(run, *GROUPS.values()),
    "search": lambda run: search.main(
        run, search.SearchSettings(num_candidates=2), RandomSearchSettings(),
        settings.LocationSettings(), DEVICE,
    ),
    "retrain": lambda run: retrain.main(
        run, RETRAIN, GROUPS["train"], DEVICE, settings.LocationSettings()
    ),
    "export": lambda run: export.main(
        run, export.ExportSettings(), settings.LocationSettings()
    ),
    "analyze": lambda run: analyze.main(run, analyze.AnalyzeSettings(resamples=100)),
    "tune": lambda run: tune.main(run, TUNE, *GROUPS.values()),
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory, digits):
    """A run whose one-shot model has random weights, with a candidate."""
    path = tmp_path_factory.mktemp("base") / "run"
    space, model = ost.bender2018(1), GROUPS["model"]
    facts = {"class_names": list(digits.class_names), "image_size": 8,
             "mean": digits.mean.tolist(), "std": digits.std.tolist(),
             "fingerprint": digits.fingerprint()}  # fmt: skip
    directory = RunDirectory(path)
    directory.begin(GROUPS, space, [], facts)
    supernet = ost.Supernet(space, model.stack(), digits.num_classes)
    owner = RunDirectory(path).run_id()
    Checkpoints(path / "checkpoints", owner=owner).save(2, supernet.variables)
    chosen = ost.RandomSearch(space, 0).propose(1)
    net = (space, chosen, model.stack(), digits.num_classes)
    costs = int(counts.parameters(*net)[0]), int(counts.multiply_adds(*net, 8)[0])
    candidate = Candidate(chosen[0], 0.5, 1.0, 100, *costs)
    CandidateFile(directory).write([candidate])
    made_with = {"seed": 0, "step": 2, "rank_by": "accuracy", "skip_twins": True, "budget": "full",
                 "trained_in": "", "run_id": directory.run_id()}  # fmt: skip
    write_json(path / "search.json", made_with)
    return path


class Place:
    """A copy of the run, and a folder beside it that nobody may touch."""

    def __init__(self, base, folder):
        self.run = folder / "run"
        shutil.copytree(base, self.run)
        self.outside = folder / "outside"
        (self.outside / "sub").mkdir(parents=True)
        for name in ("thesis.txt", "architecture.json", "sub/result.json", "sub/precious.txt"):
            (self.outside / name).write_text('{"step": 10, "class_names": []}\n')
        self.before = self._tree()

    def _tree(self):
        return {
            str(path): (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes())
            for path in (self.outside, *self.outside.rglob("*"))
        }

    def put(self, name, kind):
        """Puts something hostile at the place of a file or folder of the run."""
        path = self.run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "huge":
            with open(path, "wb") as file:
                file.truncate(2**40)
        else:
            path.symlink_to({"folder link": self.outside, "zero": "/dev/zero",
                             "link": self.outside / "thesis.txt",
                             "loop": path, "dangling": self.outside / "new"}[kind])  # fmt: skip

    def refused(self, program, name):
        """Runs a program; returns what it says."""
        with in_time(), pytest.raises(ost.InputError) as error:
            program(types.SimpleNamespace(run_dir=str(self.run)))
        assert self._tree() == self.before
        assert str(self.run / name) in str(error.value) and "\n" not in str(error.value)
        return str(error.value)


@pytest.fixture
def place(base, tmp_path):
    return Place(base, tmp_path)


@contextlib.contextmanager
def in_time():
    def late(*_):
        raise TimeoutError(f"waited for {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "name",
    [*FOLDERS, "retrain/top", "retrain/top/net_00", "export/variables", "trials/a/b"],
)
def test_no_program_follows_a_folder_that_leads_out(place, name):
    place.put(name, "folder link")
    for program in PROGRAMS.values():
        assert "outside of" in place.refused(program, name)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "zero"])
def test_the_lock_is_a_file_or_refused(place, kind):
    place.put(".lock", kind)
    for program in PROGRAMS.values():
        assert "must be a file; it is a " in place.refused(program, ".lock")


@pytest.mark.parametrize("kind", ["loop", "dangling"])
@pytest.mark.parametrize("name", [".lock", "candidates.csv", "metrics.jsonl", "config.json"])
def test_a_link_that_leads_nowhere_is_not_a_file_that_is_missing(place, name, kind):
    place.put(name, kind)
    for program in PROGRAMS.values():
        assert "is a link that leads nowhere" in place.refused(program, name)


CASES = [
    ("provenance.jsonl", ["train", "analyze"], ["link", "pipe", "folder"]),
    ("provenance.jsonl", ["train"], ["dangling"]),
    ("provenance.jsonl", ["analyze"], ["huge"]),
    ("metrics.jsonl", ["train", "analyze"], ["link", "pipe", "zero"]),
    ("tracked.jsonl", ["analyze"], ["link", "pipe", "folder", "huge"]),
    ("config.json", [*PROGRAMS][:-1], ["link", "pipe", "zero", "huge"]),
    ("candidates.csv", ["search", "retrain", "analyze"], ["link", "pipe", "zero", "huge"]),
    ("search.json", ["search"], ["link", "pipe", "zero", "huge"]),
    ("race.npz", ["search"], ["link", "pipe", "zero", "huge", "folder"]),
    ("rollbacks.json", ["train"], ["link", "pipe"]),
    ("retrain/top/result.json", ["export", "analyze"], ["pipe", "huge"]),
    ("retrain/top/settings.json", ["retrain"], ["pipe", "huge"]),
    ("checkpoints/step_000000002.npz", ["search"], ["link", "pipe", "folder", "huge"]),
    ("settings.json", ["tune"], ["link", "pipe", "huge"]),
]


@pytest.mark.parametrize("name, programs, kinds", CASES, ids=[f"{c[0]}-{c[1][0]}" for c in CASES])
def test_files_that_are_none_are_refused(place, name, programs, kinds):
    if programs[0] == "train":  # these have no optimizer's variables
        shutil.rmtree(place.run / "checkpoints")
    for kind in kinds:
        place.put(name, kind)
        for program in programs:
            place.refused(PROGRAMS[program], name)


def test_a_search_adds_nothing_to_a_file_elsewhere(place):
    place.put("provenance.jsonl", "link")
    assert "must be a file; it is a link" in place.refused(PROGRAMS["search"], "provenance.jsonl")


def test_leftovers_are_removed_but_not_followed(place):
    for name in (".export.1.writing", "checkpoints/.x.2.writing"):
        (place.run / name).symlink_to(place.outside)
    (place.run / ".mine.writing").write_text("a user's")
    with pytest.raises(ost.InputError, match="outside of"):
        RunDirectory(place.run)
    (place.run / "checkpoints" / ".x.2.writing").unlink()
    with RunDirectory(place.run).locked():
        assert not (place.run / ".export.1.writing").is_symlink()
    assert place._tree() == place.before and (place.run / ".mine.writing").exists()


def test_the_run_directory_itself_may_be_a_link(place, tmp_path):
    (tmp_path / "link").symlink_to(place.run)
    (place.run / "checkpoints" / "newest").symlink_to("step_000000002.npz")  # stays inside
    PROGRAMS["analyze"](settings.RunSettings(run_dir=str(tmp_path / "link")))
    assert (place.run / "report" / "report.html").exists()
    assert place._tree() == place.before


@pytest.mark.parametrize("name", ["tensorboard", "checkpoints"])
def test_a_library_call_follows_no_link_either(place, digits, name):
    place.put(name, "folder link")
    space = ost.bender2018(1)
    net = ost.Supernet(space, ost.Stack(1, 2), digits.num_classes)
    with pytest.raises(ost.InputError, match="outside of"):
        ost.fit_supernet(
            net, digits, ost.PathDropout(space, 0.1, "linear", 2), 2,
            GROUPS["train"], directory=place.run,
        )  # fmt: skip
    assert place._tree() == place.before


@pytest.mark.parametrize("name", ["one_shot", "rate_0.1"])
def test_reproduce_trains_in_no_folder_elsewhere(place, name):
    place.put(name, "folder link")
    run = lambda run: reproduce.main(  # noqa: E731
        run, reproduce.ReproduceSettings(), settings.LocationSettings(), DEVICE
    )
    assert "outside of" in place.refused(run, name)


@pytest.mark.parametrize(
    "name, kind",
    [("variables/variables.index", "pipe"), ("saved_model.pb", "zero"),
     ("architecture.json", "pipe"), ("architecture.json", "huge")],
)  # fmt: skip
def test_predict_reads_files_only(place, name, kind):
    (place.run / "export").mkdir()
    for file in ("saved_model.pb", "architecture.json"):
        (place.run / "export" / file).write_text("{}")
    place.put(f"export/{name}", kind)
    model = predict.PredictSettings(saved_model=str(place.run / "export"))
    place.refused(lambda _: predict.main(model, ["image.png"]), "export")


@pytest.mark.parametrize("dtype", [b"<U0", b"|S0", b"|V0"])
def test_texts_of_no_character_take_no_memory(place, dtype):
    """Two billion of them fit into 260 bytes."""
    text = b"{'descr': '%s', 'fortran_order': False, 'shape': (2000000000,), }" % dtype
    with zipfile.ZipFile(place.run / "race.npz", "w") as archive:
        member = b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(0x75) + b"\n"
        archive.writestr("architectures.npy", member)
    with pytest.raises(ost.InputError, match="an array of shape"):
        read_arrays(place.run / "race.npz")


def test_numbers_that_64_bits_cannot_hold_are_refused(place):
    config = json.loads((place.run / "config.json").read_text())
    config["one_shot"]["train_steps"] = 10**400
    (place.run / "config.json").write_text(json.dumps(config))
    for program in ("search", "retrain", "analyze"):
        assert "does not fit into 64 bits" in place.refused(PROGRAMS[program], "config.json")
