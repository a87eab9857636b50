"""The nets of a run that were trained alone, with what was known of them before."""

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
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.printable import command


@dataclasses.dataclass(frozen=True)
class Net:
    """An architecture that was trained alone.

    Args:
        architecture: its text.
        accuracies: stand-alone, one a run.
        selections: by which it was chosen (--select); a folder's name where it was given.
        candidate_accuracy: with the shared weights; None if not measured.
        divergence: from the references, in nats; None if not measured.
        parameters, multiply_adds: of the net that was trained.
        num_images: on which the candidate accuracy was measured; None if not known.
        bucket: of candidate accuracy, if chance chose it within one (random, stratified).
        weight: the share of all candidates that it stands for, if it has a bucket.
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
        """Over runs."""
        return float(np.mean(self.accuracies))


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Nets are compared only with those trained and judged in the same way and precision."""

    filters: int
    num_cells: int
    num_steps: int
    evaluated_on: str
    training: str
    precision: str

    def __str__(self):
        return (
            f"F = {self.filters}, {self.num_cells} cells, {self.num_steps:,} steps, "
            f"{self.precision}, on {self.evaluated_on} images"
        )


def how_to_make(path: str | os.PathLike) -> str:
    """The command that trains nets for a ranking; it reads no test images.

    Args:
        path: of the run directory.
    """
    flags = ["--select=stratified", "--count=32", "--repeats=2", "--evaluate_on=validation"]
    return command("retrain", f"--run_dir={path}", *flags, "--name=ranking")


def collect(
    directory: RunDirectory, only: Iterable[str] = (), candidates: Any = None
) -> dict[Protocol, list[Net]]:
    """The stand-alone nets of a run by protocol, that of the most first; All On is left out.

    Left out are nets, too, whose candidate accuracy cannot be compared: see `left_out`.

    Args:
        directory: the `RunDirectory`.
        only: folders of `retrain` to take nets from; empty: all.
        candidates: of the search, if they have been read; None reads them.

    Raises:
        InputError: a file of the run is damaged, or a folder is not there.
    """
    return comparable(directory, only, candidates)[0]


def left_out(
    directory: RunDirectory, only: Iterable[str] = (), candidates: Any = None
) -> dict[Protocol, list[Net]]:
    """The nets that `collect` leaves out.

    Their candidate accuracies were measured on fewer images than others, as in a race, or
    not at all while others were. Arguments as `collect`'s.
    """
    return comparable(directory, only, candidates)[1]


def comparable(
    directory: RunDirectory, only: Iterable[str] = (), candidates: Any = None
) -> tuple[dict, dict]:
    """What `collect` and `left_out` give, of one reading of the files. Arguments as theirs."""
    results = read_results(directory)
    missing = set(only) - {result["name"] for result in results}
    if missing:
        raise InputError(
            f"--only={','.join(only)}: {directory.path} has no stand-alone nets called "
            f"{', '.join(sorted(missing))}."
        )
    if candidates is None:
        candidates = CandidateFile(directory).read()
    by_protocol: dict[Any, Any] = {}
    for result in results:
        if not only or result["name"] in only:
            by_protocol.setdefault(_protocol(result), []).append(result)
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


def _protocol(result: dict[str, Any]) -> Protocol:
    settings, device = result["retrain"], result.get("device")
    mixed = isinstance(device, dict) and device.get("mixed_precision") is True
    precision = f"{'bfloat16' if mixed else 'float32'}, judged in {judged_in(result)}"
    return Protocol(
        settings["filters"], settings["num_cells"], result["num_steps"], result["evaluated_on"],
        _training(result), precision,
    )  # fmt: skip


def _training(result: dict[str, Any]) -> str:
    """The settings of a training that change what comes of it."""
    settings = result.get("train")
    settings = settings if isinstance(settings, dict) else {}
    free = ("device_batch_size", "skip_paths")
    return json.dumps({k: v for k, v in sorted(settings.items()) if k not in free})


def _nets(results: Iterable[dict[str, Any]], known: Any, space: Any):
    """The nets of results, by candidates where these are `known`; texts that chance chose."""
    nets: dict[Any, Any]
    all_runs: dict[Any, Any]
    all_on, nets, all_runs, drawn = space.all_on(), {}, {}, set()
    for result in results:
        settings = result["retrain"]
        # A given architecture was not selected; otherwise folders may have any name.
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
                # The same run may be in two selections, but counts once.
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
    """The finest strata by which nets were drawn; None where these are not known."""
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
    """The nets, those that chance chose with bucket and weight.

    A weight is its bucket's share of all candidates over the number of its nets. Random nets
    alone are of one bucket.

    Args:
        nets: of one protocol.
        drawn: texts of those that chance chose, among all or within buckets.
        strata: the buckets; None where they are not known.
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
