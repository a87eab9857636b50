"""A stand-alone model of a run with the shared weights, and its accuracy beside that of others."""

from typing import Any

import numpy as np

from oneshot_tf.cost import counts
from oneshot_tf.data.dataset import Dataset
from oneshot_tf.evaluation.inherited import recalibrate, with_shared_weights
from oneshot_tf.evaluation.shared_weights import evaluate, evaluate_standalone
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import ranked
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.results import read_results
from oneshot_tf.runs.selection import how_to_find_candidates
from oneshot_tf.searching.restored import restore_supernet
from oneshot_tf.settings import LocationSettings, TrainSettings
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError


def inherit(
    directory: RunDirectory, location: LocationSettings, text: str, num_images: int
) -> tuple[Standalone, dict[str, Any], Dataset]:
    """Returns a stand-alone model with the shared weights, facts about it, and the data set.

    It prints the accuracy of the model on the validation images, on which the search scored the
    candidates. Beside it, it prints the accuracy of retrained models of the same architecture, each
    on the images on which `retrain` scored it.

    Args:
        directory: The run, with the search whose candidates are meant.
        location: The place of the data set.
        text: The architecture, or its rank among the candidates. Empty: the best candidate.
        num_images: Number of training images that measure the averages of the batch norms.

    Raises:
        InputError: There is no such candidate, or the one-shot model is not trained to the end.
    """
    architecture = _chosen(directory, text)
    retrained = _retrained(directory, architecture)
    on_test = any(result["evaluated_on"] == "test" for result, _ in retrained)
    dataset = directory.load_data(location, test=on_test)
    supernet, _ = restore_supernet(directory)
    ghost = directory.group(TrainSettings, "train").ghost_batch_size
    shared = evaluate(supernet, [architecture], dataset, ghost)[0]
    net = with_shared_weights(supernet, architecture)
    used = recalibrate(net, dataset.train, dataset.normalize, num_images, ghost)
    accuracies = {"validation": _accuracy(net, dataset.validation, dataset)}
    print(
        f"{architecture} with the weights of the one-shot model: accuracy "
        f"{accuracies['validation']:.4f} on {len(dataset.validation):,} validation images, with "
        f"averages from {used:,} training images. As a candidate, with the statistics of ghost "
        f"batches, it has {shared.accuracy:.4f} on the same images.",
        flush=True,
    )
    if on_test:
        accuracies["test"] = _accuracy(net, dataset.load_test(), dataset)
    known = [_compared(result, entry, accuracies, net.space.part) for result, entry in retrained]
    if not known:
        print("No model of this architecture was retrained, so there is nothing to compare.")
    parameters, multiply_adds = counts.costs(
        net.space, [architecture], net.stack, dataset.num_classes, dataset.image_size
    )
    facts = {
        "weights": "inherited",
        "inherited_accuracy": accuracies["validation"],
        "evaluated_on": "validation",
        "evaluated_in": "float32",
        "candidate_accuracy": shared.accuracy,
        "candidate_num_images": shared.num_images,
        "calibration_images": used,
        "retrained": known,
        "parameters": int(parameters[0]),
        "multiply_adds": int(multiply_adds[0]),
        "net": "with inherited weights",
    }
    return net, facts, dataset


def _chosen(directory: RunDirectory, text: str) -> Architecture:
    """Returns the architecture that a text, a rank or nothing means."""
    space = directory.space()
    if text and not text.isdecimal():
        return space.parse(text)
    best = ranked(CandidateFile(directory).read())
    if not best:
        raise InputError(
            f"{directory.searched} has no candidates to inherit weights. "
            f"{how_to_find_candidates(directory)} Or give --architecture."
        )
    rank = int(text or 1)
    if not 1 <= rank <= len(best):
        raise InputError(
            f"--architecture must be an architecture or a rank from 1 to {len(best):,}; got {text}."
        )
    return best[rank - 1].architecture


def _retrained(directory: RunDirectory, architecture: Architecture) -> list[tuple[dict, dict]]:
    """Returns the results of `retrain` that have this architecture, with its entries in them."""
    return [
        (result, entry)
        for result in read_results(directory)
        for entry in result["nets"]
        if Architecture.from_text(entry["architecture"]) == architecture
    ]


def _accuracy(net: Standalone, split: Any, dataset: Dataset) -> float:
    return evaluate_standalone(net, split, dataset.normalize).accuracy


def _compared(
    result: dict[str, Any], entry: dict[str, Any], accuracies: dict[str, float], part: str
) -> dict[str, Any]:
    """Prints a retrained model beside the inherited one, and returns what it prints."""
    split, retrain = result["evaluated_on"], result["retrain"]
    found = {
        "name": result["name"],
        "accuracy": float(np.mean(entry["accuracies"])),
        "inherited_accuracy": accuracies[split],
        "evaluated_on": split,
        "num_images": result["num_images"],
        "filters": retrain["filters"],
        "num_cells": retrain["num_cells"],
    }
    print(
        f"Retrained (retrain/{found['name']}, {found['filters']} filters, {found['num_cells']} "
        f"{part}s): accuracy {found['accuracy']:.4f} on {found['num_images']:,} {split} images. "
        f"With the inherited weights: {accuracies[split]:.4f} on the same images.",
        flush=True,
    )
    return found
