"""The stand-alone nets of a run, with the values known before they were trained."""

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import measured
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.results import judged_in, read_results
from oneshot_tf.runs.selection import Strata
from oneshot_tf.settings import FinalSettings
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.printable import command


@dataclasses.dataclass(frozen=True)
class Net:
    """An architecture that was trained alone.

    Args:
        architecture: The text of the architecture.
        accuracies: Its stand-alone accuracies, one per run.
        selections: The selections that chose it (--select). For a given architecture, the name of
            the folder.
        candidate_accuracy: Its accuracy with the shared weights; None if not measured.
        divergence: Its divergence from the references, in nats; None if not measured.
        parameters, multiply_adds: Costs of the stand-alone net.
        num_images: Number of images that the candidate accuracy was measured on; None if not
            known.
        bucket: Its bucket of candidate accuracy, if it was drawn at random (random, stratified).
        weight: The share of all candidates that it represents, if it has a bucket.
    """

    architecture: str
    accuracies: tuple[float, ...]
    selections: tuple[str, ...]
    candidate_accuracy: float | None
    divergence: float | None
    parameters: int
    multiply_adds: int
    num_images: int | None = None
    bucket: int | None = None
    weight: float | None = None

    @property
    def mean(self) -> float:
        """Mean accuracy over runs."""
        return float(np.mean(self.accuracies))


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The way in which nets were trained and evaluated.

    Nets are compared only with nets of the same protocol.

    Args:
        filters, num_cells: Sizes of the nets.
        num_steps: Training steps.
        evaluated_on: The split they were evaluated on: "validation" or "test".
        training: The training settings that change the result, as JSON.
        precision: The precision of training and of evaluation, in words.
        part: What `num_cells` counts: "cell", or "layer" for a chain.
    """

    filters: int
    num_cells: int
    num_steps: int
    evaluated_on: str
    training: str
    precision: str
    part: str = "cell"

    def __str__(self):
        return (
            f"F = {self.filters}, {self.num_cells} {self.part}s, {self.num_steps:,} steps, "
            f"{self.precision}, on {self.evaluated_on} images"
        )


def how_to_make(path: str | os.PathLike) -> str:
    """Returns the command that trains nets for a ranking. The command reads no test images.

    Args:
        path: Path of the run directory.
    """
    flags = ["--select=stratified", "--count=32", "--repeats=2", "--evaluate_on=validation"]
    return command("retrain", f"--run_dir={path}", *flags, "--name=ranking")


def collect(
    directory: RunDirectory, only: Iterable[str] = (), candidates: Any = None
) -> dict[Protocol, list[Net]]:
    """Returns the stand-alone nets of a run by protocol. The protocol of the most nets is first.

    It leaves out All On, and nets whose candidate accuracy cannot be compared; see `left_out`.

    Args:
        directory: The `RunDirectory`.
        only: Folders of `retrain` to take nets from. Empty takes all.
        candidates: The candidates of the search, if they have been read. None reads them.

    Raises:
        InputError: A file of the run is damaged, or a folder does not exist.
    """
    return comparable(directory, only, candidates)[0]


def left_out(
    directory: RunDirectory, only: Iterable[str] = (), candidates: Any = None
) -> dict[Protocol, list[Net]]:
    """Returns the nets that `collect` leaves out because they cannot be compared.

    Their candidate accuracies were measured on fewer images than those of other nets, as in a
    race, or not at all, although those of other nets were. The arguments are those of `collect`.
    """
    return comparable(directory, only, candidates)[1]


def comparable(
    directory: RunDirectory, only: Iterable[str] = (), candidates: Any = None
) -> tuple[dict, dict]:
    """Returns the results of `collect` and `left_out`, reading the files once.

    The arguments are those of `collect`.
    """
    results = read_results(directory)
    missing = set(only) - {result["name"] for result in results}
    if missing:
        raise InputError(
            f"--only={','.join(only)} must name folders of {directory.path}/retrain; there is no "
            f"{', '.join(sorted(missing))}."
        )
    if candidates is None:
        candidates = CandidateFile(directory).read()
    by_protocol: dict[Any, Any] = {}
    for result in results:
        if not only or result["name"] in only:
            by_protocol.setdefault(_protocol(result, directory.space().part), []).append(result)
    most = max(
        [c.num_images for c in candidates]
        + [e.get("candidate_num_images") or 0 for r in results for e in r["nets"]],
        default=0,
    )
    known = {c.architecture: c for c in candidates} if results else {}
    compared, rest = {}, {}
    for protocol, some in by_protocol.items():
        nets, drawn = _nets(some, known, directory.space())
        partial = [n for n in nets if n.candidate_accuracy is not None
                   and n.num_images not in (None, most)]  # fmt: skip
        whole = [n for n in nets if n.candidate_accuracy is not None and n not in partial]
        none = [n for n in nets if n.candidate_accuracy is None]
        compared[protocol] = weighted(whole or none, drawn, _strata(some, candidates))
        rest[protocol] = partial + (none if whole else [])
    return _by_size(compared), _by_size(rest)


def _by_size(found: Any):
    ordered = sorted(found, key=lambda protocol: -len(found[protocol]))
    return {protocol: found[protocol] for protocol in ordered if found[protocol]}


def _protocol(result: dict[str, Any], part: str) -> Protocol:
    settings, device = result["retrain"], result.get("device")
    mixed = isinstance(device, dict) and device.get("mixed_precision") is True
    precision = f"{'bfloat16' if mixed else 'float32'}, evaluated in {judged_in(result)}"
    return Protocol(
        settings["filters"], settings["num_cells"], result["num_steps"], result["evaluated_on"],
        _training(result), precision, part,
    )  # fmt: skip


def _training(result: dict[str, Any]) -> str:
    """Returns the training settings that change the result, as JSON."""
    settings = result.get("train")
    settings = settings if isinstance(settings, dict) else {}
    free = ("device_batch_size", "skip_paths")
    used = {k: v for k, v in sorted(settings.items()) if k not in free}
    # Tools that are off are left out, as in the results of earlier versions.
    tools = result.get("final", {}).items() - FinalSettings().to_dict().items()
    return json.dumps({**used, **dict(sorted(tools))})


def _nets(results: Iterable[dict[str, Any]], known: Any, space: Any):
    """Returns the nets of results, and the texts of the nets that were drawn at random.

    Candidate accuracies come from `known` candidates if these exist, else from the results.
    """
    nets: dict[Any, Any]
    all_runs: dict[Any, Any]
    all_on, nets, all_runs, drawn = space.all_on(), {}, {}, set()
    for result in results:
        settings = result["retrain"]
        # A given architecture was not selected, so it goes by its folder's name. Other folders may
        # have any name, so their nets go by the selection.
        selection = result["name"] if settings.get("architecture") else settings["select"]
        for entry in result["nets"]:
            architecture = Architecture.from_text(entry["architecture"])
            text = str(architecture)
            if architecture == all_on:
                continue
            if not settings.get("architecture") and selection in ("random", "stratified"):
                drawn.add(text)
            old, candidate = nets.get(text), known.get(architecture)
            runs = all_runs.setdefault(text, {})
            for folder, accuracy in zip(entry["folder"], entry["accuracies"]):
                # The same run may be in two selections, but it counts once.
                runs.setdefault((settings["seed"], folder.rsplit("/", 1)[-1]), accuracy)
            nets[text] = Net(
                text,
                tuple(runs.values()),
                tuple(dict.fromkeys((*(old.selections if old else ()), selection))),
                candidate.candidate_accuracy if candidate else entry["candidate_accuracy"],
                candidate.divergence if candidate else None,
                entry["parameters"],
                entry["multiply_adds"],
                candidate.num_images if candidate else entry.get("candidate_num_images"),
            )
    return list(nets.values()), drawn


def _strata(results: Iterable[dict[str, Any]], candidates: Any) -> Strata | None:
    """Returns the finest strata that nets were drawn from, or None if they are not known."""
    found = []
    for result in results:
        settings, kept = result["retrain"], result.get("strata")
        if settings["select"] != "stratified" or settings.get("architecture"):
            continue
        if kept:
            found.append(Strata(tuple(kept["edges"]), tuple(kept["candidates"])))
        elif measured(candidates):  # written by an older version
            found.append(Strata.of(candidates, len(result["nets"])))
    return max(found, key=lambda strata: len(strata.candidates), default=None)


def weighted(nets: Sequence[Any], drawn: Any, strata: Any) -> list[Net]:
    """Returns the nets, with bucket and weight set for those drawn at random.

    The weight of a net is its bucket's share of all candidates, divided by the number of nets in
    the bucket. Without stratified nets, all random nets are in one bucket.

    Args:
        nets: Nets of one protocol.
        drawn: Texts of the nets that were drawn at random, from all candidates or from buckets.
        strata: The buckets. None if they are not known.
    """
    nets = list(nets)
    chosen = [n for n in nets if n.architecture in drawn and n.candidate_accuracy is not None]
    stratified = any("stratified" in n.selections for n in chosen)
    if not chosen or (stratified and strata is None):
        return nets
    if strata is None:
        buckets, shares = [0] * len(chosen), np.ones(1)
    else:
        buckets = strata.buckets([n.candidate_accuracy for n in chosen]).tolist()
        shares = np.array(strata.candidates, float)
    weights = shares[buckets] / np.bincount(buckets, minlength=len(shares))[buckets]
    by_net = dict(zip((n.architecture for n in chosen), zip(buckets, weights / weights.sum())))
    nothing = (None, None)
    return [
        dataclasses.replace(n, bucket=b, weight=w)
        for n, (b, w) in ((n, by_net.get(n.architecture, nothing)) for n in nets)
    ]
