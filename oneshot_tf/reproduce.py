"""Reproduces figure 4, 5, 6 or 7, or table 1 or 2 of the paper, from training to report.

Runs the other programs one after another and prints each command before it starts. The same
command resumes a reproduction that was stopped. The results are in RUN_DIR/*/report/report.html.
Example: python -m oneshot_tf.reproduce --flagfile=figure5_cpu.flags --run_dir=runs/figure5
"""

import dataclasses
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from oneshot_tf import settings
from oneshot_tf.settings import Settings, command_line, setting
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import user_path
from oneshot_tf.system.interrupts import Interrupted
from oneshot_tf.system.opening import check_folder
from oneshot_tf.system.printable import command

_SELECTIONS = ("top", "small", "random", "all_on")


@dataclasses.dataclass(frozen=True)
class ReproduceSettings(Settings):
    """Experiment and its size."""

    experiment: str = setting(
        "figure5",
        "Experiment of the paper. figure4: one-shot models of several constant dropout rates. "
        "figure5: candidate accuracy against stand-alone accuracy. figure6: candidate accuracy "
        "against divergence. figure7: divergence over the training. table1: selections of "
        "stand-alone models at each F. table2: the same for ImageNet.",
        choices=("figure4", "figure5", "figure6", "figure7", "table1", "table2"),
    )
    train_flags: str = setting("cifar.flags", "Flag file that trains the one-shot model.")
    train_steps: int = setting(
        0, "Training steps of the one-shot model. 0: the flag file's value.", least=0
    )
    retrain_flags: str = setting(
        "cifar_retrain_28.flags", "Flag file that trains the stand-alone models."
    )
    epochs: float = setting(
        0.0, "Epochs of the stand-alone training. 0: the flag file's value.", least=0.0
    )
    repeats: int = setting(5, "Number of times to train each stand-alone model.", least=1)
    num_candidates: int = setting(20_000, "Number of candidates in the search.", least=1)
    count: int = setting(
        32, "Number of stand-alone models. For tables: number for each row and F.", least=1
    )
    top: int = setting(
        100, "For tables: number of best candidates from which the row Top samples.", least=1
    )
    rates: str = setting("1e-6,0.01,0.3", "For figure4: dropout rates, separated by commas.")
    filters: str = setting("16,32,64,128", "For tables: values of F, separated by commas.")
    rows: str = setting(
        "top,small,random,all_on",
        "For tables: rows to train, separated by commas. Different days and machines can train "
        "different rows. Each row and F is a folder of RUN_DIR/one_shot/retrain, which may be "
        "copied from another machine.",
    )


def main(
    run: Any,
    reproduce: ReproduceSettings,
    location: settings.LocationSettings,
    devices: settings.DistributionSettings,
) -> None:
    """Runs the programs of an experiment, one after another."""
    todo = commands(pathlib.Path(run.run_dir), reproduce, location, devices)
    for pattern in ("one_shot", "rate_*"):
        for path in user_path(run.run_dir).glob(pattern):
            if path.is_symlink():  # the other programs check real folders themselves
                check_folder(path, path.parent)
    for number, (program, *flags) in enumerate(todo, start=1):
        print(f"[{number}/{len(todo)}] {command(program, *flags)}", flush=True)
        code = _run([sys.executable, "-m", f"oneshot_tf.{program}", *flags])
        if code in (130, 143):
            raise Interrupted(code - 128, f" in step {number} of {len(todo)}")
        if code:
            raise InputError(
                f"Step {number} of {len(todo)} ({program}) ended with code {code}. Its error "
                "message gives the reason. Correct it and repeat the command to resume."
            )


def _run(command: list[str]) -> int:
    """Runs a program to its end. An interrupt of this process also ends the program."""
    child = subprocess.Popen(command)
    try:
        return child.wait()
    except KeyboardInterrupt as interrupt:  # Ctrl-C reaches the child by itself, SIGTERM does not
        if getattr(interrupt, "number", signal.SIGINT) == signal.SIGTERM:
            child.terminate()
        child.wait()
        raise


def commands(
    run_dir: pathlib.Path,
    reproduce: ReproduceSettings,
    location: settings.LocationSettings,
    devices: settings.DistributionSettings,
) -> list[list[str]]:
    """Returns the programs to run, in order, each with its flags.

    Args:
        run_dir: Folder that contains all runs of the experiment.
        reproduce, location, devices: Settings of the experiment.

    Raises:
        InputError: The rates, filters or rows are not valid.
    """
    if reproduce.experiment == "figure4":
        return _figure4(run_dir, reproduce, location, devices)
    run = run_dir / "one_shot"
    made = [_train(run, reproduce, location, devices)]
    if reproduce.experiment == "figure7":
        made[0].append("--track_architectures=6")
        return [*made, ["analyze", f"--run_dir={run}"]]
    made.append(_search(run, reproduce, location, devices))
    if reproduce.experiment == "figure5":
        made.append(_stratified(run, reproduce, location, devices))
    if reproduce.experiment.startswith("table"):
        made += _table(run, reproduce, location, devices)
    return [*made, ["analyze", f"--run_dir={run}"]]


