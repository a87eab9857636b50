"""Tunes the training of the one-shot model with KerasTuner, above all the dropout rate.

Section 4.1 of the paper says that the rate must be tuned carefully. Each trial trains a one-shot
model and scores it by --objective. The same command resumes a run that was stopped. It reads
finished trials from their files and resumes an unfinished trial from its checkpoint. Several
processes share the trials if KERASTUNER_TUNER_ID ("chief", or any name for a worker),
KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT are set. The result is RUN_DIR/best.flags.
Next step: python -m oneshot_tf.train --flagfile=RUN_DIR/best.flags --run_dir=DIR
"""

import contextlib
import dataclasses
from typing import Any

import grpc
import keras_tuner

from oneshot_tf import settings
from oneshot_tf.analysis import plots
from oneshot_tf.analysis.live import live_page
from oneshot_tf.devices.threads import set_threads
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.settings import (
    DataSettings,
    DeviceSettings,
    ModelSettings,
    OneShotSettings,
    Settings,
    StrategySettings,
    TrainSettings,
    command_line,
    setting,
)
from oneshot_tf.strategies import DEFAULT_STRATEGY, SAMPLERS
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import remove_folder, write_atomically
from oneshot_tf.system.printable import command, csv_text
from oneshot_tf.tuning.trials import LONGEST, Trials, check_same_trials, with_values
from oneshot_tf.tuning.worker import tuner_worker

_TUNABLE = ("drop_rate", "learning_rate", "weight_decay", "drop_schedule", "learning_rate_schedule")
_RANGE = "Lowest and highest value to try, separated by a comma. Sampling uses a log scale."


