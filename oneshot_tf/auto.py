"""Makes a classifier from a folder of images, within a time.

Looks at the images, chooses sizes and lengths for this machine, trains the one-shot model, and
searches. Then it compares the best nets with random nets, a plain CNN and a small MobileNet. The
best net by validation accuracy is trained on all training images, scored once on the test images,
and exported. If it stops, repeat the command to resume. With --share_work, start the same command
several times.
Example: python -m oneshot_tf.auto --data=my_photos --out=runs/mine --budget=30m
"""

import functools
from collections.abc import Callable
from typing import Any

from oneshot_tf import export, retrain, search, settings, train
from oneshot_tf.analysis import live
from oneshot_tf.analysis.first_screen import sentences
from oneshot_tf.analysis.report import Report
from oneshot_tf.data.sources import keep_data
from oneshot_tf.devices.threads import set_threads
from oneshot_tf.planning import contest, plan
from oneshot_tf.planning.asked import AutoSettings
from oneshot_tf.planning.budgets import as_time
from oneshot_tf.planning.contest import Contender, Outcome
from oneshot_tf.planning.diary import Diary
from oneshot_tf.planning.job import Job
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.serving.formats import check_formats
from oneshot_tf.settings import (
    DeviceSettings,
    LimitSettings,
    LocationSettings,
    OneShotSettings,
    RetrainSettings,
    RunSettings,
    SharingSettings,
    command_line,
)
from oneshot_tf.strategies import DEFAULT_STRATEGY, PROPOSERS, STRATEGIES
from oneshot_tf.system.claims import Claims
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import discard_folder, make_folder
from oneshot_tf.system.hints import without_next
from oneshot_tf.system.locks import locked
from oneshot_tf.system.progress import Progress
from oneshot_tf.system.sharing import do_together

_CLAIMS = "auto_claims"  # folder of the phases that copies of the program work on
_LAST = 3  # phases after the comparison: final training, export and report


def main(
    auto: AutoSettings,
    location: LocationSettings,
    limits: LimitSettings,
    device: settings.DistributionSettings,
    sharing: SharingSettings | None = None,
) -> None:
    """Plans and runs all phases."""
    sharing = sharing or SharingSettings()
    check_formats(export.ExportSettings(format=auto.format).formats)
    if device.distribution in ("multi_worker", "tpu"):
        raise InputError(
            f"--distribution={device.distribution} is not for auto, which needs one machine with a "
            "CPU or GPUs. Use train, search and retrain."
        )
    directory = RunDirectory(auto.out)
    set_threads(directory.threads(device.threads))  # before TensorFlow starts
    folder = make_folder(directory.path)
    with locked(folder, sharing.share_work, ".auto.lock"), keep_data(), without_next():
        diary = Diary(folder, {"auto": auto, "limits": limits}, sharing.share_work)
        job = Job(auto, location, limits, directory, diary)
        print(_plan_of(job), flush=True)
        _Phases(job, device, sharing).run()
        candidates = CandidateFile(directory)
        lines = diary.decided("summary", lambda: sentences(directory, candidates.read()))
        discard_folder(folder / _CLAIMS)
        print("\n" + "\n".join(lines), flush=True)


def _plan_of(job: Job) -> str:
    """Makes the plan and returns it as text."""
    data, sizes = job.dataset, job.plan
    lines = [
        f"{len(data.train):,} training images of {data.image_size}x{data.image_size}, "
        f"{data.num_classes} classes{', which count the same' if job.balanced else ''}.",
        f"Plan for --budget={job.auto.budget}: nets of {sizes.num_cells} cells with F = "
        f"{sizes.filters}.",
    ]
    if not sizes.one_shot_passes:
        lines.append(
            "There is no time for a search on this machine. Random nets and baselines are compared."
        )
    else:
        lines.append(
            f"The one-shot model trains for {sizes.one_shot_passes:.1f} passes over the images, "
            f"{sizes.batch_size} images in a step."
        )
    if isinstance(job.budget, float):
        names = {
            "one_shot": "one-shot model",
            "contenders": "comparison",
            "final": "final training",
        }
        for phase in plan.PHASES if sizes.one_shot_passes else plan.PHASES[2:]:
            shown = as_time(job.planned(phase))
            lines.append(f"  {names.get(phase, phase):15s} about {shown}")
    return "\n".join(lines)


