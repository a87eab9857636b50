"""The decisions of `auto`: sizes, nets and lengths. Each is made once and kept in auto.json."""

import dataclasses
import functools
from typing import Any

from oneshot_tf.data.dataset import Dataset
from oneshot_tf.data.sources import load_data
from oneshot_tf.nn.baselines import baseline_model
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.planning import contest, plan
from oneshot_tf.planning.asked import AutoSettings
from oneshot_tf.planning.budgets import Passes, parse_budget
from oneshot_tf.planning.contest import Contender, Outcome
from oneshot_tf.planning.diary import Diary
from oneshot_tf.planning.looking import Found, data_for, image_sizes, look, with_strides
from oneshot_tf.planning.plan import MOST_PASSES, PHASES, Clock, Plan
from oneshot_tf.planning.speed import Speed, time_training
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.results import read_result
from oneshot_tf.settings import (
    DataSettings,
    FinalSettings,
    LimitSettings,
    LocationSettings,
    TrainSettings,
)
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.space import Space
from oneshot_tf.strategies import RandomSearch
from oneshot_tf.system.errors import InputError
from oneshot_tf.timing.limits import RunLimits

_UNEQUAL = 3.0  # classes count equally if one has more than this many times the images of another
_SEARCHED = 2  # searched nets that a time budget compares


