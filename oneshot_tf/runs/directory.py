"""The run directory: the settings of a run, its weights and its results.

config.json       the id, the settings and the data statistics of the run
flags.txt         the same settings, for --flagfile
space.json        the search space
provenance.jsonl  versions, commit, command, machine and threads, one line per start
metrics.jsonl     metrics of training, one line every --log_steps
decisions.jsonl   with a strategy that learns: what it has learnt, at the same steps
tracked.jsonl     with --track_architectures: the divergences of these, at the same steps
tensorboard/      the metrics and the histogram of candidate accuracies, for TensorBoard
diverged.json     only if the loss was not finite: a description of the failing step
rollbacks.json    only if training rolled back: the steps before and after each rollback
checkpoints/      checkpoints of the one-shot model
candidates.csv    one line per candidate
search.json       the settings that candidates.csv was made with
search/NAME/      the same files of a search with --name
auto.json         the decisions and the finished phases of auto
claims/           while copies of a search share work: their claims and results
stand_alone/      the candidate that --evaluator=stand_alone is training
retrain/          stand-alone models, their results and their answers
costs/            measured latencies and lengths of files
export/NUMBER/    a version of the exported model
report/           live.html of the program at work, and what analyze writes
"""

import contextlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

from oneshot_tf.data.dataset import Dataset
from oneshot_tf.data.sources import load_data
from oneshot_tf.runs.config_file import new_config, read_config, strategy_settings
from oneshot_tf.runs.provenance import note_provenance
from oneshot_tf.runs.same_settings import check_same
from oneshot_tf.settings import (
    DataSettings,
    DeviceSettings,
    LocationSettings,
    ModelSettings,
    Settings,
)
from oneshot_tf.space.space import Space
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.files import make_folder, remove_leftovers, user_path, write_atomically
from oneshot_tf.system.json_files import read_json, write_json
from oneshot_tf.system.locks import locked
from oneshot_tf.system.opening import check_folder, check_link
from oneshot_tf.system.printable import command

# Folders in a run directory or a tuning directory. A new folder must be added here, so that
# `RunDirectory` checks it.
FOLDERS = ("checkpoints", "claims", "costs", "export", "keras_tuner", "report", "retrain", "search",
           "stand_alone", "tensorboard", "trials")  # fmt: skip

_NAME = re.compile("[A-Za-z0-9_-]{1,100}")

Kind = TypeVar("Kind", bound=Settings)


