"""Tunes the one-shot model's training with KerasTuner: the dropout rate before all (section 4.1).

Each trial trains a one-shot model and scores it by --objective. A killed run goes on with the
same command: finished trials are known by their values, one under way goes on from its
checkpoint. Several processes share the work if KerasTuner's variables KERASTUNER_TUNER_ID (chief,
or any name of a worker), KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT are set. Ends with
RUN_DIR/best.flags: python -m oneshot_tf.train --flagfile=RUN_DIR/best.flags --run_dir=DIR.
"""

import contextlib
import dataclasses
import hashlib
import json
import time

import grpc
import keras_tuner
import numpy as np

from oneshot_tf import settings
from oneshot_tf.analysis import plots, ranking
from oneshot_tf.analysis.nets import collect, how_to_make
from oneshot_tf.data.sources import load_data
from oneshot_tf.devices.threads import set_threads
from oneshot_tf.evaluation.forward import NotFinite
from oneshot_tf.evaluation.shared_weights import evaluate, evaluate_standalone
from oneshot_tf.learning.divergence import GaveUp
from oneshot_tf.learning.loop import check_batch_size, fit_standalone, fit_supernet
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import ranked
from oneshot_tf.runs.directory import RunDirectory, check_same
from oneshot_tf.settings import Settings, command_line, setting
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.cell_space import bender2018
from oneshot_tf.strategies import PathDropout, RandomSearch
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import (
    check_form,
    read_json,
    remove_folder,
    write_atomically,
    write_json,
)
from oneshot_tf.system.locks import locked
from oneshot_tf.system.printable import command, csv_text
from oneshot_tf.tuning.worker import tuner_worker

_WORST = {"top": 0.0, "rank": -1.0, "stand_alone": 0.0}  # of each objective
_LONGEST = 27  # Hyperband's unit of --train_steps: trials take 1, 3, 9 or 27 parts of it


_TUNABLE = ("drop_rate", "learning_rate", "weight_decay", "drop_schedule", "learning_rate_schedule")


@dataclasses.dataclass(frozen=True)
class TuneSettings(Settings):
    """What is tuned, how, and towards what."""

    tuner: str = setting(
        "random",
        "random, hyperband (70 trials, most of them short, together as long as 17 whole ones; "
        "--max_trials doesn't count), bayesian.",
        choices=("random", "hyperband", "bayesian"),
    )
    max_trials: int = setting(12, "Trials, each a training of --train_steps.", least=1)
    tune: str = setting(
        "drop_rate", f"What is tuned, separated by commas, of {', '.join(_TUNABLE)}."
    )
    objective: str = setting(
        "top",
        "top (mean accuracy, with the shared weights, of the best --top of --num_candidates), rank "
        "(Spearman of candidate with stand-alone accuracy, over the stand-alone nets of --of_run), "
        "stand_alone (validation accuracy of the best candidate of --of_run, trained alone: the "
        "final nets' settings, section 3.4).",
        choices=("top", "rank", "stand_alone"),
    )
    num_candidates: int = setting(100, "For --objective=top: candidates in a trial.", least=1)
    top: int = setting(10, "For --objective=top: how many of them count.", least=1)
    of_run: str = setting(
        "", "For rank and stand_alone: a run directory of the same data and space."
    )
    drop_rate_range: str = setting("1e-6,0.5", "From and to, drawn uniformly in the logarithm.")
    learning_rate_range: str = setting("0.01,0.5", "From and to, likewise.")
    weight_decay_range: str = setting("1e-5,1e-3", "From and to, likewise.")

    def __post_init__(self):
        super().__post_init__()
        if self.top > self.num_candidates:
            raise InputError(
                f"--top={self.top} of --num_candidates={self.num_candidates}; give fewer, or more."
            )
        self.names()
        for name in ("drop_rate", "learning_rate", "weight_decay"):
            self.range_of(name)

    def names(self) -> list[str]:
        """What is tuned."""
        names = [name.strip() for name in self.tune.split(",")]
        wrong = [name for name in names if name not in _TUNABLE]
        if wrong or len(set(names)) < len(names):
            raise InputError(f"--tune={self.tune}: needed are some of {', '.join(_TUNABLE)}.")
        unused = [name for name in names if name.startswith("drop")]
        if self.objective == "stand_alone" and unused:
            raise InputError(
                f"--tune={self.tune}: a stand-alone net has no {unused[0]}; leave it out."
            )
        return names

    def range_of(self, name: str) -> tuple[float, float]:
        """From and to."""
        text, most = getattr(self, f"{name}_range"), 100.0 if name == "learning_rate" else 1.0
        try:
            low, high = map(float, text.split(","))
        except ValueError:
            low = high = 0.0
        if not 0 < low < high <= most:
            raise InputError(
                f"--{name}_range={text}: needed are two numbers FROM,TO above 0 and up to {most:g}."
            )
        return low, high


