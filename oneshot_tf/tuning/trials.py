"""Runs trials, which train and score a model with some values of the tuned settings."""

import dataclasses
import hashlib
import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import keras_tuner
import numpy as np

from oneshot_tf.analysis import ranking
from oneshot_tf.analysis.nets import collect, how_to_make
from oneshot_tf.data.sources import load_data
from oneshot_tf.evaluation.forward import NotFinite
from oneshot_tf.evaluation.shared_weights import evaluate, evaluate_standalone
from oneshot_tf.learning.fitting import fit_standalone, fit_supernet
from oneshot_tf.learning.loop import check_batch_size
from oneshot_tf.learning.not_finite import GaveUp
from oneshot_tf.learning.summaries import Summaries
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import ranked
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.same_settings import check_same
from oneshot_tf.settings import DeviceSettings
from oneshot_tf.settings.setting import fields
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.strategies import STRATEGIES, RandomSearch
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.json_files import check_form, read_json, write_json
from oneshot_tf.system.locks import locked
from oneshot_tf.system.progress import tell

LONGEST = 27  # Hyperband cuts --train_steps into 27 parts; a trial takes 1, 3, 9 or 27 of them
_WORST = {"top": 0.0, "rank": -1.0, "stand_alone": 0.0}  # the lowest score of each objective


def check_same_trials(path: pathlib.Path, groups: Mapping[str, Any], write: bool = True) -> None:
    """Makes sure that all trials of a run have the same settings.

    Args:
        path: The path of settings.json.
        groups: Objects of settings by name.
        write: False in workers, which may start before the file exists.

    Raises:
        InputError: A setting differs. The message names the first one.
    """
    if path.exists():
        before = read_json(path)
        check_form(path, before, dict.fromkeys(groups, dict))
        check_same(path.parent, before, groups, "Give another --run_dir.", free=("max_trials",))
    if write:
        write_json(path, {name: group.to_dict() for name, group in groups.items()})