class RunDirectory:
    """A run directory, with the files listed at the top of this module.

    The directory may come from anybody. So the constructor makes sure that its folders hold only
    files and folders, and that no link in them leads out of the run.

    Args:
        path: Path of the directory, which `begin` creates. It may itself be a link.
        search: Name of the search whose candidates are meant. Empty: the search without a name.

    Attributes:
        searched: The folder of candidates.csv, search.json and race.npz.

    Raises:
        InputError: The name is not 1 to 100 letters, digits, '_' and '-'; or a folder leads out
            of the run or holds something that is not a file; or a link leads nowhere.
    """

    def __init__(self, path: str | os.PathLike, search: str = ""):
        if search and not _NAME.fullmatch(search):
            raise InputError(
                "The name of a search must be 1 to 100 letters, digits, '_' and '-'; got "
                f"{short(search)}."
            )
        self.path = user_path(path)
        self.searched = self.path / "search" / search if search else self.path
        for name in FOLDERS:
            check_folder(self.path / name, self.path)
        with contextlib.suppress(NotADirectoryError, FileNotFoundError):
            for name in os.listdir(self.path):
                check_link(self.path / name)

    def searches(self) -> list[str]:
        """Returns the names of the searches that have candidates. "" is the one without a name."""
        found = self.path.glob("search/*/candidates.csv")
        names = sorted(path.parent.name for path in found if _NAME.fullmatch(path.parent.name))
        return [*([""] if (self.path / "candidates.csv").exists() else []), *names]

    @contextlib.contextmanager
    def locked(self, shared: bool = False) -> Iterator[None]:
        """Locks the directory for this process.

        Args:
            shared: Whether other programs that only add files of their own may share the lock.

        Raises:
            InputError: Another program works in the directory.
        """
        with locked(self.path, shared):
            if not shared:
                remove_leftovers(self.path)
            yield

    def check_settings(self, groups: dict[str, Settings]) -> None:
        """Refuses to resume a run with settings that would change its result.

        Args:
            groups: Settings objects by group name, for example `{"model": …}`.

        Raises:
            InputError: A setting differs. The message names the first one.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--run_dir must be a folder; {self.path} is a file.")
        if not (self.path / "config.json").exists():
            if self.path.is_dir() and any(self.path.glob("checkpoints/*.npz")):
                raise InputError(
                    f"--run_dir={self.path} has checkpoints but no config.json, so their settings "
                    "are unknown. Restore config.json, or give another --run_dir."
                )
            return
        check_same(
            f"--run_dir={self.path}",
            self.config(),
            groups,
            f"To resume, give --flagfile={self.path}/flags.txt. To start anew, give another "
            "--run_dir.",
        )

    def begin(
        self,
        groups: dict[str, Settings],
        space: Space,
        flag_lines: Iterable[str],
        data_facts: dict,
    ) -> None:
        """Writes flags.txt, space.json and then config.json, with a new run id.

        If a run exists already, it only restores a lost flags.txt or space.json.

        Args:
            groups: Settings objects by group name.
            space: The search space.
            flag_lines: The same settings as lines of a flag file.
            data_facts: The facts about the data, as `config_file.facts_of` returns them.
        """
        lines = "".join(line + "\n" for line in flag_lines)
        new = not (make_folder(self.path) / "config.json").exists()
        if new or not (self.path / "flags.txt").exists():
            write_atomically(self.path / "flags.txt", lambda file: file.write(lines))
        if new or not (self.path / "space.json").exists():
            write_json(self.path / "space.json", space.to_dict())
        if new:
            write_json(self.path / "config.json", new_config(groups, data_facts))

    def exists(self) -> bool:
        """Returns whether there is a run: a folder with config.json."""
        return (self.path / "config.json").exists()

    def config(self) -> dict:
        """Returns the contents of config.json; see `config_file.read_config`.

        Raises:
            InputError: There is no run, or config.json is damaged or has an unsupported version.
        """
        if not self.exists():
            raise InputError(
                f"--run_dir={self.path} holds no run: config.json is missing. Train one first: "
                f"{command('train', f'--run_dir={self.path}')}."
            )
        return read_config(self.path / "config.json")

    def run_id(self) -> str | None:
        """Returns the id that marks the files of this run: 32 hexadecimal digits.

        Returns None for a run that version 1 began. The files of such a run carry no id.

        Raises:
            InputError: As in `config`.
        """
        return self.config()["run_id"]

    def space(self) -> Space:
        """Returns the search space of the run.

        Raises:
            InputError: space.json is missing, damaged or not the space of the settings.
        """
        path, model = self.path / "space.json", self.group(ModelSettings, "model")
        space = model.search_space()
        if read_json(path) != json.loads(json.dumps(space.to_dict())):
            remedy = "Remove it, and train will write it again"
            if ":" in model.space:
                remedy = f"If {model.space} has changed since, restore it"
            raise InputError(
                f"{path} does not match the settings in {self.path / 'config.json'}. {remedy}."
            )
        return space

    def group(self, kind: type[Kind], name: str) -> Kind:
        """Returns a settings object of class `kind` from config.json.

        Raises:
            InputError: As in `config`.
        """
        return kind(**self.config()[name])

    def strategy(self) -> Settings:
        """Returns the settings of the strategy that trained the one-shot model.

        Raises:
            InputError: As in `config`.
        """
        values = self.config()["strategy"]
        return strategy_settings(values["strategy"])(**values)

    def stack(self, num_cells: int = 0, filters: int = 0) -> Stack:
        """Returns the stack of the one-shot model, or a stack with other sizes.

        Args:
            num_cells: Number of cells. 0 keeps the one-shot model's number.
            filters: Number of filters, F. 0 keeps the one-shot model's number.

        Raises:
            InputError: A size is out of range.
        """
        return self.group(ModelSettings, "model").stack(num_cells, filters)

    def facts(self) -> dict:
        """Returns the facts about the data: class_names, image_size, fingerprint and others.

        Raises:
            InputError: As in `config`.
        """
        return self.config()["facts"]

    def load_data(self, location: LocationSettings, test: bool = False) -> Dataset:
        """Loads the data set that the run was trained on.

        Args:
            location: The current place of the data set, if it has moved.
            test: Whether the test images must be the same as well. For a folder, this check reads
                the files but does not decode them.

        Raises:
            InputError: The data set cannot be loaded, or has changed.
        """
        data = self.group(DataSettings, "data").to_dict()
        data["download"] = location.download
        kind, _, place = data["dataset"].partition(":")
        if kind in ("folder", "npz"):
            if location.data_dir:
                data["dataset"] = f"{kind}:{location.data_dir}"
            elif not user_path(place).exists():
                raise InputError(
                    f"{self.path} was trained on the images in {place}, which no longer exists. "
                    "If they have moved, give --data_dir with the new path of the "
                    f"{'folder' if kind == 'folder' else 'file'}."
                )
        data["data_dir"] = location.data_dir or data["data_dir"]
        dataset = load_data(**data)
        self.check_data(dataset, test)
        return dataset

    def check_data(self, dataset: Dataset, test: bool = False) -> None:
        """Makes sure that the images, labels and classes are those of the training.

        Args:
            dataset: The data set to compare.
            test: Whether to compare the test images too. If the run has no checksum of them, a
                line is printed instead.

        Raises:
            InputError: The images, labels or classes differ.
        """
        facts = self.facts()
        if list(dataset.class_names) != facts["class_names"]:
            raise InputError(
                f"{dataset.name} has the classes {', '.join(dataset.class_names)[:200]}; "
                f"{self.path} was trained on {', '.join(facts['class_names'])[:200]}."
            )
        known = facts["fingerprint"]
        old = "test" not in known  # version 1 began the run
        if test and old:
            print(
                f"{self.path / 'config.json'} has no checksum of the test images, because an "
                "earlier version began the run. If they have changed, it goes unnoticed.",
                flush=True,
            )
        for split, now in dataset.fingerprint(test and not old).items():
            before = known[split]
            # Version 1 wrote 0 for the checksum of TFRecords.
            if now != before and not (old and before[2] == 0 and now[:2] == before[:2]):
                raise InputError(_changed(dataset.name, self.path, split, before, now, old))

    def threads(self, asked: int) -> int:
        """Returns the number of threads for `set_threads`: the given number, or the run's.

        Args:
            asked: The value of --threads. 0 means the number of the run.
        """
        if asked or not self.exists():
            return asked
        return self.group(DeviceSettings, "device").threads

    def note_provenance(self, work: str) -> None:
        """Appends a line to provenance.jsonl; see `provenance.note_provenance`."""
        note_provenance(self.path / "provenance.jsonl", work)


def _changed(
    name: str, path: pathlib.Path, split: str, before: list[int], now: list[int], old: bool
) -> str:
    harm = (
        "Results on the test images would not be comparable."
        if split == "test"
        else "Candidates might be ranked on images that the weights were trained on."
    )
    split_anew = (
        " An earlier version began the run. It split folder: and npz: data without regard to "
        "classes."
        if old and name.startswith(("folder:", "npz:"))
        else ""
    )
    return (
        f"The {split} images of {name} have changed since {path} was trained ({before[0]:,} then, "
        f"{now[0]:,} now). {harm}{split_anew} Restore them, or train anew in another --run_dir."
    )
