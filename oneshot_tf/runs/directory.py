"""The run directory: what a run was made with, and what it found.

config.json       the run's id, settings and data statistics; the same run needs the same
flags.txt         the same settings, for --flagfile
space.json        the search space
provenance.jsonl  versions, commit, command, machine and threads of each start, a line each
metrics.jsonl     one line every --log_steps
tracked.jsonl     only with --track_architectures: their divergences, at the same steps
tensorboard/      the same and the histogram of candidate accuracies, for TensorBoard
diverged.json     only where the loss was not finite: what it looked like
rollbacks.json    only where training went back for that: from where to where
checkpoints/      of the one-shot model
candidates.csv    one line a candidate
search.json       what candidates.csv was made with
retrain/          stand-alone nets and their results
export/           the SavedModel
"""

import contextlib
import json
import pathlib
import platform
import subprocess
import sys
import time
from importlib import metadata

from oneshot_tf.data.dataset import Dataset
from oneshot_tf.data.sources import load_data
from oneshot_tf.devices.threads import FORM, going_on, surroundings
from oneshot_tf.runs.config_file import new_config, read_config
from oneshot_tf.settings import DataSettings, DeviceSettings, ModelSettings
from oneshot_tf.space.cell_space import CellSpace, bender2018
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import (
    append_line,
    make_folder,
    read_json,
    read_json_lines,
    remove_leftovers,
    user_path,
    write_atomically,
    write_json,
)
from oneshot_tf.system.locks import locked
from oneshot_tf.system.opening import check_folder
from oneshot_tf.system.printable import command

# Settings that may differ when a run goes on, or is trained alone: they don't change results.
FREE = {"run_dir", "data_dir", "download", "distribution", "threads",
         "device_batch_size", "skip_paths",
         "log_steps", "checkpoint_steps", "keep_checkpoints", "nan_policy",
         "max_rollbacks", "track_architectures"}  # fmt: skip
# Folders of a run, and of what tunes runs. A new one must be added: see `RunDirectory`.
FOLDERS = ("checkpoints", "export", "keras_tuner", "report", "retrain", "tensorboard", "trials")


def check_same(what, before: dict, now: dict, way_out: str, free=()) -> None:
    """Refuses to go on with other settings than something was made with.

    Args:
        what: was made.
        before, now: values by setting by group.
        way_out: the end of the message.
        free: settings that may differ, besides `FREE`.

    Raises:
        InputError: names the first setting that differs.
    """
    for group, values in now.items():
        for name, value in values.items():
            old = before.get(group, {}).get(name)
            if name not in FREE and name not in free and old != value:
                raise InputError(
                    f"{what} was made with --{name}={old}, now it is --{name}={value}. {way_out}"
                )


