"""The run directory: what a run was made with, and what it found.

config.json       settings and data statistics; the same run needs the same
flags.txt         the same settings, for --flagfile
space.json        the search space
provenance.json   versions, commit, command and devices of each program started here
metrics.jsonl     one line every --log_steps
checkpoints/      of the one-shot model
candidates.csv    one line a candidate
search.json       what candidates.csv was made with
retrain/          stand-alone nets and their results
export/           the SavedModel
"""

import pathlib
import platform
import subprocess
import sys
import time
from importlib import metadata

from oneshot_tf.data import Dataset
from oneshot_tf.errors import InputError
from oneshot_tf.files import make_folder, read_json, write_atomically, write_json
from oneshot_tf.settings import DataSettings
from oneshot_tf.sources import load_data
from oneshot_tf.space.cell_space import CellSpace

# Settings that may differ when a run goes on, or is trained alone: they don't change results.
FREE = {"run_dir", "data_dir", "download", "distribution", "device_batch_size", "skip_paths",
         "log_steps", "checkpoint_steps"}  # fmt: skip


class RunDirectory:
    """A folder with the files named at the top of this module.

    Args:
        path: the folder; made by `begin`.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path).expanduser()

    def check_settings(self, settings: dict) -> None:
        """Refuses to go on with other settings than the run was made with.

        Args:
            settings: dicts of settings by group name, such as {"model": {…}, …}.

        Raises:
            InputError: names the first setting that differs.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--run_dir={self.path} is a file; needed is a folder.")
        if not (self.path / "config.json").exists():
            if self.path.is_dir() and any(self.path.glob("checkpoints/*.npz")):
                raise InputError(
                    f"--run_dir={self.path} has checkpoints but no config.json; give another."
                )
            return
        before = read_json(self.path / "config.json")
        for group, values in settings.items():
            for name, value in values.items():
                old = before.get(group, {}).get(name)
                if name not in FREE and old != value:
                    raise InputError(
                        f"--run_dir={self.path} was made with --{name}={old}, now it is "
                        f"--{name}={value}. To go on, give --flagfile={self.path}/flags.txt; to "
                        "start anew, another --run_dir."
                    )

    def begin(self, settings: dict, space: CellSpace, flag_lines, data_facts: dict) -> None:
        """Writes config.json, flags.txt and space.json, unless they are there."""
        make_folder(self.path)
        if (self.path / "config.json").exists():
            return
        lines = "".join(line + "\n" for line in flag_lines)
        write_atomically(self.path / "flags.txt", lambda file: file.write(lines))
        write_json(self.path / "space.json", space.to_dict())
        write_json(self.path / "config.json", {**settings, "facts": data_facts})

    def config(self) -> dict:
        """What `begin` wrote.

        Raises:
            InputError: no run there.
        """
        if not (self.path / "config.json").exists():
            raise InputError(
                f"--run_dir={self.path} holds no run (config.json is missing); train one first: "
                f"python -m oneshot_tf.train --run_dir={self.path}."
            )
        return read_json(self.path / "config.json")

    def space(self) -> CellSpace:
        """The search space of the run."""
        values = read_json(self.path / "space.json")
        try:
            return CellSpace(**{**values, "operations": tuple(values["operations"])})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{self.path / 'space.json'} is of another version ({error})."
            ) from None

    def group(self, kind, name: str):
        """A settings object from config.json."""
        try:
            return kind(**self.config()[name])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{self.path / 'config.json'} is of another version ({error}); train anew."
            ) from None

    def load_data(self, location) -> Dataset:
        """The data set that the run was trained on.

        Args:
            location: `LocationSettings`: where it is now, if it moved.

        Raises:
            InputError: it can't be had, or isn't the same any more.
        """
        data = self.group(DataSettings, "data").to_dict()
        data["download"] = location.download
        if location.data_dir and data["dataset"].startswith("folder:"):
            data["dataset"] = f"folder:{location.data_dir}"
        data["data_dir"] = location.data_dir or data["data_dir"]
        dataset = load_data(**data)
        self.check_data(dataset)
        return dataset

    def check_data(self, dataset: Dataset) -> None:
        """Raises InputError if the images, labels or classes aren't those of the training."""
        facts = self.config()["facts"]
        if list(dataset.class_names) != facts["class_names"]:
            raise InputError(
                f"{dataset.name} has the classes {', '.join(dataset.class_names)[:200]}; those of "
                f"{self.path} are {', '.join(facts['class_names'])[:200]}."
            )
        for split, now in dataset.fingerprint().items():
            before = facts["fingerprint"][split]
            if now != before:
                raise InputError(
                    f"The {split} images of {dataset.name} have changed since {self.path} was "
                    f"trained ({before[0]:,} then, {now[0]:,} now), so images that weights were "
                    "trained on would rank candidates. Restore them, or train anew in another "
                    "--run_dir."
                )

    def note_provenance(self, devices) -> None:
        """Adds to provenance.json how and with what a program was started."""
        file = self.path / "provenance.json"
        starts = read_json(file)["starts"] if file.exists() else []
        starts.append(
            {
                "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "command": sys.argv,
                "python": platform.python_version(),
                "packages": {name: _version(name) for name in _PACKAGES if _version(name)},
                "commit": _commit(),
                "machine": platform.platform(),
                "devices": devices,
            }
        )
        write_json(file, {"starts": starts})


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


def read_results(directory: RunDirectory) -> list[dict]:
    """The contents of each retrain/NAME/result.json, ordered as `--select` lists them."""
    paths = sorted((directory.path / "retrain").glob("*/result.json"))
    results = [{"name": path.parent.name, **read_json(path)} for path in paths]
    order = ("top", "small", "random", "all_on")
    return sorted(results, key=lambda result: order.index(result["retrain"]["select"]))


def print_results(directory: RunDirectory) -> None:
    """Prints the stand-alone nets of all selections, and writes it to retrain/table.txt."""
    lines = ["selection     rank  candidate  stand-alone (std, runs)  parameters  architecture"]
    for result in read_results(directory):
        for net in result["nets"]:
            rank = net["rank"] or "-"
            candidate = net["candidate_accuracy"]
            shared = "-" if candidate is None else f"{candidate:.4f}"
            spread = "-" if net["std"] is None else f"{net['std']:.4f}"
            alone = f"{net['mean']:.4f} ({spread}, {len(net['accuracies'])})"
            lines.append(
                f"{result['name']:12s}  {rank:>4}  {shared:>9}  {alone:>23}  "
                f"{net['parameters']:10,}  {net['architecture']}"
            )
    for result in read_results(directory):
        spread = "-" if result["std"] is None else f"{result['std']:.4f}"
        lines.append(
            f"{result['name']}: {result['mean']:.4f} (std {spread} over {len(result['nets'])} "
            f"net(s)) on {result['num_images']:,} {result['evaluated_on']} images, "
            f"{result['num_steps']:,} steps each"
        )
    text = "\n".join(lines)
    print(text, flush=True)
    write_atomically(directory.path / "retrain" / "table.txt", lambda file: file.write(text + "\n"))