class Trials:
    """The trials of a run. Each set of values is trained and scored once.

    Args:
        directory: The run directory.
        groups: Objects of settings by name.
        device: Where to compute, and how often to save checkpoints.

    Raises:
        InputError: `--objective` needs another run, which is missing or does not fit.
    """

    def __init__(self, directory: RunDirectory, groups: Mapping[str, Any], device: DeviceSettings):
        self.folder, self.groups, self.device = directory.path / "trials", groups, device
        self.tune, self.space = groups["tune"], groups["model"].search_space()
        self.names = self.tune.names()
        self.source: RunDirectory | None = None
        if self.tune.objective != "top":
            self.source = self._source()
        if self.source is not None and self.tune.objective == "rank":
            self.nets = self._judged_on_validation(self.source)
        if self.tune.objective == "stand_alone":
            self.architecture = self._best_candidate()

    def _source(self) -> RunDirectory:
        if not self.tune.of_run:
            raise InputError(
                f"--objective={self.tune.objective} needs --of_run, a run directory with "
                f"{'stand-alone models' if self.tune.objective == 'rank' else 'candidates'}."
            )
        source = RunDirectory(self.tune.of_run)
        if source.space() != self.space:
            raise InputError(
                f"--of_run must have the search space of this run; {self.tune.of_run} has another."
            )
        return source

    def _judged_on_validation(self, source: RunDirectory) -> list:
        """Returns the stand-alone models to rank. Test images must not choose settings."""
        found = collect(source)
        nets = next((n for p, n in found.items() if p.evaluated_on == "validation"), [])
        if len(nets) < ranking.FEWEST:
            others = sum(len(n) for p, n in found.items() if p.evaluated_on != "validation")
            unread = f", and {others} scored on test images, which do not count" if others else ""
            raise InputError(
                f"--of_run={self.tune.of_run} has {len(nets)} stand-alone models scored on "
                f"validation images{unread}; --objective=rank needs at least {ranking.FEWEST}: "
                f"{how_to_make(self.tune.of_run)}."
            )
        return nets

    def _best_candidate(self) -> Architecture:
        best = ranked(CandidateFile(self.source).read())
        if not best:
            raise InputError(f"--of_run={self.tune.of_run} has no candidates. Run a search there.")
        return best[0].architecture

    def load(self) -> None:
        """Reads the images."""
        self.dataset = load_data(**self.groups["data"].to_dict())
        check_batch_size(self.groups["train"], self.dataset)
        if self.source is not None:
            self.source.check_data(self.dataset)

    def hyperparameters(self) -> keras_tuner.HyperParameters:
        """Returns the tuned settings with their ranges."""
        space = keras_tuner.HyperParameters()
        for name in self.names:
            if name.endswith("schedule"):
                space.Choice(name, list(self._field(name).metadata["choices"]))
            else:
                low, high = self.tune.range_of(name)
                space.Float(name, low, high, sampling="log")
        return space

    def _field(self, name: str) -> dataclasses.Field:
        for group in ("train", "strategy"):
            for field in fields(type(self.groups[group])):
                if field.name == name:
                    return field
        raise InputError(
            f"--tune={self.tune.tune}: --strategy={self.groups['strategy'].strategy} has no {name}."
        )

    def score(self, values: dict[str, Any]) -> float:
        """Returns the objective for values of the tuned settings.

        The result is the lowest score of the objective if the loss is not finite.
        """
        check_same_trials(self.folder.parent / "settings.json", self.groups, write=False)
        values = {k: v for k, v in values.items() if k != "tuner/trial_id"}
        key = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        folder = self.folder / key
        with locked(folder):
            file = folder / "result.json"
            if file.exists():
                result = read_json(file)
                check_form(file, result, {"score": float})
                return result["score"]
            words = ", ".join(f"{name} {values[name]:.3g}" if isinstance(values[name], float)
                              else f"{name} {values[name]}" for name in self.names)  # fmt: skip
            print(f"Trial {key}: {words}", flush=True)
            tell(part=f"trial {len(self.results()) + 1}: {words}")
            started = time.monotonic()
            try:
                measured = self._measure(values, folder)
            except (GaveUp, NotFinite) as error:
                measured = {"score": _WORST[self.tune.objective], "why": str(error)}
            seconds = round(time.monotonic() - started, 1)
            write_json(file, {"values": values, **measured, "seconds": seconds})
            self._note(folder, values, measured)
        print(f"Trial {key}: score {measured['score']:.4f}", flush=True)
        return measured["score"]

    def _note(self, folder: pathlib.Path, values: dict[str, Any], measured: dict[str, Any]) -> None:
        """Writes the trial for TensorBoard's tab HParams."""
        tuned = {name: values[name] for name in self.names}
        parts = values.get("tuner/epochs", LONGEST)
        settings = {**tuned, "objective": self.tune.objective, f"parts_of_{LONGEST}": parts}
        Summaries(folder / "tensorboard").hparams(0, settings, {"score": measured["score"]})

    def _measure(self, values: dict[str, Any], folder: pathlib.Path) -> dict[str, Any]:
        train, strategy = (
            with_values(self.groups[n], values, self.names) for n in ("train", "strategy")
        )
        one_shot, model = self.groups["one_shot"], self.groups["model"]
        share = values.get("tuner/epochs", LONGEST) / LONGEST
        steps = max(1, round(one_shot.train_steps * share))
        rest = (model.stack(), self.dataset.num_classes, one_shot.seed, self.device.dtype)
        training = (steps, train, one_shot.seed, folder)
        if self.tune.objective == "stand_alone":
            net = Standalone(self.space, self.architecture, *rest)
            fit_standalone(net, self.dataset, *training, device=self.device)
            split = self.dataset.validation
            return {"score": evaluate_standalone(net, split, self.dataset.normalize).accuracy}
        supernet = Supernet(self.space, *rest)
        sampler = STRATEGIES[strategy.strategy].make(self.space, strategy, steps)
        fit_supernet(supernet, self.dataset, sampler, *training, device=self.device)
        return self._score_candidates(supernet, train.ghost_batch_size, one_shot.seed)

    def _score_candidates(
        self, supernet: Supernet, ghost_batch_size: int, seed: int
    ) -> dict[str, Any]:
        if self.tune.objective == "rank":
            architectures = [Architecture.from_text(n.architecture) for n in self.nets]
            truth = np.array([n.mean for n in self.nets])
        else:
            architectures = RandomSearch(self.space, seed).propose(self.tune.num_candidates)
        scores = evaluate(supernet, architectures, self.dataset, ghost_batch_size)
        accuracies = np.array([score.accuracy for score in scores])
        facts = {"mean": float(accuracies.mean()), "most": float(accuracies.max())}
        if self.tune.objective == "rank":
            # The correlation is NaN if all accuracies are equal.
            return {**facts, "score": float(np.nan_to_num(ranking.spearman(accuracies, truth)))}
        best = np.sort(accuracies)[-self.tune.top :]
        return {**facts, "score": float(best.mean())}

    def results(self) -> list[dict[str, Any]]:
        """Returns the results of all finished trials, the best first."""
        form = {"values": dict, "score": float, "seconds": float}
        found = []
        for path in sorted(self.folder.glob("*/result.json")):
            result = read_json(path)
            check_form(path, result, form)
            found.append(result)
        return sorted(found, key=lambda result: -result["score"])


def with_values(group: Any, values: Mapping[str, Any], names: list[str]) -> Any:
    """Returns a group of settings with the values of a trial, for all `names` that it has."""
    known = {field.name for field in fields(type(group))}
    return dataclasses.replace(group, **{n: values[n] for n in names if n in known})