class RunDirectory:
    """A folder with the files named at the top of this module.

    It may come from anybody. So nothing of it is used before it is known that its folders
    hold nothing but files and folders, and that no link in them leads out of it.

    Args:
        path: the folder; made by `begin`. It may be a link itself.

    Raises:
        InputError: one of its folders, or something below, leads out of it or is no file.
    """

    def __init__(self, path):
        self.path = user_path(path)
        for name in FOLDERS:
            check_folder(self.path / name, self.path)

    @contextlib.contextmanager
    def locked(self, shared: bool = False):
        """Holds the directory for this process.

        Args:
            shared: beside others who only add to it what is their own.

        Raises:
            InputError: another program works there.
        """
        with locked(self.path, shared):
            if not shared:
                remove_leftovers(self.path)
            yield

    def check_settings(self, groups: dict) -> None:
        """Refuses to go on with other settings than the run was made with.

        Args:
            groups: objects of `settings` by group name, such as {"model": …}.

        Raises:
            InputError: names the first setting that differs.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--run_dir={self.path} is a file; needed is a folder.")
        if not (self.path / "config.json").exists():
            if self.path.is_dir() and any(self.path.glob("checkpoints/*.npz")):
                raise InputError(
                    f"--run_dir={self.path} has checkpoints but no config.json, so what they were "
                    "made with is unknown; put config.json back, or give another --run_dir."
                )
            return
        self.config()
        check_same(
            f"--run_dir={self.path}",
            {name: self.group(type(now), name).to_dict() for name, now in groups.items()},
            {name: now.to_dict() for name, now in groups.items()},
            f"To go on, give --flagfile={self.path}/flags.txt; to start anew, another --run_dir.",
        )

    def begin(self, groups: dict, space: CellSpace, flag_lines, data_facts: dict) -> None:
        """Writes flags.txt, space.json and, when these are whole, config.json with a new run id.

        Where there is a run already, it only writes a lost flags.txt or space.json.
        """
        lines = "".join(line + "\n" for line in flag_lines)
        new = not (make_folder(self.path) / "config.json").exists()
        if new or not (self.path / "flags.txt").exists():
            write_atomically(self.path / "flags.txt", lambda file: file.write(lines))
        if new or not (self.path / "space.json").exists():
            write_json(self.path / "space.json", space.to_dict())
        if new:
            write_json(self.path / "config.json", new_config(groups, data_facts))

    def config(self) -> dict:
        """What `begin` wrote, see `read_config`.

        Raises:
            InputError: there is no run, or config.json is damaged or of another version.
        """
        if not (self.path / "config.json").exists():
            raise InputError(
                f"--run_dir={self.path} holds no run (config.json is missing); train one first: "
                f"{command('train', f'--run_dir={self.path}')}."
            )
        return read_config(self.path / "config.json")

    def run_id(self) -> str | None:
        """What tells this run's files from those of others, drawn when it began: 32 hex digits.

        None for a run that an earlier version began. Its files are not told apart.

        Raises:
            InputError: as `config`.
        """
        return self.config()["run_id"]

    def space(self) -> CellSpace:
        """The search space of the run.

        Raises:
            InputError: it is missing, damaged or not that of the settings.
        """
        path = self.path / "space.json"
        space = bender2018(self.group(ModelSettings, "model").num_blocks)
        if read_json(path) != json.loads(json.dumps(space.to_dict())):
            raise InputError(
                f"{path} is not the space of {self.path / 'config.json'}; remove it, and train "
                "writes it anew."
            )
        return space

    def group(self, kind, name: str):
        """A settings object of class `kind` from config.json.

        Raises:
            InputError: as `config`.
        """
        return kind(**self.config()[name])

    def stack(self, num_cells: int = 0, filters: int = 0) -> Stack:
        """The stack of the one-shot model, or of a net of other sizes.

        Raises:
            InputError: a size is out of range.
        """
        return self.group(ModelSettings, "model").stack(num_cells, filters)

    def facts(self) -> dict:
        """What config.json says of the data: class_names, image_size, fingerprint, ….

        Raises:
            InputError: as `config`.
        """
        return self.config()["facts"]

    def load_data(self, location, test: bool = False) -> Dataset:
        """The data set that the run was trained on.

        Args:
            location: `LocationSettings`: where it is now, if it moved.
            test: whether the test images must be those of the training too. The files of a folder
                are read for it, but not decoded.

        Raises:
            InputError: it can't be had, or isn't the same any more.
        """
        data = self.group(DataSettings, "data").to_dict()
        data["download"] = location.download
        kind, _, place = data["dataset"].partition(":")
        if kind in ("folder", "npz"):
            if location.data_dir:
                data["dataset"] = f"{kind}:{location.data_dir}"
            elif not user_path(place).exists():
                raise InputError(
                    f"{self.path} was trained on the images of {place}, which is not there any "
                    "more. If they moved, give --data_dir with the path of the "
                    f"{'folder' if kind == 'folder' else 'file'} now."
                )
        data["data_dir"] = location.data_dir or data["data_dir"]
        dataset = load_data(**data)
        self.check_data(dataset, test)
        return dataset

    def check_data(self, dataset: Dataset, test: bool = False) -> None:
        """Raises InputError if the images, labels or classes aren't those of the training.

        Args:
            dataset: to compare.
            test: whether to compare the test images too. Where the run says nothing about them,
                a line is printed.
        """
        facts = self.facts()
        if list(dataset.class_names) != facts["class_names"]:
            raise InputError(
                f"{dataset.name} has the classes {', '.join(dataset.class_names)[:200]}; those of "
                f"{self.path} are {', '.join(facts['class_names'])[:200]}."
            )
        known = facts["fingerprint"]
        old = "test" not in known  # an earlier version began the run
        if test and old:
            print(
                f"{self.path / 'config.json'} has no checksum of the test images, because an "
                "earlier version began the run. A change of them would go unnoticed.",
                flush=True,
            )
        for split, now in dataset.fingerprint(test and not old).items():
            before = known[split]
            # Earlier versions had no checksum of the contents of TFRecords, but 0.
            if now != before and not (old and before[2] == 0 and now[:2] == before[:2]):
                raise InputError(_changed(dataset.name, self.path, split, before, now, old))

    def threads(self, asked: int) -> int:
        """What to give `set_threads`: the number asked for, or what the run was begun with.

        Args:
            asked: the value of --threads; 0 for the run's.
        """
        if asked or not (self.path / "config.json").exists():
            return asked
        return self.group(DeviceSettings, "device").threads

    def note_provenance(self, work: str) -> None:
        """Adds to provenance.jsonl how and with what a program was started.

        Prints a line if the same work was begun in surroundings that may give other results.

        Args:
            work: what the program works on, such as "train" or "retrain/top".
        """
        path = self.path / "provenance.jsonl"
        around = surroundings()
        starts = read_json_lines(path, {"work": str, **FORM})
        begun = next((start for start in starts if start["work"] == work), None)
        if line := going_on(begun, around) if begun else "":
            print(line, flush=True)
        start = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": sys.argv,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in _PACKAGES if _version(name)},
            "commit": _commit(),
            "host": platform.node(),
            "machine": platform.platform(),
            "work": work,
            **around,
        }
        append_line(path, json.dumps(start))


def _changed(name, path, split, before, now, old):
    harm = (
        "so results on test images would not be comparable"
        if split == "test"
        else "so images that weights were trained on would rank candidates"
    )
    split_anew = (
        " An earlier version began the run, which split folder: and npz: without regard to classes."
        if old and name.startswith(("folder:", "npz:"))
        else ""
    )
    return (
        f"The {split} images of {name} have changed since {path} was trained ({before[0]:,} then, "
        f"{now[0]:,} now), {harm}.{split_anew} Restore them, or train anew in another --run_dir."
    )


_PACKAGES = ("oneshot_tf", "tensorflow", "tensorflow-cpu", "tensorflow-tpu", "keras", "numpy",
             "tensorflow-datasets", "scikit-learn")  # fmt: skip


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit():
    """The commit of the checkout that the package runs from, if it does."""
    folder = pathlib.Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
