"""Reports what a run has found, what it costs, and how well the candidates' ranking works.

Writes RUN_DIR/report/report.html, one file that opens offline, each plot as SVG and each table as
CSV. If the run lacks results for a part of the report, the report names the command that makes
them. It scores nothing: retrain has kept the answers of its nets. The pictures of the worst
mistakes need the images of the data set.
"""

import dataclasses

from oneshot_tf import settings
from oneshot_tf.analysis.report import Report
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.settings import Settings, command_line, setting
from oneshot_tf.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class AnalyzeSettings(Settings):
    """Report."""

    compare: str = setting(
        "",
        "Further run directories, separated by commas. Their one-shot models must have the same "
        "data and search space. Their candidates are compared with the same stand-alone models, "
        "as in figure 4 of the paper.",
    )
    search: str = setting(
        "",
        "Name of the search (--name of search) whose candidates to report. Empty: the search "
        "without a name. The curves over the evaluations are of all searches.",
    )
    only: str = setting(
        "",
        "Folders of RUN_DIR/retrain, separated by commas. The ranking is reported for their models "
        "only. Empty: for all models.",
    )
    resamples: int = setting(
        1000, "Number of bootstrap resamples for each interval.", least=100, most=10**6
    )
    top: int = setting(0, "k of precision at k. 0: a quarter of the stand-alone models.", least=0)


def main(
    run: settings.RunSettings,
    analyze: AnalyzeSettings,
    location: settings.LocationSettings | None = None,
) -> None:
    """Writes the report of a run and prints its main findings."""
    directory = RunDirectory(run.run_dir, analyze.search)
    others = [RunDirectory(path) for path in analyze.compare.split(",") if path]
    for other in others:
        if other.space() != directory.space():
            raise InputError(f"{other.path} must have the same search space as {directory.path}.")
        one, two = (each.facts()["fingerprint"] for each in (directory, other))
        if any(one[split] != two[split] for split in one.keys() & two.keys()):
            raise InputError(f"{other.path} must have the same images as {directory.path}.")
    with directory.locked(shared=True):
        only = [name for name in analyze.only.split(",") if name]
        report = Report(directory, others, analyze.resamples, analyze.top, only, location)
        path = report.write()
    for text in report.lead:
        print(text)
    for text in report.words:
        print(f"- {text}")
    print(f"The report is {path}.", flush=True)


if __name__ == "__main__":
    command_line.run(
        main,
        settings.RunSettings,
        AnalyzeSettings,
        settings.LocationSettings(download=False),
    )
