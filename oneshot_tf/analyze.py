"""Reports on a run: how well candidate accuracy ranks, with intervals, plots and tables.

Writes RUN_DIR/report/report.html, one file that opens offline, and beside it each plot as SVG
and each table as CSV. What a run lacks is named, with the command that makes it.
"""

import dataclasses

from oneshot_tf import settings
from oneshot_tf.analysis.report import Report
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.settings import Settings, command_line, setting
from oneshot_tf.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class AnalyzeSettings(Settings):
    """What is reported."""

    compare: str = setting(
        "",
        "More run directories, separated by commas: other one-shot models of the same data and "
        "space, whose candidates are compared with the same stand-alone nets (figure 4).",
    )
    only: str = setting(
        "",
        "Folders of RUN_DIR/retrain, separated by commas: the ranking is reported for their nets "
        "alone; empty: for all.",
    )
    resamples: int = setting(1000, "Of the bootstrap behind each interval.", least=100, most=10**6)
    top: int = setting(0, "k of precision at k; 0: a quarter of the nets.", least=0)


def main(run: settings.RunSettings, analyze: AnalyzeSettings) -> None:
    """Reports; each argument is the object of `settings` of that kind."""
    directory = RunDirectory(run.run_dir)
    others = [RunDirectory(path) for path in analyze.compare.split(",") if path]
    for other in others:
        if other.space() != directory.space():
            raise InputError(f"{other.path} has another search space than {directory.path}.")
        one, two = (each.facts()["fingerprint"] for each in (directory, other))
        if any(one[split] != two[split] for split in one.keys() & two.keys()):
            raise InputError(f"{other.path} was trained on other images than {directory.path}.")
    with directory.locked(shared=True):
        only = [name for name in analyze.only.split(",") if name]
        report = Report(directory, others, analyze.resamples, analyze.top, only)
        path = report.write()
    for text in report.words:
        print(f"- {text}")
    print(f"The report is {path}.", flush=True)


if __name__ == "__main__":
    command_line.run(main, settings.RunSettings, AnalyzeSettings)
