"""Exports a retrained net as a SavedModel for serving.

It takes uint8 images, does the preprocessing inside, and gives probabilities,
class index and class name; nothing of this package is needed to load it.
Before this program says done, a fresh process loads it and must agree.
"""

import dataclasses
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf

from oneshot_tf import config, settings
from oneshot_tf.candidates import CandidateFile, ranked
from oneshot_tf.errors import InputError, plain
from oneshot_tf.files import user_path, writing
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.locks import locked
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.records import RunDirectory
from oneshot_tf.results import judged_in, read_result, read_results
from oneshot_tf.saved_model import write_saved_model
from oneshot_tf.space.architecture import Architecture

_IMAGES = 16
_TOLERANCE = 1e-5

# What a user's server does: load, call the default signature. One by one and as a batch.
_LOADER = """
import sys, numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
images = np.load(sys.argv[2])
batch = serve(images=tf.constant(images))
single = np.concatenate([serve(images=tf.constant(i[None]))["probabilities"] for i in images])
np.savez(sys.argv[3], batch=batch["probabilities"], single=single,
         index=batch["class_index"], name=batch["class_name"].numpy().astype("U"))
"""


def main(run, export, location) -> None:
    """Exports; each argument is the object of `settings` of that kind."""
    directory = RunDirectory(run.run_dir)
    directory.config()  # says so where there is no run
    with directory.locked(shared=True), locked(directory.path, name=".export.lock"):
        _export(directory, export, location)


def _export(directory, export, location):
    names = _class_names(export.class_names, directory.facts()["class_names"])
    folder = _chosen_folder(directory, export.net)
    net, facts = _restore(directory, folder)
    dataset = dataclasses.replace(directory.load_data(location), class_names=tuple(names))
    images = dataset.validation.take(slice(_IMAGES)).in_memory().images
    with tf.device("/cpu:0"):  # as the fresh process: a GPU may be full, and rounds otherwise
        live = tf.nn.softmax(net(dataset.normalize(images), training=False)).numpy()

    def check(saved_model):
        worst = _difference_in_fresh_process(saved_model, images, live, dataset.class_names)
        print(
            f"A fresh process loads it: probabilities of {len(images)} images agree to "
            f"{worst:.1e}, one by one and as a batch.",
            flush=True,
        )

    target = export.export_dir or directory.path / "export"
    target = write_saved_model(net, dataset, target, facts, check)
    print(f"Exported {folder} ({net.architecture}) to {target}.", flush=True)


def _class_names(path, known) -> list[str]:
    """What to call the classes that the data set calls `known`."""
    if not path:
        return known
    try:
        lines = user_path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"--class_names={path} can't be read: {plain(error)}") from None
    called = dict(line.split(maxsplit=1) for line in lines if len(line.split(maxsplit=1)) == 2)
    missing = [name for name in known if name not in called]
    if missing:
        raise InputError(
            f"--class_names={path} has no line for {len(missing)} of the {len(known)} classes, "
            f"such as {missing[0]}; needed is a line a class: the data set's name of it, a space, "
            "and what to call it."
        )
    names = [called[name].strip() for name in known]
    # ImageNet has two cranes.
    return [f"{n} ({k})" if names.count(n) > 1 else n for n, k in zip(names, known)]


def _chosen_folder(directory, net) -> pathlib.Path:
    """The folder of the net to export, below RUN_DIR/retrain."""
    root = (directory.path / "retrain").resolve()
    if net:
        for start in (root, pathlib.Path.cwd()):
            folder = (start / net).resolve()
            if (folder / "checkpoints").is_dir() and folder.is_relative_to(root):
                return folder
        raise InputError(
            f"--net={net} is not the folder of a trained net below {root}; top/net_00/run_0 is."
        )
    results = [r for r in read_results(directory) if r["retrain"]["select"] != "all_on"]
    if not results:
        raise InputError(
            f"{directory.path} has no retrained net; run python -m oneshot_tf.retrain "
            f"--run_dir={directory.path} first."
        )
    # Nets of the final training go first; test accuracies choose nothing.
    final = [r for r in results if r["evaluated_on"] == "test"]
    candidates = CandidateFile(directory.path / "candidates.csv", directory.space()).read()
    ranks = {str(c.architecture): c.rank for c in ranked(candidates)}

    def order(result_and_net):
        result, net = result_and_net
        text = str(Architecture.from_text(net["architecture"]))
        rank = ranks.get(text) or net["rank"] or math.inf
        size = (-result["retrain"]["filters"], -result["retrain"]["num_cells"])
        alike = rank, *size, -result["num_steps"], net["folder"][0]
        return alike if final else (-net["mean"], *alike)

    _, best = min(((r, n) for r in final or results for n in r["nets"]), key=order)
    return root / best["folder"][0]


def _restore(directory, folder):
    """The trained net of a folder, and what is known of it."""
    result_file = folder.parent.parent / "result.json"
    result = read_result(result_file)
    place = str(folder.relative_to((directory.path / "retrain").resolve()))
    entry = next((n for n in result["nets"] if place in n["folder"]), None)
    if entry is None:
        raise InputError(f"{result_file} doesn't know {place}; run retrain to its end first.")
    model = dataclasses.replace(
        directory.group(settings.ModelSettings, "model"),
        num_cells=result["retrain"]["num_cells"],
        filters=result["retrain"]["filters"],
    )
    net = Standalone(
        directory.space(),
        Architecture.from_text(entry["architecture"]),
        model.stack(),
        num_classes=len(directory.facts()["class_names"]),
    )
    Checkpoints(folder / "checkpoints").restore_step(result["num_steps"], net.variables)
    accuracy = entry["accuracies"][entry["folder"].index(place)]
    facts = {
        "stand_alone_accuracy": accuracy,
        "evaluated_on": result["evaluated_on"],
        "evaluated_in": judged_in(result),
        "candidate_accuracy": entry["candidate_accuracy"],
        "candidate_num_images": entry.get("candidate_num_images"),
        "multiply_adds": entry["multiply_adds"],
        "net": place,
    }
    return net, facts


def _difference_in_fresh_process(target, images, live, class_names) -> float:
    """The largest difference in probability between the loaded and the live net.

    Raises:
        InputError: it doesn't load, or differs.
    """
    with writing(tempfile.gettempdir()), tempfile.TemporaryDirectory() as scratch:
        given, got = f"{scratch}/images.npy", f"{scratch}/answers.npz"
        np.save(given, images)
        command = [sys.executable, "-c", _LOADER, str(target.resolve()), given, got]
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(command, cwd=scratch, env=env, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{target} doesn't load in a fresh process: {done.stderr[-2000:]}")
        with np.load(got) as answers:
            worst = max(
                float(np.abs(answers["batch"] - live).max()),
                float(np.abs(answers["single"] - live).max()),
            )
            named = [class_names[i] for i in answers["index"]] == list(answers["name"])
    if worst > _TOLERANCE or not named:
        raise InputError(
            f"{target} gives other answers than the net it was made of (difference {worst:.1e})."
        )
    return worst


if __name__ == "__main__":
    config.run(main, settings.RunSettings, settings.ExportSettings, settings.LocationSettings)