@dataclasses.dataclass(frozen=True)
class TuneSettings(Settings):
    """Tuning."""

    tuner: str = setting(
        "random",
        "Search algorithm of KerasTuner: random, hyperband or bayesian. hyperband ignores "
        "--max_trials. It runs 70 trials, most of them short, which together take as long as 17 "
        "full trials.",
        choices=("random", "hyperband", "bayesian"),
        common=True,
    )
    max_trials: int = setting(
        12, "Number of trials. Each one trains for --train_steps.", least=1, common=True
    )
    tune: str = setting(
        "drop_rate",
        f"Settings to tune, separated by commas: {', '.join(_TUNABLE)}.",
        common=True,
    )
    objective: str = setting(
        "top",
        "Score to maximise. top: mean candidate accuracy of the best --top of --num_candidates. "
        "rank: Spearman correlation of candidate and stand-alone accuracy over the stand-alone "
        "models of --of_run. stand_alone: validation accuracy of the best candidate of --of_run "
        "after stand-alone training, to tune the final training (section 3.4 of the paper).",
        choices=("top", "rank", "stand_alone"),
        common=True,
    )
    num_candidates: int = setting(
        100, "For --objective=top: number of candidates to evaluate in each trial.", least=1
    )
    top: int = setting(
        10, "For --objective=top: number of the best candidates in the mean.", least=1
    )
    of_run: str = setting(
        "",
        "For --objective=rank and stand_alone: run directory with the same data and search space.",
    )
    drop_rate_range: str = setting("1e-6,0.5", _RANGE)
    learning_rate_range: str = setting("0.01,0.5", _RANGE)
    weight_decay_range: str = setting("1e-5,1e-3", _RANGE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top > self.num_candidates:
            raise InputError(
                f"--top must be at most --num_candidates={self.num_candidates}; got {self.top}."
            )
        self.names()
        for name in ("drop_rate", "learning_rate", "weight_decay"):
            self.range_of(name)

    def names(self) -> list[str]:
        """Returns the names of the settings to tune."""
        names = [name.strip() for name in self.tune.split(",")]
        wrong = [name for name in names if name not in _TUNABLE]
        if wrong or len(set(names)) < len(names):
            raise InputError(
                f"--tune must name some of {', '.join(_TUNABLE)}, each once; got {self.tune}."
            )
        unused = [name for name in names if name.startswith("drop")]
        if self.objective == "stand_alone" and unused:
            raise InputError(
                f"--tune must not name {unused[0]} for --objective=stand_alone, because a "
                f"stand-alone model has no dropped paths; got {self.tune}. Leave it out."
            )
        return names

    def range_of(self, name: str) -> tuple[float, float]:
        """Returns the lowest and the highest value of a setting."""
        text, most = getattr(self, f"{name}_range"), 100.0 if name == "learning_rate" else 1.0
        try:
            low, high = map(float, text.split(","))
        except ValueError:
            low = high = 0.0
        if not 0 < low < high <= most:
            raise InputError(
                f"--{name}_range must be two numbers FROM,TO above 0 and up to {most:g}; got "
                f"{text}."
            )
        return low, high


def main(
    run: settings.RunSettings,
    tune: TuneSettings,
    data: DataSettings,
    model: ModelSettings,
    train: TrainSettings,
    one_shot: OneShotSettings,
    strategy: StrategySettings,
    device: DeviceSettings,
) -> None:
    """Tunes the settings and writes the best ones."""
    if device.distribution not in ("auto", "cpu"):
        raise InputError(
            f"--distribution must be auto or cpu, because a trial runs on one device; got "
            f"{device.distribution}. To use more devices, set KerasTuner's environment variables "
            "and start several workers, each with its own device."
        )
    for name, value in (("batch_size", train.batch_size), ("train_steps", one_shot.train_steps)):
        if value < 1:
            raise InputError(f"--{name} must be at least 1; got {value}.")
    set_threads(device.threads)  # before TensorFlow starts
    directory = RunDirectory(run.run_dir)
    groups: dict[str, Any] = {"tune": tune, "data": data, "model": model, "train": train,
                              "one_shot": one_shot, "strategy": strategy}  # fmt: skip
    worker = tuner_worker()
    leads = not worker or "chief" in worker  # the leading process writes the result
    with directory.locked() if leads else contextlib.nullcontext():
        if leads:
            check_same_trials(directory.path / "settings.json", groups, write=False)
        trials = Trials(directory, groups, device)
        if "chief" not in worker:
            trials.load()
        if leads:  # all checks have passed
            check_same_trials(directory.path / "settings.json", groups)
        with live_page(directory, "tune", leads):
            _search(directory, trials, one_shot.seed, worker, leads)
        if leads:
            _finish(directory, groups, trials)


def _search(directory: RunDirectory, trials: Trials, seed: int, worker: str, leads: bool) -> None:
    project = directory.path / "keras_tuner"
    if leads:
        remove_folder(project)  # KerasTuner's own files; results are in the folders of the trials
    oracle = _oracle(trials.tune, trials, seed)
    try:
        tuner = _Tuner(trials, oracle, directory.path, project.name)
        tuner.search(verbose=0)
    except keras_tuner.errors.FatalError:
        raise tuner.error from None
    except grpc.RpcError as error:
        raise InputError(
            f"Worker {worker} has lost its chief ({error.code().name}). The chief has printed the "
            "reason. Start both again."
        ) from None


def _oracle(tune: TuneSettings, trials: Trials, seed: int) -> keras_tuner.Oracle:
    """Returns KerasTuner's search strategy."""
    common = {
        "objective": keras_tuner.Objective("score", "max"),
        "hyperparameters": trials.hyperparameters(),
        "seed": seed + 1,  # 0 would draw a random seed
    }
    if tune.tuner == "hyperband":
        return keras_tuner.oracles.HyperbandOracle(max_epochs=LONGEST, factor=3, **common)
    kinds = {
        "random": keras_tuner.oracles.RandomSearchOracle,
        "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    }
    return kinds[tune.tuner](max_trials=tune.max_trials, **common)


class _Tuner(keras_tuner.engine.base_tuner.BaseTuner):
    def __init__(self, trials: Trials, oracle: keras_tuner.Oracle, folder: Any, name: str):
        self._trials = trials
        super().__init__(oracle, directory=str(folder), project_name=name, overwrite=False)

    def run_trial(self, trial: Any, verbose: int = 0) -> dict[str, float]:
        try:
            return {"score": self._trials.score(trial.hyperparameters.values)}
        except Exception as error:  # KerasTuner would continue with the next trial
            self.error = error
            raise keras_tuner.errors.FatalError(str(error)) from None

    def save_model(self, trial_id: str, model: Any, step: int = 0) -> None:
        """Does nothing: trials keep their own checkpoints."""


def _finish(directory: RunDirectory, groups: dict[str, Any], trials: Trials) -> None:
    """Writes trials.csv, curve.svg and best.flags."""
    results = trials.results()
    if not results:
        raise InputError(f"{directory.path} has no finished trial. Repeat the command.")
    rows: list[list[Any]] = [["score", *trials.names, f"parts_of_{LONGEST}", "seconds"]]
    for result in results:
        values = [result["values"][name] for name in trials.names]
        parts = result["values"].get("tuner/epochs", LONGEST)
        rows.append([f"{result['score']:.6f}", *values, parts, result["seconds"]])
    write_atomically(directory.path / "trials.csv", lambda file: file.write(csv_text(rows)))
    whole = [r for r in results if r["values"].get("tuner/epochs", LONGEST) == LONGEST]
    best = (whole or results)[0]
    name = trials.names[0]
    points = [(r["values"][name], r["score"]) for r in whole or results]
    label = {"top": f"mean accuracy of the top {trials.tune.top} candidates",
             "rank": "Spearman with stand-alone accuracy",
             "stand_alone": "stand-alone validation accuracy"}[trials.tune.objective]  # fmt: skip
    drawing = plots.tuning(points, name, label)
    write_atomically(directory.path / "curve.svg", lambda file: file.write(drawing))
    kept = (groups[n] for n in ("data", "model", "train", "one_shot", "strategy"))
    chosen = [with_values(group, best["values"], trials.names) for group in kept]
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
        command_line.strategy(SAMPLERS, DEFAULT_STRATEGY),
        settings.DeviceSettings,
    )
