"""Exports a trained stand-alone model for serving.

The SavedModel takes uint8 images, or the bytes of JPEG and PNG files. It preprocesses them itself
and returns probabilities, class index and class name. Loading it needs only TensorFlow. Writing it
needs no images of the data set. At the end a fresh process loads the SavedModel and compares its
answers with those of the model on test patterns.

--format also writes files for Keras, TensorFlow Lite, ONNX and OpenVINO. They take uint8 images of
one size. Each file is run in a fresh process, on the images on which retrain measured the accuracy
of the model. A table compares the formats.

--inherit_weights exports a candidate of the search without retraining it.
"""

import dataclasses
import pathlib
import re
from typing import Any

import numpy as np

from oneshot_tf import settings
from oneshot_tf.analysis.live import live_page
from oneshot_tf.cost.baselines import of_text
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.nn.baselines import baseline_model
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.final_nets import final_nets
from oneshot_tf.runs.results import judged_in, owner_of, read_result
from oneshot_tf.runs.sizes import check_one_shot
from oneshot_tf.searching.inherited import inherit
from oneshot_tf.serving.check import check_in_fresh_process
from oneshot_tf.serving.class_names import renamed_classes
from oneshot_tf.serving.folder import target_folder, versions_beside
from oneshot_tf.serving.formats import FORMATS, SAVED_MODEL, check_formats, more_files
from oneshot_tf.serving.saved_model import Preprocessing
from oneshot_tf.serving.write import Asked, write_export
from oneshot_tf.settings import LimitSettings, Settings, command_line, setting
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.json_files import check_form
from oneshot_tf.system.locks import locked
from oneshot_tf.system.printable import command
from oneshot_tf.timing.exported import BeyondLimit, Judge

_LARGEST = 4096  # pixels of --input_size; a matrix of this width takes 64 MiB