@dataclasses.dataclass(frozen=True)
class Job:
    """A run of `auto`.

    Args:
        auto, location, limits: What was asked for.
        directory: The run directory.
        diary: Its auto.json.
    """

    auto: AutoSettings
    location: LocationSettings
    limits: LimitSettings
    directory: RunDirectory
    diary: Diary

    @functools.cached_property
    def budget(self) -> float | Passes:
        """The seconds or the passes to spend."""
        return parse_budget(self.auto.budget)

    @property
    def clock(self) -> Clock:
        """The time that is left. Only for a budget in seconds."""
        assert isinstance(self.budget, float)
        speed = self.diary.decided("speed", lambda: dataclasses.asdict(self._reference_speed()))
        return Clock(self.budget, self.diary.spent, Speed(**speed))

    @functools.cached_property
    def found(self) -> Found:
        """What the data set holds."""
        found = self.diary.decided("found", lambda: dataclasses.asdict(look(self._asked_data)))
        return Found(**found)

    @functools.cached_property
    def plan(self) -> Plan:
        """The sizes of the nets."""
        return Plan(**self.diary.decided("plan", lambda: dataclasses.asdict(self._make_plan())))

    @functools.cached_property
    def data(self) -> DataSettings:
        """The data set with its image size."""
        given = data_for(self._asked_data, self.found, self.plan.image_size)
        stored = self.diary.decided("data", given.to_dict)
        # Only the location may differ when a run resumes.
        return DataSettings.from_stored({**stored, **self.location.to_dict()})

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The images."""
        return load_data(**self.data.to_dict())

    @functools.cached_property
    def balanced(self) -> bool:
        """Whether all classes count the same."""
        if self.auto.class_weights == "balanced" and self.dataset.train.labels is None:
            raise InputError(
                f"--class_weights=balanced needs the labels of all images of {self.dataset.name} "
                "at the start, but they are read with the images. Use --class_weights=none, or a "
                "smaller --image_size, so that the images fit in memory."
            )
        if self.auto.class_weights != "auto":
            return self.auto.class_weights == "balanced"
        assert self.dataset.inventory is not None
        counts = self.dataset.inventory(decode_test=False).per_class.get("train")
        return bool(counts is not None and counts.max() > _UNEQUAL * counts.min())

    @property
    def _asked_data(self) -> DataSettings:
        return DataSettings(
            **self.location.to_dict(), dataset=self.auto.dataset, fit=self.auto.fit,
            image_size=self.auto.image_size, skip_bad_images=self.auto.skip_bad_images,
        )  # fmt: skip

    @property
    def _sizes(self) -> list[tuple[int, int]]:
        """The image sizes to choose from, with their stem strides."""
        size = self.auto.image_size
        return with_strides(size) if size else image_sizes(self.found.side)

    def _reference_speed(self) -> Speed:
        print("Timing a small net on this machine ...", flush=True)
        size, stride = self._sizes[0]
        model = plan.reference_model(stride)
        space = model.search_space()
        net = Standalone(space, _reference_cell(space), model.stack(), num_classes=10)
        return time_training(net, size, TrainSettings(augmentation=self._augmentation))

    def _make_plan(self) -> Plan:
        sizes = {name: getattr(self.auto, name) for name in ("num_cells", "filters")}
        fixed = {name: value for name, value in sizes.items() if value}
        # A sixth becomes test images and a tenth of the rest validation images.
        images = max(1, self.found.num_images * 3 // 4)
        if isinstance(self.budget, Passes):
            return plan.plan_for_passes(self.budget, images, self._sizes, fixed)
        nets = self._num_nets(self._searched)
        return plan.plan_for_time(self.clock, images, self._sizes, nets, fixed)

    @property
    def _searched(self) -> int:
        return self.budget.searched if isinstance(self.budget, Passes) else _SEARCHED

    @property
    def num_nets(self) -> int:
        """Number of nets to compare. It may be less in the end, if the front is short."""
        return self._num_nets(self._searched if self.plan.one_shot_passes else 0)

    def _num_nets(self, searched: int) -> int:
        return contest.num_nets(searched) + self._tries_mirroring

    # -------------------------------------------------------------------- lengths

    def planned(self, phase: str) -> float:
        """Returns the seconds of training or scoring that a phase gets, as known now."""
        phases = PHASES if self.plan.one_shot_passes else PHASES[2:]
        return self.clock.share(phase, phases, self.num_nets)

    @property
    def train_steps(self) -> int:
        """Steps of the one-shot training."""
        images = len(self.dataset.train)
        return max(1, round(self.plan.one_shot_passes * images / self.plan.batch_size))

    @property
    def num_candidates(self) -> int:
        """Number of candidates to score."""

        def decide() -> int:
            if isinstance(self.budget, Passes):
                return self.budget.candidates
            seconds = self.clock.share("search", PHASES[1:], self.num_nets)
            each = plan.SEARCH_IMAGE * self._pass_seconds / len(self.dataset.train)
            number = int(seconds / (each * len(self.dataset.validation)))
            return max(plan.LEAST_CANDIDATES, min(plan.MOST_CANDIDATES, number))

        return self.diary.decided("num_candidates", decide)

    def epochs(self, contender: Contender) -> float:
        """Passes over the training images for a net of the comparison.

        With a budget in seconds, all nets get the same time. The time of a cell is an estimate.
        """

        def decide() -> float:
            if isinstance(self.budget, Passes):
                return self.budget.contender
            count = len(self.contenders)
            phases = PHASES[2:]
            seconds = self.diary.decided(
                "seconds_each", lambda: self.clock.share("contenders", phases, count) / count
            )
            image = self._seconds_for_image(contender)
            return _passes("contenders", seconds, image * len(self.dataset.train))

        return self.diary.decided(f"epochs_{contender.name}", decide)

    def _seconds_for_image(self, contender: Contender) -> float:
        """Returns the seconds for an image in the training of a net.

        Baselines are timed, and so is a cell if there was time for a search. A cell takes many
        seconds to trace, so the time of all others follows from that of this cell, or else of the
        reference net, by multiply-adds.
        """
        stack, num_classes = self.directory.stack(), self.dataset.num_classes
        if contender.baseline:
            net = baseline_model(contender.baseline, stack, num_classes)
            return self._timed(net)
        space, size = self.directory.space(), self.plan.image_size
        cell = Architecture.from_text(contender.net)
        if self.plan.one_shot_passes:
            first = next(net.net for net in self.contenders if net.baseline is None)
            known, net_of_known = Architecture.from_text(first), (stack, num_classes, size)
            seconds = self.diary.decided(
                "cell_seconds",
                lambda: self._timed(Standalone(space, known, stack, num_classes)),
            )
        else:
            reference_size, stride = self._sizes[0]
            reference = plan.reference_model(stride).stack()
            known, net_of_known = _reference_cell(space), (reference, num_classes, reference_size)
            seconds = self.clock.speed.image
        nets = (cell, (stack, num_classes, size)), (known, net_of_known)
        return seconds * plan.relative_time_of_cells(space, *nets)

    def _timed(self, net: Any) -> float:
        """Returns the seconds for an image in the training of a net, measured."""
        return time_training(net, self.plan.image_size, self.training(final=True)).image

    def affords(self, net: Contender) -> bool:
        """Returns whether there is time to train one more net of the comparison.

        The final training must keep time for as many passes, whichever net it will be.
        """

        def decide() -> bool:
            trained = [o for o in self.outcomes() if o.contender != net]
            if isinstance(self.budget, Passes) or len(trained) < plan.LEAST_NETS:
                return True
            more = sum(o.seconds for o in trained) / len(trained)
            final = max(o.seconds for o in trained) * self._more_images
            return self.clock.flexible((), 0) >= more + final

        return self.diary.decided(f"affords_{net.name}", decide)

    def final_epochs(self, best: Outcome) -> float:
        """Passes over the training and validation images for the chosen net.

        They are at least as many as in the comparison, even if this takes more than the budget.
        """

        def decide() -> float:
            if isinstance(self.budget, Passes):
                return self.budget.final
            seconds = self.clock.share("final", ("final",), 1)
            # Its speed in the comparison. Tracing and scoring took part of the time.
            start = (1 + plan.NET_START) * self.clock.speed.start
            working = max(best.seconds - start, best.seconds / 2)
            a_pass = working / best.epochs * self._more_images
            return max(best.epochs, _passes("final", seconds, a_pass))

        return self.diary.decided("epochs_final", decide)

    # ---------------------------------------------------------------- trainings and nets

    @property
    def _tries_mirroring(self) -> bool:
        return self.auto.augmentation == "auto"

    @property
    def _augmentation(self) -> str:
        """The augmentation of all trainings, unless a net has its own."""
        return "crop" if self._tries_mirroring else self.auto.augmentation

    def training(self, final: bool = False, augmentation: str = "") -> TrainSettings:
        """How the one-shot model is trained, or how stand-alone nets are.

        Args:
            final: Whether a stand-alone net is trained.
            augmentation: Its augmentation; "" for that of the run.
        """
        size = self.plan.final_batch_size if final else self.plan.batch_size
        return TrainSettings(
            batch_size=size, ghost_batch_size=self.plan.ghost_batch_size,
            augmentation=augmentation or self._augmentation,
        )  # fmt: skip

    def tools(self, epochs: float) -> FinalSettings:
        """The tools of final training, for a number of passes."""
        return FinalSettings(
            warmup_epochs=min(1.0, epochs / 10), weight_average=0.999,
            class_weights="balanced" if self.balanced else "none",
        )  # fmt: skip

    @functools.cached_property
    def contenders(self) -> list[Contender]:
        """The nets to compare. The search must be finished."""
        return [Contender(**net) for net in self.diary.decided("contenders", self._choose)]

    def _choose(self) -> list[dict[str, Any]]:
        space, stack = self.directory.space(), self.directory.stack()
        num_classes, size = self.dataset.num_classes, self.plan.image_size
        if self.plan.one_shot_passes:
            candidates = CandidateFile(self.directory).read()
            nets = contest.searched_nets(candidates, self._searched, self.auto.seed)
        else:
            allowed = RunLimits(self.directory, self.limits, stack).apply(space)
            random = RandomSearch(allowed, seed=self.auto.seed)
            nets = contest.random_nets(random.propose(contest.NUM_RANDOM))
        parameters = nets[0].parameters(space, stack, num_classes)
        nets += contest.baselines(parameters, stack, num_classes, size, self.limits)
        if self._tries_mirroring:
            nets.append(contest.mirrored(nets))
        if isinstance(self.budget, float):
            count = plan.affordable(self.clock, len(nets), self._pass_seconds)
            nets = contest.by_importance(nets)[:count]
        return [dataclasses.asdict(net) for net in nets]

    @property
    def _pass_seconds(self) -> float:
        """About how long a pass of a net over the training images takes."""
        relative = plan.relative_time_of_all_on(
            self.plan.model, self.plan.image_size, *self._sizes[0]
        )
        return self.clock.speed.image * relative * len(self.dataset.train)

    @property
    def _more_images(self) -> float:
        """Images of the final training, relative to those of the comparison."""
        return 1.0 + len(self.dataset.validation) / len(self.dataset.train)

    def result(self, name: str) -> dict[str, Any]:
        """Returns the result.json of a folder of RUN_DIR/retrain."""
        path = self.directory.path / "retrain" / name / "result.json"
        return read_result(self.directory, path)

    def outcomes(self) -> list[Outcome]:
        """Returns what the nets of the comparison reached that are trained."""
        seconds = self.diary.seconds
        return [
            contest.outcome_of(net, self.result(net.name), seconds[net.name])
            for net in self.contenders
            if self.diary.is_done(net.name) and self.affords(net)
        ]


def _reference_cell(space: Space) -> Architecture:
    return RandomSearch(space, seed=0).propose(1)[0]


def _passes(phase: str, seconds: float, a_pass: float) -> float:
    """Returns the passes that fit in a time, from 1 to the most that a phase takes."""
    return round(min(MOST_PASSES[phase], max(1.0, seconds / a_pass)), 2)
