"""retrain/NAME/result.json: what the stand-alone nets of a selection achieved."""

import math
import pathlib

from oneshot_tf.errors import InputError
from oneshot_tf.files import check_form, read_json, write_atomically
from oneshot_tf.printable import printable

_ORDER = ("top", "small", "random", "stratified", "all_on")
_NET = {"architecture": str, "rank": (int, None), "candidate_accuracy": (float, None),
        "parameters": int, "multiply_adds": int, "folder": [str], "accuracies": [float],
        "mean": float, "std": (float, None)}  # fmt: skip
_RETRAIN = {"select": str, "num_cells": int, "filters": int, "seed": int}
_RESULT = {"retrain": _RETRAIN, "evaluated_on": str,
           "num_images": int, "num_steps": int, "nets": [_NET], "mean": float,
           "std": (float, None)}  # fmt: skip


def read_result(path) -> dict:
    """What is in a result.json.

    Raises:
        InputError: it is missing, damaged, or names a folder outside of its own.
    """
    path = pathlib.Path(path)
    result = read_json(path)
    check_form(path, result, _RESULT)
    if result["retrain"]["select"] not in _ORDER or not result["nets"]:
        raise InputError(f"{path} is damaged: it has no nets, or an unknown selection.")
    if "strata" in result:
        check_form(path, result["strata"], {"edges": [float], "candidates": [int]})
        if len(result["strata"]["edges"]) != len(result["strata"]["candidates"]) + 1:
            raise InputError(f"{path} is damaged: B strata must have B + 1 edges.")
    root = path.parent.resolve()
    for net in result["nets"]:
        check_form(path, net.get("candidate_num_images"), (int, None))
        if not net["folder"] or len(net["folder"]) != len(net["accuracies"]):
            raise InputError(f"{path} is damaged: a net needs a folder for each accuracy.")
        shares = [*net["accuracies"], net["mean"], net["candidate_accuracy"] or 0.0]
        if not all(math.isfinite(share) and 0.0 <= share <= 1.0 for share in shares):
            raise InputError(f"{path} is damaged: accuracies must be from 0 to 1; got {shares}.")
        for folder in net["folder"]:
            if not (root.parent / folder).resolve().is_relative_to(root):
                raise InputError(f"{path} is damaged: '{folder}' is not a folder below {root}.")
    return result


def judged_in(result: dict) -> str:
    """The precision in which a result's nets were evaluated: float32 or bfloat16.

    Older versions evaluated in that of training, and didn't write it down.
    """
    device = result.get("device")
    mixed = isinstance(device, dict) and device.get("mixed_precision") is True
    return str(result.get("evaluated_in", "bfloat16" if mixed else "float32"))


def read_results(directory) -> list[dict]:
    """The contents of each retrain/NAME/result.json, ordered as `--select` lists them."""
    paths = sorted((directory.path / "retrain").glob("*/result.json"))
    results = [{"name": path.parent.name, **read_result(path)} for path in paths]
    return sorted(results, key=lambda result: _ORDER.index(result["retrain"]["select"]))


def print_results(directory) -> None:
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
    text = "\n".join(map(printable, lines))
    print(text, flush=True)
    write_atomically(directory.path / "retrain" / "table.txt", lambda file: file.write(text + "\n"))