@dataclasses.dataclass(frozen=True)
class ExportSettings(Settings):
    """Export."""

    net: str = setting(
        "",
        "Folder of a trained model below RUN_DIR/retrain, for example top/net_00/run_0. Empty: "
        "the model with the best rank among those scored on test images. If there are none, the "
        "model with the best validation accuracy.",
        common=True,
    )
    format: str = setting(
        SAVED_MODEL,
        f"Formats of the export, separated by commas: {', '.join(FORMATS)}. All formats except "
        "saved_model need the images of the data set.",
        common=True,
    )
    input_size: str = setting(
        "",
        "Height and width of the images that the files take, for example 480x640. They crop and "
        "resize such images themselves. This applies to all formats except keras, and to the "
        "signature `fixed` of the SavedModel. Empty: images of the training size, which are not "
        "resized.",
    )
    export_dir: str = setting(
        "", "Folder of the versions of the export. Empty: RUN_DIR/export.", common=True
    )
    version: int = setting(
        -1,
        "Number of the folder below --export_dir to write to, as TensorFlow Serving expects it. "
        "-1: the number after the largest one that is there. 0: --export_dir itself.",
        least=-1,
        common=True,
    )
    class_names: str = setting(
        "",
        "UTF-8 text file that renames the classes. Each class has one line: its name in the data "
        "set, a space or a tab, and the new name, for example 'n01440764 tench'. Empty: the names "
        "in the data set.",
    )

    inherit_weights: bool = setting(
        False,
        "Export a candidate of the search with the weights of the one-shot model, without "
        "retraining it. This needs the images of the data set.",
    )
    architecture: str = setting(
        "",
        "For --inherit_weights: the architecture, written as in candidates.csv, or its rank there. "
        "Empty: the candidate with rank 1.",
    )
    search: str = setting(
        "",
        "For --inherit_weights: name of the search (--name of search) whose candidates are ranked. "
        "Empty: the search without a name.",
    )
    calibration_images: int = setting(
        2000,
        "For --inherit_weights: number of training images that measure the averages of the batch "
        "norms.",
        least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_inheritance()
        if not self.formats or not set(self.formats) <= set(FORMATS):
            raise InputError(
                f"--format must be one or more of {', '.join(FORMATS)}, separated by commas; got "
                f"{self.format}."
            )
        if self.input_size and self.size is None:
            raise InputError(
                "--input_size must be a height and a width from 1 to "
                f"{_LARGEST}, for example 480x640; got {self.input_size}."
            )

    def _check_inheritance(self) -> None:
        if self.inherit_weights and self.net:
            raise InputError(
                f"--inherit_weights exports a candidate, and --net={self.net} a retrained model. "
                "Leave one of them out."
            )
        for name in ("architecture", "search"):
            if getattr(self, name) and not self.inherit_weights:
                raise InputError(
                    f"--{name} applies to --inherit_weights only. Add --inherit_weights, or give "
                    "--net to choose a retrained model."
                )

    @property
    def formats(self) -> list[str]:
        """The names of the formats, each once, with the SavedModel first."""
        names = dict.fromkeys(name.strip() for name in self.format.split(","))
        return sorted(filter(None, names), key=lambda name: name != SAVED_MODEL)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the images that the files take. None: the size of the training."""
        match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", self.input_size, re.ASCII)
        size = (int(match[1]), int(match[2])) if match else (0, 0)
        return size if min(size) >= 1 and max(size) <= _LARGEST else None


def main(
    run: settings.RunSettings,
    export: ExportSettings,
    location: settings.LocationSettings,
    limits: LimitSettings | None = None,
) -> None:
    """Exports a model. A SavedModel alone needs no images, so `location` does not matter then."""
    directory = RunDirectory(run.run_dir, export.search)
    check_one_shot(directory)  # refuses a folder without a run
    check_formats(export.formats, export.size)
    size = directory.facts()["image_size"]
    judge = Judge(limits or LimitSettings(), export.size or (size, size))
    judge.check_formats(export.formats)
    root = export.export_dir or directory.path / "export"
    with (
        directory.locked(shared=True),
        locked(directory.path, name=".export.lock"),
        target_folder(root, export.version, more_files()) as target,
        live_page(directory, "export"),
    ):
        _export_within(directory, export, location, target, judge)


def _export_within(
    directory: RunDirectory,
    export: ExportSettings,
    location: settings.LocationSettings,
    target: pathlib.Path,
    judge: Judge,
) -> None:
    """Exports the model, or with limits the first one that is within them."""
    if export.inherit_weights:
        _export(directory, export, location, target, judge)
        return
    refused = []
    for folder in _folders(directory, export.net):
        chosen = dataclasses.replace(export, net=str(folder))
        try:
            _export(directory, chosen, location, target, judge)
            return
        except BeyondLimit as error:
            refused.append(f"{folder.relative_to(directory.path.resolve() / 'retrain')}: {error}")
            if export.net:
                raise InputError(refused[0]) from None
            print(f"{refused[-1]} Trying the next model.", flush=True)
    raise InputError(
        f"No trained model is within the limits. {refused[0]} Raise the limit, or train smaller "
        "models: retrain takes the same limits."
    )


def _export(
    directory: RunDirectory,
    export: ExportSettings,
    location: settings.LocationSettings,
    target: pathlib.Path,
    judge: Judge,
) -> None:
    preprocessing = _preprocessing(directory, export.class_names)
    net, facts, dataset, source = _model(directory, export, location, judge)
    facts["run_id"] = directory.run_id()
    asked = Asked(target, tuple(export.formats), export.size, facts, dataset, judge)
    write_export(net, preprocessing, asked, check_in_fresh_process)
    print(f"Exported {source} ({net.architecture}) to {target}.", flush=True)
    if export.version:
        print(versions_beside(target), flush=True)


def _model(
    directory: RunDirectory,
    export: ExportSettings,
    location: settings.LocationSettings,
    judge: Judge,
) -> tuple[Any, dict[str, Any], Any, str]:
    """Returns the model to export, facts about it, the images if they are needed, and its name."""
    if export.inherit_weights:
        given = (location, export.architecture, export.calibration_images)
        inherited = inherit(directory, *given)
        judge.check_counts(inherited[1])
        return *inherited, "the weights of the one-shot model"
    folder = pathlib.Path(export.net)
    net, facts = _restore(directory, folder)
    judge.check_counts(facts)
    test = facts["evaluated_on"] == "test"
    needs_images = export.formats != [SAVED_MODEL]
    dataset = directory.load_data(location, test=test) if needs_images else None
    return net, facts, dataset, str(folder)


def _preprocessing(directory: RunDirectory, class_names: str) -> Preprocessing:
    """Reads the preprocessing of a run from the files of the run."""
    facts = directory.facts()
    check_form(directory.path / "config.json", facts, {"mean": [float], "std": [float]})
    mean, std = (np.array(facts[name], np.float32) for name in ("mean", "std"))
    if not (len(mean) == len(std) == 3 and np.isfinite([mean, std]).all() and (std > 0).all()):
        raise InputError(
            f"{directory.path / 'config.json'} is damaged: mean and std must be 3 numbers each, "
            "and std must be above 0."
        )
    fit = directory.group(settings.DataSettings, "data").fit
    names = tuple(renamed_classes(class_names, facts["class_names"]))
    return Preprocessing(facts["image_size"], mean, std, fit, names)


def _folders(directory: RunDirectory, net: str) -> list[pathlib.Path]:
    """Returns the folders of the models to export, below RUN_DIR/retrain, the best one first."""
    root = (directory.path / "retrain").resolve()
    if net:
        for start in (root, pathlib.Path.cwd()):
            folder = (start / net).resolve()
            if (folder / "checkpoints").is_dir() and folder.is_relative_to(root):
                return [folder]
        raise InputError(
            f"--net must be the folder of a trained model below {root}, for example "
            f"top/net_00/run_0; got {net}."
        )
    nets = final_nets(directory)
    if not nets:
        raise InputError(
            f"{directory.path} has no stand-alone model. Train one first: "
            f"{command('retrain', f'--run_dir={directory.path}')}."
        )
    return [root / net["folder"][0] for _, net in nets]


def _restore(directory: RunDirectory, folder: pathlib.Path) -> tuple[Any, dict[str, Any]]:
    """Returns the trained model of a folder, and facts about it."""
    result_file = folder.parent.parent / "result.json"
    result = read_result(directory, result_file)
    place = str(folder.relative_to((directory.path / "retrain").resolve()))
    entry = next((n for n in result["nets"] if place in n["folder"]), None)
    if entry is None:
        raise InputError(f"{result_file} does not list {place}. Let retrain finish first.")
    owner = owner_of(directory.run_id(), place)
    checkpoints = Checkpoints(folder / "checkpoints", owner=owner)
    checkpoints.check_size(result["num_steps"], entry["parameters"])
    stack = directory.stack(result["retrain"]["num_cells"], result["retrain"]["filters"])
    num_classes = len(directory.facts()["class_names"])
    baseline = of_text(entry["architecture"])
    if baseline is not None:
        net = baseline_model(baseline, stack, num_classes)
    else:
        architecture = Architecture.from_text(entry["architecture"])
        net = Standalone(directory.space(), architecture, stack, num_classes)
    checkpoints.restore_step(result["num_steps"], net.variables, averaged=True)
    accuracy = entry["accuracies"][entry["folder"].index(place)]
    facts = {
        "stand_alone_accuracy": accuracy,
        "evaluated_on": result["evaluated_on"],
        "evaluated_in": judged_in(result),
        "candidate_accuracy": entry["candidate_accuracy"],
        "candidate_num_images": entry.get("candidate_num_images"),
        "parameters": entry["parameters"],
        "multiply_adds": entry["multiply_adds"],
        "net": place,
    }
    return net, facts


if __name__ == "__main__":
    command_line.run(
        main, settings.RunSettings, ExportSettings, settings.LocationSettings, LimitSettings
    )
