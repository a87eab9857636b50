"""retrain/NAME/result.json: the results of the stand-alone nets of a selection."""

import math
import os
import pathlib
import zlib
from typing import Any

import numpy as np

from oneshot_tf.cost.baselines import BASELINES, Baseline, of_text
from oneshot_tf.runs.baselines import costs_of, is_baseline
from oneshot_tf.runs.config_file import stored_settings
from oneshot_tf.settings import DataSettings, FinalSettings, RetrainSettings, TrainSettings
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.files import write_atomically
from oneshot_tf.system.json_files import check_form, check_run, read_json
from oneshot_tf.system.printable import printable

_ROUNDING = 1e-6  # tolerance for means and standard deviations
_OF_AN_IMAGE = 0.01  # tolerance in images: early versions stored accuracies in single precision
# More settings and values that results have in runs with an id.
_SETTINGS = {"retrain": RetrainSettings, "train": TrainSettings}
_COMPLETE = {"device": {"mixed_precision": bool}, "chosen": {"architectures": [str]},
             "num_training_images": int, "evaluated_in": str}  # fmt: skip
_ORDER = ("top", "small", "random", "stratified", "pareto", "all_on", *BASELINES)
_NET = {"architecture": str, "rank": (int, None), "candidate_accuracy": (float, None),
        "parameters": int, "multiply_adds": int, "folder": [str], "accuracies": [float],
        "mean": float, "std": (float, None)}  # fmt: skip
_RETRAIN = {"select": str, "num_cells": int, "filters": int, "seed": int}
_RESULT = {"retrain": _RETRAIN, "evaluated_on": str,
           "num_images": int, "num_steps": int, "nets": [_NET], "mean": float,
           "std": (float, None)}  # fmt: skip


def owner_of(run_id: str | None, place: str | os.PathLike) -> str | None:
    """Returns the owner that marks the checkpoints of a stand-alone net.

    Args:
        run_id: Id of the run. None gives None.
        place: Folder of the net, below retrain/.
    """
    return None if run_id is None else f"{run_id}/{place}"


def read_result(directory: Any, path: str | os.PathLike) -> dict:
    """Reads and checks a result.json.

    Args:
        directory: `RunDirectory` of the run.
        path: Path of the file.

    Raises:
        InputError: The file is missing, is damaged, belongs to another run, holds a value that
            cannot have been measured, or names a folder outside its own.
    """
    path = pathlib.Path(path)
    result = read_json(path)
    check_run(path, result, directory.run_id())
    check_form(path, result, _RESULT)
    if result["retrain"]["select"] not in _ORDER or not result["nets"]:
        raise InputError(f"{path} is damaged: it has no nets or an unknown selection.")
    if "strata" in result:
        check_form(path, result["strata"], {"edges": [float], "candidates": [int]})
        if len(result["strata"]["edges"]) != len(result["strata"]["candidates"]) + 1:
            raise InputError(f"{path} is damaged: B strata must have B + 1 edges.")
    root = path.parent.resolve()
    for net in result["nets"]:
        check_form(path, net.get("candidate_num_images"), (int, None))
        if not net["folder"] or len(net["folder"]) != len(net["accuracies"]):
            raise InputError(f"{path} is damaged: a net must have a folder for each accuracy.")
        if (net["rank"] or 1) < 1 or (net.get("candidate_num_images") or 0) < 0:
            raise InputError(f"{path} is damaged: a rank or a number of images is negative.")
        balanced = net.get("balanced_accuracies", net["accuracies"])  # earlier versions had none
        check_form(path, {"balanced_accuracies": balanced}, {"balanced_accuracies": [float]})
        if len(balanced) != len(net["accuracies"]):
            raise InputError(f"{path} is damaged: a net has too few balanced accuracies.")
        shares = [*net["accuracies"], *balanced, net["mean"], net["candidate_accuracy"] or 0.0]
        if not all(math.isfinite(share) and 0.0 <= share <= 1.0 for share in shares):
            raise InputError(f"{path} is damaged: accuracies must be from 0 to 1; got {shares}.")
        for folder in net["folder"]:
            if not (root.parent / folder).resolve().is_relative_to(root):
                raise InputError(f"{path} is damaged: '{folder}' is not a folder below {root}.")
    if "final" in result:  # earlier versions had no tools of final training
        stored_settings(path, result["final"], "final", FinalSettings, complete=True)
    _check_numbers(directory, path, result)
    if directory.run_id() is not None:
        _check_complete(directory, path, result)
    return result