def main(run, tune, data, model, train, one_shot, device) -> None:
    """Tunes; each argument is the object of `settings` of that kind."""
    if device.distribution not in ("auto", "cpu"):
        raise InputError(
            f"--distribution={device.distribution}: a trial takes one device. To use more, start "
            "several workers, by KerasTuner's variables, each with a device of its own."
        )
    for name, value in (("batch_size", train.batch_size), ("train_steps", one_shot.train_steps)):
        if value < 1:
            raise InputError(f"--{name} must be at least 1; got {value}.")
    set_threads(device.threads)  # before TensorFlow starts
    directory = RunDirectory(run.run_dir)
    groups = {"tune": tune, "data": data, "model": model, "train": train, "one_shot": one_shot}
    worker = tuner_worker()
    leads = not worker or "chief" in worker  # writes the result
    with directory.locked() if leads else contextlib.nullcontext():
        if leads:
            _check_same(directory.path / "settings.json", groups, write=False)
        trials = _Trials(directory, groups, device)
        if "chief" not in worker:
            trials.load()
        if leads:  # all is known to be well
            _check_same(directory.path / "settings.json", groups)
        project = directory.path / "keras_tuner"
        if leads:
            # Never read back: what counts is in the trials' own folders.
            remove_folder(project)
        oracle = _oracle(tune, trials, one_shot.seed)
        try:
            tuner = _Tuner(trials, oracle, directory.path, project.name)
            tuner.search(verbose=0)
        except keras_tuner.errors.FatalError:
            raise tuner.error from None
        except grpc.RpcError as error:
            raise InputError(
                f"Worker {worker} has lost its chief ({error.code().name}). The chief's own lines "
                "say why; start both again."
            ) from None
        if leads:
            _finish(directory, groups, trials)


def _check_same(path, groups, write=True):
    """Trials of other settings don't count.

    Args:
        path: of settings.json.
        groups: settings by name.
        write: False in workers, which may be there before it is.
    """
    now = {name: group.to_dict() for name, group in groups.items()}
    if path.exists():
        before = read_json(path)
        check_form(path, before, dict.fromkeys(now, dict))
        check_same(path.parent, before, now, "Give another --run_dir.", free=["max_trials"])
    if write:
        write_json(path, now)