def _figure4(
    run_dir: pathlib.Path,
    reproduce: ReproduceSettings,
    location: settings.LocationSettings,
    devices: settings.DistributionSettings,
):
    """Returns the commands for figure 4: a one-shot model for each rate.

    The candidates of the first model decide which stand-alone models are trained.
    """
    runs: list[Any]
    made, runs = [], []
    for rate in _numbers("rates", reproduce.rates, float):
        run = run_dir / f"rate_{rate:g}"
        train = _train(run, reproduce, location, devices)
        made.append([*train, f"--drop_rate={rate}", "--drop_schedule=constant"])
        if not runs:
            made.append(_search(run, reproduce, location, devices))
            made.append(_stratified(run, reproduce, location, devices))
        else:
            search = _search(run, reproduce, location, devices)
            made.append([*search, f"--trained_in={runs[0]}"])
        runs.append(run)
    others = ",".join(str(run) for run in runs[1:])
    return [*made, ["analyze", f"--run_dir={runs[0]}", f"--compare={others}"]]


def _table(
    run: Any,
    reproduce: ReproduceSettings,
    location: settings.LocationSettings,
    devices: settings.DistributionSettings,
):
    """Returns the commands for a selection of stand-alone models for each F and row."""
    rows = reproduce.rows.split(",")
    if unknown := set(rows) - set(_SELECTIONS):
        raise InputError(
            f"--rows={reproduce.rows} has unknown rows: {', '.join(sorted(unknown))}. Rows must be "
            f"among {', '.join(_SELECTIONS)}."
        )
    return [
        _retrain(run, reproduce, location, devices, f"--select={row}", f"--name={row}_{filters}",
                 f"--filters={filters}", f"--count={reproduce.count}", f"--top={reproduce.top}")
        for filters in _numbers("filters", reproduce.filters, int)
        for row in rows
    ]  # fmt: skip


def _numbers(name: str, text: str, kind: Callable[[str], Any]):
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--{name} must be numbers separated by commas; got {text}.") from None


def _common(location: settings.LocationSettings, devices: settings.DistributionSettings):
    # Passes on only the flags that the user has changed, so that the flag files decide the others.
    flags = [] if devices.distribution == "auto" else [f"--distribution={devices.distribution}"]
    flags += [f"--threads={devices.threads}"] if devices.threads else []
    flags += [f"--data_dir={location.data_dir}"] if location.data_dir else []
    return [*flags, "--download" if location.download else "--nodownload"]


def _train(
    run: Any,
    reproduce: ReproduceSettings,
    location: settings.LocationSettings,
    devices: settings.DistributionSettings,
):
    steps = [f"--train_steps={reproduce.train_steps}"] if reproduce.train_steps else []
    flags = ["train", f"--flagfile={reproduce.train_flags}", f"--run_dir={run}"]
    return [*flags, *_common(location, devices), *steps]


def _search(
    run: Any,
    reproduce: ReproduceSettings,
    location: settings.LocationSettings,
    devices: settings.DistributionSettings,
):
    flags = ["search", f"--run_dir={run}", f"--num_candidates={reproduce.num_candidates}"]
    return [*flags, *_common(location, devices)]


def _stratified(
    run: Any,
    reproduce: ReproduceSettings,
    location: settings.LocationSettings,
    devices: settings.DistributionSettings,
):
    more = ("--select=stratified", f"--count={reproduce.count}", "--evaluate_on=validation")
    return _retrain(run, reproduce, location, devices, *more)


def _retrain(
    run: Any,
    reproduce: ReproduceSettings,
    location: settings.LocationSettings,
    devices: settings.DistributionSettings,
    *more: str,
):
    flags = ["retrain", f"--flagfile={reproduce.retrain_flags}", f"--run_dir={run}"]
    epochs = [f"--epochs={reproduce.epochs}"] if reproduce.epochs else []
    common = _common(location, devices)
    return [*flags, *common, *epochs, f"--repeats={reproduce.repeats}", *more]


if __name__ == "__main__":
    command_line.run(
        main,
        settings.RunSettings,
        ReproduceSettings,
        settings.LocationSettings,
        settings.DistributionSettings,
    )