def mean_std(values: Any) -> dict:
    """Returns the mean and the sample standard deviation, which is None for a single value."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": std}


def num_steps(epochs: float, num_images: int, batch_size: int) -> int:
    """Returns the training steps of a stand-alone net on `num_images` training images."""
    return max(1, math.ceil(epochs * num_images / batch_size))


def net_seed(seed: int, architecture: Architecture | Baseline, repeat: int = 0) -> int:
    """Returns the seed of a stand-alone net. It is the same in every selection and search."""
    entropy = [seed, zlib.crc32(str(architecture).encode()), repeat]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)


def _check_numbers(directory: Any, path: pathlib.Path, result: dict[str, Any]):
    """Raises InputError for numbers that do not agree with each other."""
    if result["num_steps"] < 1 or result["num_images"] < 1 or result["num_steps"] > 10**9:
        raise InputError(
            f"{path} is damaged: a number is out of range: num_steps={result['num_steps']}, "
            f"num_images={result['num_images']}."
        )
    nets, retrain = result["nets"], result["retrain"]
    for net in nets:
        hits = result["num_images"] * np.array(net["accuracies"])
        if np.abs(hits - np.round(hits)).max() > _OF_AN_IMAGE:
            raise InputError(
                f"{path} is damaged: accuracies on {result['num_images']:,} images must be "
                f"multiples of 1/{result['num_images']}; got {short(net['accuracies'])}."
            )
        _check_spread(path, net, net["accuracies"])
    _check_spread(path, result, [net["mean"] for net in nets])
    space, facts = directory.space(), directory.facts()
    try:
        texts = [net["architecture"] for net in nets]
        architectures = [of_text(text) or Architecture.from_text(text) for text in texts]
        for architecture in architectures:
            # All On and baselines are trained, but are not in the space.
            if isinstance(architecture, Architecture) and architecture != space.all_on():
                space.check(architecture)
        stack = directory.stack(retrain["num_cells"], retrain["filters"])
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    sizes = (stack, len(facts["class_names"]), facts["image_size"])
    for net, architecture in zip(nets, architectures):
        for name, right in costs_of(space, architecture, *sizes).items():
            if net[name] != right:
                raise InputError(
                    f"{path} is damaged: {net['architecture']} has {right:,} {name}; the file says "
                    f"{net[name]:,}."
                )


def _check_spread(path: pathlib.Path, found: Any, values: Any):
    """Raises InputError unless the mean and standard deviation agree with the values."""
    for name, right in mean_std(values).items():
        value = found[name]
        same = value == right if None in (value, right) else abs(value - right) <= _ROUNDING
        if not same:  # NaN never equals the right value
            raise InputError(f"{path} is damaged: a {name} must be {right}; got {value}.")


def _check_complete(directory: Any, path: pathlib.Path, result: dict[str, Any]):
    """Raises InputError unless all values exist, and counts follow from settings and data."""
    for name, kind in _SETTINGS.items():
        stored_settings(path, result.get(name), name, kind, complete=True)
    check_form(path, result, _COMPLETE)
    retrain, fingerprint = result["retrain"], directory.facts()["fingerprint"]
    training = fingerprint["train"][0]
    if retrain["evaluate_on"] == "test":
        training += fingerprint["validation"][0]
    steps = num_steps(retrain["epochs"], training, result["train"]["batch_size"])
    judged = fingerprint[retrain["evaluate_on"]][0]
    rules = {
        "evaluated_on": retrain["evaluate_on"],
        "num_training_images": training,
        "num_steps": steps,
        "num_images": judged,
    }
    if directory.group(DataSettings, "data").skip_bad_images:  # some images may be left out
        rules["num_images"] = min(judged, result["num_images"])
    for name, right in rules.items():
        if result[name] != right:
            raise InputError(
                f"{path} is damaged: {name} must be {right}, which follows from the settings and "
                f"the images of the run; got {short(result[name])}."
            )
    if result["chosen"]["architectures"] != [net["architecture"] for net in result["nets"]]:
        raise InputError(f"{path} is damaged: its nets are not the chosen architectures.")


def judged_in(result: dict) -> str:
    """Returns the precision in which the nets of a result were evaluated: float32 or bfloat16.

    Older versions evaluated in the precision of training, and did not record it.
    """
    device = result.get("device")
    mixed = isinstance(device, dict) and device.get("mixed_precision") is True
    return str(result.get("evaluated_in", "bfloat16" if mixed else "float32"))


def read_results(directory: Any, baselines: bool = False) -> list[dict]:
    """Reads each retrain/NAME/result.json, and returns them in the order of `--select`.

    Args:
        directory: `RunDirectory` of the run.
        baselines: Whether to return results of baselines too.
    """
    paths = sorted((directory.path / "retrain").glob("*/result.json"))
    results = [{"name": path.parent.name, **read_result(directory, path)} for path in paths]
    results = [r for r in results if baselines or not is_baseline(r["nets"][0])]
    return sorted(results, key=lambda result: _ORDER.index(result["retrain"]["select"]))


def _balanced(nets: list[dict]) -> str:
    """Returns the mean balanced accuracy of nets as words; none for results without it."""
    values = [value for net in nets for value in net.get("balanced_accuracies", [])]
    return f"; balanced accuracy {np.mean(values):.4f}" if values else ""


def print_results(directory: Any) -> None:
    """Prints a table of the stand-alone nets, and writes it to retrain/table.txt."""
    lines = [
        "selection     rank  candidate  stand-alone (std, runs)  parameters  multiply-adds  "
        "architecture"
    ]
    results = read_results(directory, baselines=True)
    for result in results:
        for net in result["nets"]:
            rank = net["rank"] or "-"
            candidate = net["candidate_accuracy"]
            shared = "-" if candidate is None else f"{candidate:.4f}"
            spread = "-" if net["std"] is None else f"{net['std']:.4f}"
            alone = f"{net['mean']:.4f} ({spread}, {len(net['accuracies'])})"
            lines.append(
                f"{result['name']:12s}  {rank:>4}  {shared:>9}  {alone:>23}  "
                f"{net['parameters']:10,}  {net['multiply_adds']:13,}  {net['architecture']}"
                f"{' (baseline)' if is_baseline(net) else ''}"
            )
    for result in results:
        spread = "-" if result["std"] is None else f"{result['std']:.4f}"
        lines.append(
            f"{result['name']}: {result['mean']:.4f} (std {spread} over {len(result['nets'])} "
            f"net(s)) on {result['num_images']:,} {result['evaluated_on']} images, "
            f"{result['num_steps']:,} steps each{_balanced(result['nets'])}"
        )
    text = "\n".join(map(printable, lines))
    print(text, flush=True)
    write_atomically(directory.path / "retrain" / "table.txt", lambda file: file.write(text + "\n"))