def _oracle(tune, trials, seed):
    """KerasTuner's search strategy."""
    common = {
        "objective": keras_tuner.Objective("score", "max"),
        "hyperparameters": trials.hyperparameters(),
        "seed": seed + 1,  # 0 would mean any
    }
    if tune.tuner == "hyperband":
        return keras_tuner.oracles.HyperbandOracle(max_epochs=_LONGEST, factor=3, **common)
    kinds = {
        "random": keras_tuner.oracles.RandomSearchOracle,
        "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    }
    return kinds[tune.tuner](max_trials=tune.max_trials, **common)


class _Tuner(keras_tuner.engine.base_tuner.BaseTuner):
    def __init__(self, trials, oracle, folder, name):
        self._trials = trials
        super().__init__(oracle, directory=str(folder), project_name=name, overwrite=False)

    def run_trial(self, trial, verbose=0):
        try:
            return {"score": self._trials.score(trial.hyperparameters.values)}
        except Exception as error:  # KerasTuner would go on with the next trial
            self.error = error
            raise keras_tuner.errors.FatalError(str(error)) from None

    def save_model(self, trial_id, model, step=0):
        """Trials keep their own checkpoints."""


class _Trials:
    """Trains and scores, each set of values once.

    Args:
        directory: the `RunDirectory`.
        groups: settings by name.
        device: `DeviceSettings`.

    Raises:
        InputError: what --objective needs isn't there.
    """

    def __init__(self, directory, groups, device):
        self.folder, self.groups, self.device = directory.path / "trials", groups, device
        self.tune, self.space = groups["tune"], bender2018(groups["model"].num_blocks)
        self.names = self.tune.names()
        self.source = None
        if self.tune.objective != "top":
            if not self.tune.of_run:
                raise InputError(
                    f"--objective={self.tune.objective} needs --of_run: a run directory with "
                    f"{'stand-alone nets' if self.tune.objective == 'rank' else 'candidates'}."
                )
            self.source = RunDirectory(self.tune.of_run)
            if self.source.space() != self.space:
                raise InputError(f"--of_run={self.tune.of_run} has another search space.")
        if self.tune.objective == "rank":
            self.nets = self._judged_on_validation()
        if self.tune.objective == "stand_alone":
            self.architecture = self._best_candidate()

    def _judged_on_validation(self) -> list:
        """The stand-alone nets to rank. Tuning on test images would choose by them."""
        found = collect(self.source)
        nets = next((n for p, n in found.items() if p.evaluated_on == "validation"), [])
        if len(nets) < ranking.FEWEST:
            others = sum(len(n) for p, n in found.items() if p.evaluated_on != "validation")
            unread = f", and {others} judged on test images, which don't count" if others else ""
            raise InputError(
                f"--of_run={self.tune.of_run} has {len(nets)} stand-alone nets judged on "
                f"validation images{unread}; --objective=rank needs at least {ranking.FEWEST}: "
                f"{how_to_make(self.tune.of_run)}."
            )
        return nets

    def _best_candidate(self) -> Architecture:
        best = ranked(CandidateFile(self.source).read())
        if not best:
            raise InputError(f"--of_run={self.tune.of_run} has no candidates; run a search there.")
        return best[0].architecture

    def load(self):
        """Reads the images."""
        self.dataset = load_data(**self.groups["data"].to_dict())
        check_batch_size(self.groups["train"], self.dataset)
        if self.source is not None:
            self.source.check_data(self.dataset)

    def hyperparameters(self):
        """What is tuned, in what range."""
        space = keras_tuner.HyperParameters()
        for name in self.names:
            if name.endswith("schedule"):
                group = "one_shot" if name == "drop_schedule" else "train"
                fields = {f.name: f for f in dataclasses.fields(self.groups[group])}
                space.Choice(name, list(fields[name].metadata["choices"]))
            else:
                low, high = self.tune.range_of(name)
                space.Float(name, low, high, sampling="log")
        return space

    def score(self, values) -> float:
        """The objective for values of what is tuned; its least value if training diverges."""
        _check_same(self.folder.parent / "settings.json", self.groups, write=False)
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
            started = time.monotonic()
            try:
                measured = self._measure(values, folder)
            except (GaveUp, NotFinite) as error:
                measured = {"score": _WORST[self.tune.objective], "why": str(error)}
            result = {"values": values, **measured}
            result["seconds"] = round(time.monotonic() - started, 1)
            write_json(file, result)
        print(f"Trial {key}: score {result['score']:.4f}", flush=True)
        return result["score"]

    def _measure(self, values, folder) -> dict:
        def chosen(group):
            names = {field.name for field in dataclasses.fields(group)}
            return dataclasses.replace(group, **{n: values[n] for n in self.names if n in names})

        train, one_shot = chosen(self.groups["train"]), chosen(self.groups["one_shot"])
        model, classes = self.groups["model"], self.dataset.num_classes
        share = values.get("tuner/epochs", _LONGEST) / _LONGEST
        steps = max(1, round(one_shot.train_steps * share))
        rest = (model.stack(), classes, one_shot.seed, self.device.dtype)
        alone = self.tune.objective == "stand_alone"
        net = (
            Standalone(self.space, self.architecture, *rest)
            if alone
            else Supernet(self.space, *rest)
        )
        if alone:
            fit_standalone(net, self.dataset, steps, train, one_shot.seed, folder, self.device)
            split = self.dataset.validation
            return {"score": evaluate_standalone(net, split, self.dataset.normalize).accuracy}
        sampler = PathDropout(self.space, one_shot.drop_rate, one_shot.drop_schedule, steps)
        fit_supernet(net, self.dataset, sampler, steps, train, one_shot.seed, folder, self.device)
        return self._score_candidates(net, train.ghost_batch_size, one_shot.seed)

    def _score_candidates(self, net, ghost_batch_size, seed) -> dict:
        if self.tune.objective == "rank":
            architectures = [Architecture.from_text(n.architecture) for n in self.nets]
            truth = np.array([n.mean for n in self.nets])
        else:
            architectures = RandomSearch(self.space, seed).propose(self.tune.num_candidates)
        scores = evaluate(net, architectures, self.dataset, ghost_batch_size)
        accuracies = np.array([score.accuracy for score in scores])
        facts = {"mean": float(accuracies.mean()), "most": float(accuracies.max())}
        if self.tune.objective == "rank":
            # Equal accuracies rank nothing.
            return {**facts, "score": float(np.nan_to_num(ranking.spearman(accuracies, truth)))}
        best = np.sort(accuracies)[-self.tune.top :]
        return {**facts, "score": float(best.mean())}

    def results(self) -> list[dict]:
        """Of all finished trials, the best first."""
        form = {"values": dict, "score": float, "seconds": float}
        found = []
        for path in sorted(self.folder.glob("*/result.json")):
            result = read_json(path)
            check_form(path, result, form)
            found.append(result)
        return sorted(found, key=lambda result: -result["score"])


def _finish(directory, groups, trials):
    """Writes trials.csv, curve.svg and best.flags."""
    results = trials.results()
    if not results:
        raise InputError(f"{directory.path}: no trial was finished.")
    rows = [["score", *trials.names, "parts_of_27", "seconds"]]
    for result in results:
        values = [result["values"][name] for name in trials.names]
        parts = result["values"].get("tuner/epochs", _LONGEST)
        rows.append([f"{result['score']:.6f}", *values, parts, result["seconds"]])
    write_atomically(directory.path / "trials.csv", lambda file: file.write(csv_text(rows)))
    whole = [r for r in results if r["values"].get("tuner/epochs", _LONGEST) == _LONGEST]
    best = (whole or results)[0]
    name = trials.names[0]
    points = [(r["values"][name], r["score"]) for r in whole or results]
    label = {"top": f"mean accuracy of the top {trials.tune.top} candidates",
             "rank": "Spearman with stand-alone accuracy",
             "stand_alone": "stand-alone validation accuracy"}[trials.tune.objective]  # fmt: skip
    drawing = plots.tuning(points, name, label)
    write_atomically(directory.path / "curve.svg", lambda file: file.write(drawing))
    chosen = []
    for group in (groups[name] for name in ("data", "model", "train", "one_shot")):
        fields = {field.name for field in dataclasses.fields(group)}
        values = {n: best["values"][n] for n in trials.names if n in fields}
        chosen.append(dataclasses.replace(group, **values))
    lines = "".join(f"{line}\n" for line in command_line.as_flag_lines(chosen))
    write_atomically(directory.path / "best.flags", lambda file: file.write(lines))
    for result in results[:10]:
        shown = ", ".join(f"{n}={result['values'][n]}" for n in trials.names)
        print(f"{result['score']:.4f}  {shown}")
    print(
        f"{len(results)} trials are in {directory.path / 'trials.csv'}. Next: "
        f"{command('train', f'--flagfile={directory.path}/best.flags', '--run_dir=DIR')}",
        flush=True,
    )


if __name__ == "__main__":
    command_line.run(
        main,
        settings.RunSettings,
        TuneSettings,
        settings.DataSettings,
        settings.ModelSettings,
        settings.TrainSettings,
        settings.OneShotSettings,
        settings.DeviceSettings,
    )