class _Phases:
    """The phases. Each one calls a program."""

    def __init__(self, job: Job, device: settings.DistributionSettings, sharing: SharingSettings):
        self.job, self.device, self.sharing = job, device, sharing
        self.devices = DeviceSettings(**device.to_dict())
        self.run_settings = RunSettings(run_dir=str(job.directory.path))
        self.strategy: Any = STRATEGIES[DEFAULT_STRATEGY].settings()
        self.passed = 0  # number of phases that are over

    def run(self) -> None:
        """Runs the phases that are not done."""
        job = self.job
        if job.plan.one_shot_passes:
            self._each({"one_shot": ("One-shot model", self.train)})
            self._all("search", "Search", self.search)
        else:
            self._each({"begin": ("Run directory", self.begin)})
        count = len(job.contenders)
        titles = [
            f"Comparison, net {number} of {count}: {net.kind}"
            for number, net in enumerate(job.contenders, start=1)
        ]
        self._each({
            net.name: (title, functools.partial(self.compare, net))
            for net, title in zip(job.contenders, titles)
        })  # fmt: skip
        outcomes = job.outcomes()
        print(f"\nAccuracy on {outcomes[0].num_images:,} validation images:")
        print(contest.table(outcomes), flush=True)
        best = contest.winner(outcomes, job.balanced)
        title = f"Final training of the best net: {best.contender.kind}"
        self._each({"final": (title, functools.partial(self.final, best))})
        self._each({"export": ("Export", self.export)})
        self._each({"report": ("Report", self.report)})

    def _each(self, phases: dict[str, tuple[str, Callable[[], None]]]) -> None:
        """Runs phases, each by one copy of the program. Returns when all of them are done.

        Args:
            phases: Title and work by name.
        """
        numbers = {name: self.passed + place for place, name in enumerate(phases, start=1)}
        self.passed += len(phases)

        def do(name: str) -> None:
            self._do(name, *phases[name], numbers[name])

        left = [name for name in phases if not self.job.diary.is_done(name)]
        if not self.sharing.share_work:
            for name in left:
                do(name)
        elif left:
            folder = make_folder(self.job.directory.path / _CLAIMS)
            with Claims(folder, self.sharing.claim_seconds) as claims:
                do_together(
                    claims, left, lambda claim: do(claim.name), self.job.diary.is_done,
                    lambda: False, Progress("auto", len(left), "phases"),
                )  # fmt: skip

    def _all(self, name: str, title: str, work: Callable[[], None]) -> None:
        """Runs a phase whose work all copies of the program share."""
        self.passed += 1
        if not self.job.diary.is_done(name):
            self._do(name, title, work, self.passed)

    def _do(self, name: str, title: str, work: Callable[[], None], number: int) -> None:
        job, left, words = self.job, None, ""
        if isinstance(job.budget, float):
            left = job.budget - job.diary.spent
            words = f" ({as_time(left)} of {as_time(job.budget)} left)"
        first = 2 if job.plan.one_shot_passes else 1
        nets = len(job.contenders) if number > first else job.num_nets
        print(f"\n== {title}{words}", flush=True)
        with job.diary.phase(name), live.phase(title, number, first + nets + _LAST, left):
            work()

    def train(self) -> None:
        """Trains the one-shot model."""
        job = self.job
        one_shot = OneShotSettings(train_steps=job.train_steps, seed=job.auto.seed)
        train.main(
            self.run_settings, job.data, job.plan.model, job.training(), one_shot, self.strategy,
            self.devices,
        )  # fmt: skip

    def begin(self) -> None:
        """Begins the run without a one-shot model."""
        job = self.job
        groups = {
            "data": job.data, "model": job.plan.model, "train": job.training(),
            "one_shot": OneShotSettings(train_steps=1, seed=job.auto.seed),
            "strategy": self.strategy, "device": self.devices,
        }  # fmt: skip
        with job.directory.locked():
            train.begin(job.directory, groups, job.dataset)

    def search(self) -> None:
        """Scores candidates with the weights of the one-shot model."""
        job = self.job
        wanted = search.SearchSettings(num_candidates=job.num_candidates, seed=job.auto.seed)
        strategy = PROPOSERS["random"].settings()
        search.main(
            self.run_settings, wanted, strategy, job.location, self.device, job.limits,
            self.sharing,
        )  # fmt: skip

    def compare(self, net: Contender) -> None:
        """Trains a net for its part of the time, and scores it on the validation images."""
        if self.job.affords(net):
            self._retrain(net, net.name, self.job.epochs(net), "validation", net.augmentation)
        else:
            print("This net is left out, because the time is short.", flush=True)

    def final(self, best: Outcome) -> None:
        """Trains the chosen net on all training images, and scores it on the test images."""
        augmentation = contest.augmentation_of(self.job.outcomes(), self.job.balanced)
        epochs = self.job.final_epochs(best)
        self._retrain(best.contender, "final", epochs, "test", augmentation)

    def _retrain(
        self, net: Contender, name: str, epochs: float, evaluate_on: str, augmentation: str
    ) -> None:
        job = self.job
        chosen = net.retraining(job.directory.stack(), job.dataset.num_classes)
        wanted = RetrainSettings(
            name=name, epochs=epochs, evaluate_on=evaluate_on, count=1, seed=job.auto.seed, **chosen
        )
        limits = LimitSettings() if "select" in chosen else job.limits
        retrain.main(
            self.run_settings, wanted, job.training(True, augmentation), self.devices,
            job.location, job.tools(epochs), limits, self.sharing,
        )  # fmt: skip

    def export(self) -> None:
        """Writes the files of the chosen net."""
        job = self.job
        wanted = export.ExportSettings(net="final/net_00/run_0", format=job.auto.format)
        export.main(self.run_settings, wanted, job.location, job.limits)

    def report(self) -> None:
        """Writes the report."""
        with self.job.directory.locked(shared=True):
            path = Report(self.job.directory, location=self.job.location).write()
        print(f"The report is {path}.", flush=True)


if __name__ == "__main__":
    command_line.run(
        main, AutoSettings, LocationSettings, LimitSettings, settings.DistributionSettings,
        SharingSettings,
    )  # fmt: skip
