"""One experiment of the paper, from training to report: figure 4, 5, 6 or 7, table 1 or 2.

Runs the other programs, one after another, and prints each command before it starts. Killed, it
goes on with the same command. Results are in RUN_DIR/*/report/report.html:
python -m oneshot_tf.reproduce --flagfile=figure5_cpu.flags --run_dir=runs/figure5
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
    """Which experiment of the paper, and at what size."""

    experiment: str = setting(
        "figure5",
        "figure4 (one-shot models of several constant rates), figure5 (candidate against "
        "stand-alone accuracy), figure6 (accuracy against divergence), figure7 (divergence over "
        "training), table1 (selections of nets, at each F), table2 (the same, for ImageNet).",
        choices=("figure4", "figure5", "figure6", "figure7", "table1", "table2"),
    )
    train_flags: str = setting("cifar.flags", "Flag file of the one-shot model's training.")
    train_steps: int = setting(0, "Its steps; 0: what the flag file says.", least=0)
    retrain_flags: str = setting(
        "cifar_retrain_28.flags", "Flag file of the stand-alone nets' training."
    )
    epochs: float = setting(0.0, "Its epochs; 0: what the flag file says.", least=0.0)
    repeats: int = setting(5, "Runs of each stand-alone net.", least=1)
    num_candidates: int = setting(20_000, "Candidates of the search.", least=1)
    count: int = setting(32, "Nets to train alone (tables: for each row and F).", least=1)
    top: int = setting(100, "For tables: the best candidates that the row Top is of.", least=1)
    rates: str = setting("1e-6,0.01,0.3", "For figure 4: dropout rates, separated by commas.")
    filters: str = setting("16,32,64,128", "For tables: F, separated by commas.")
    rows: str = setting(
        "top,small,random,all_on",
        "For tables: rows, separated by commas. They may be filled on different days and machines: "
        "each is a folder of RUN_DIR/one_shot/retrain, which may be copied from elsewhere.",
    )


def main(
    run: Any,
    reproduce: ReproduceSettings,
    location: settings.LocationSettings,
    devices: settings.DistributionSettings,
) -> None:
    """Reproduces; each argument is the object of `settings` of that kind."""
    todo = commands(pathlib.Path(run.run_dir), reproduce, location, devices)
    for pattern in ("one_shot", "rate_*"):
        for path in user_path(run.run_dir).glob(pattern):
            if path.is_symlink():  # otherwise the other programs look at what is in it
                check_folder(path, path.parent)
    for number, (program, *flags) in enumerate(todo, start=1):
        print(f"[{number}/{len(todo)}] {command(program, *flags)}", flush=True)
        code = _run([sys.executable, "-m", f"oneshot_tf.{program}", *flags])
        if code in (130, 143):
            raise Interrupted(code - 128, f" in step {number} of {len(todo)}")
        if code:
            raise InputError(
                f"Step {number} of {len(todo)} ({program}) ended with code {code}; its own line "
                "gives the reason. Correct it and repeat the command to resume."
            )


def _run(command: list[str]) -> int:
    """Runs a program to its end, or to ours."""
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
    """Programs with their flags, in order.

    Args:
        run_dir: Folder below which all runs are.
        reproduce, location, devices: Objects of `settings`.

    Raises:
        InputError: rates, filters or rows that are not.
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
    """A one-shot model for each rate; the first one chooses what is trained alone."""
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
    """A selection of nets for each F and row."""
    rows = reproduce.rows.split(",")
    if unknown := set(rows) - set(_SELECTIONS):
        raise InputError(
            f"--rows={reproduce.rows}: unknown is {', '.join(sorted(unknown))}; known are "
            f"{', '.join(_SELECTIONS)}."
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
    # What the flag files say counts, unless something else was asked for.
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
