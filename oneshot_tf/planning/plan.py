"""Chooses the sizes of the nets and the lengths of the phases, so that a budget is kept.

The time of a phase is its start plus its images times the seconds for an image. Two numbers are
measured on this machine: the start and the seconds for an image of the training of a random net of
three cells with F = 8. The others follow from them by ratios, which were measured on two CPU cores
and are rough. So each phase is planned when it begins, from the time that is left then. The last
training takes what remains.
"""

import dataclasses

from oneshot_tf.cost import counts
from oneshot_tf.learning.defaults import PAPER_BATCH, default_batch_size
from oneshot_tf.planning.budgets import Passes
from oneshot_tf.planning.speed import Speed
from oneshot_tf.settings import ModelSettings
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.space import Space
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError

# The one-shot model takes about this many times as long for an image, and for its start, while no
# paths are dropped.
ONE_SHOT_IMAGE, ONE_SHOT_START = 4.5, 7.0
# Time rises with this power of the multiply-adds, because small operations are less efficient.
_POWER = 0.8
SEARCH_IMAGE, SEARCH_START = 0.35, 4.0  # the forward pass of a candidate
NET_START = 2.0  # a training and the evaluation of a net
END_SECONDS, END_START = 30.0, 4.0  # the export in a fresh process, and the report
# Shares of the time that is not spent on starts.
SHARES = {"one_shot": 0.30, "search": 0.08, "contenders": 0.25, "final": 0.37}
LEAST_PASSES, GOOD_PASSES = 10.0, 20.0  # for the one-shot model; without it, for the final net
MOST_PASSES = {"one_shot": 228.0, "contenders": 100.0, "final": 300.0}
LEAST_NETS = 2  # nets that are always compared
LEAST_CANDIDATES, MOST_CANDIDATES = 20, 2000
NETS = ((3, 8), (3, 16), (6, 16), (6, 32))  # numbers of cells and filters, the fastest first
_GHOST, _LEAST_GHOSTS, _LEAST_STEPS = 32, 4, 400


@dataclasses.dataclass(frozen=True)
class Plan:
    """The sizes of a run.

    Args:
        image_size: Height and width in pixels.
        stem_stride, num_cells, filters: As in `ModelSettings`.
        one_shot_passes: Passes over the training images for the one-shot model. 0: there is no
            time for a search.
        ghost_batch_size: Images that share batch statistics.
        batch_size: Images in a step of the one-shot training.
        final_batch_size: Images in a step of stand-alone trainings.
    """

    image_size: int
    stem_stride: int
    num_cells: int
    filters: int
    one_shot_passes: float
    ghost_batch_size: int
    batch_size: int
    final_batch_size: int

    @property
    def model(self) -> ModelSettings:
        """The settings of the one-shot model."""
        return ModelSettings(
            num_cells=self.num_cells, filters=self.filters, stem_stride=self.stem_stride
        )


@dataclasses.dataclass(frozen=True)
class Clock:
    """What is left of a time budget.

    Args:
        seconds: The whole budget.
        spent: Seconds that are over.
        speed: The speed of the reference net: three cells, F = 8.
    """

    seconds: float
    spent: float
    speed: Speed

    def flexible(self, phases: tuple[str, ...], nets: int) -> float:
        """Returns the seconds for training and scoring images in the phases that are left.

        Args:
            phases: Names of the phases that are left.
            nets: Number of nets that are compared.
        """
        starts = {
            "one_shot": ONE_SHOT_START,
            "search": SEARCH_START,
            "contenders": (1.0 + NET_START) * nets,
            "final": NET_START,
        }
        start = self.speed.start * (sum(starts[phase] for phase in phases) + END_START)
        return self.seconds - self.spent - start - END_SECONDS

    def share(self, phase: str, phases: tuple[str, ...], nets: int) -> float:
        """Returns the seconds of one of the phases that are left, at least 0."""
        whole = sum(SHARES[each] for each in phases)
        return max(0.0, self.flexible(phases, nets) * SHARES[phase] / whole)


PHASES = tuple(SHARES)


def ghost_batch_size(num_images: int) -> int:
    """Returns 32, or less for fewer than 128 training images, so that a step has four."""
    size = _GHOST
    while size > 2 and size * _LEAST_GHOSTS > num_images:
        size //= 2
    return size


def one_shot_batch(num_images: int, passes: float, ghost: int) -> int:
    """Returns the batch size of the one-shot training.

    It is that of `default_batch_size`, or less, down to four ghost batches, so that a short
    training takes at least 400 steps.
    """
    size = min(PAPER_BATCH, default_batch_size(num_images, ghost))
    while size > _LEAST_GHOSTS * ghost and passes * num_images / size < _LEAST_STEPS:
        size = max(_LEAST_GHOSTS * ghost, size // 2 // ghost * ghost)
    return size


def relative_time(multiply_adds: float, reference: float) -> float:
    """Returns about how long a net takes for an image, relative to another one.

    Args:
        multiply_adds: Multiply-adds of the net for one image.
        reference: Multiply-adds of the other net.
    """
    return (multiply_adds / reference) ** _POWER


def relative_time_of_all_on(
    model: ModelSettings, image_size: int, reference_size: int, reference_stride: int
) -> float:
    """Returns `relative_time` for All On in the sizes of a model and of the reference net.

    Args:
        model: The sizes of a net.
        image_size: Its image size.
        reference_size, reference_stride: The image size and stem stride that the reference net
            was timed with.
    """
    space = model.search_space()
    sizes = ((model, image_size), (reference_model(reference_stride), reference_size))
    costs = [
        int(counts.multiply_adds(space, [space.all_on()], each.stack(), 10, size)[0])
        for each, size in sizes
    ]
    return relative_time(*costs)


Net = tuple[Architecture, tuple[Stack, int, int]]  # a cell; its stack, classes and image size


def relative_time_of_cells(space: Space, net: Net, reference: Net) -> float:
    """Returns `relative_time` for two stand-alone models of cells.

    Args:
        space: The search space of both cells.
        net: A cell, and the stack, number of classes and image size of its model.
        reference: The same of the other one.
    """
    costs = [int(counts.multiply_adds(space, [a], *sizes)[0]) for a, sizes in (net, reference)]
    return relative_time(*costs)


def reference_model(stride: int) -> ModelSettings:
    """Returns the sizes of the net that is timed, for a stem stride."""
    return ModelSettings(num_cells=NETS[0][0], filters=NETS[0][1], stem_stride=stride)


def plan_for_time(
    clock: Clock, num_images: int, sizes: list[tuple[int, int]], nets: int, fixed: dict[str, int]
) -> Plan:
    """Chooses the largest nets whose one-shot model gets enough passes; else the final net does.

    Args:
        clock: The budget. Its speed was measured at the first of the sizes.
        num_images: Number of training images.
        sizes: Image sizes and stem strides to choose from, the largest first.
        nets: Number of nets that are compared.
        fixed: Values of `num_cells` and `filters` that the user chose.

    Raises:
        InputError: The budget is too small to compare two nets with one pass each.
    """
    times: dict[tuple[int, ModelSettings], float] = {}  # seconds for a pass of a net
    for image_size, stride in sizes:
        for cells, filters in NETS:
            model = ModelSettings(
                num_cells=fixed.get("num_cells", cells), filters=fixed.get("filters", filters),
                stem_stride=stride,
            )  # fmt: skip
            relative = relative_time_of_all_on(model, image_size, *sizes[0])
            times[image_size, model] = clock.speed.image * relative * num_images
    seconds = clock.share("one_shot", PHASES, nets) / ONE_SHOT_IMAGE
    fastest = min(times, key=lambda key: times[key])
    chosen = _largest(times, seconds / GOOD_PASSES) or fastest
    passes = min(seconds / times[chosen], MOST_PASSES["one_shot"])
    if passes < LEAST_PASSES:
        passes = 0.0
        chosen = _largest(times, clock.share("final", PHASES[2:], nets) / GOOD_PASSES) or fastest
        _check_contenders(clock, num_images)
    return sized(chosen[1], chosen[0], passes, num_images)


def _largest(
    times: dict[tuple[int, ModelSettings], float], most: float
) -> tuple[int, ModelSettings] | None:
    """Returns the largest image size and the largest net for it whose time is at most `most`."""
    fit = [key for key, seconds in times.items() if seconds <= most]
    return max(fit, key=lambda key: (key[0], _detail_of(key[1]))) if fit else None


def _detail_of(model: ModelSettings) -> tuple[int, int, int]:
    """Returns a key that is greater for nets that keep more detail, then for larger nets."""
    return -model.stem_stride, model.num_cells, model.filters


def _check_contenders(clock: Clock, num_images: int) -> None:
    """Raises InputError if there is no time for a pass of two nets and of the final training."""
    needed = (LEAST_NETS + 1) * num_images * clock.speed.image
    lacking = needed - clock.flexible(("contenders", "final"), LEAST_NETS)
    if lacking > 0:
        least = int((clock.seconds + lacking) / 60) + 1
        raise InputError(
            f"--budget must be at least {least}m for {num_images:,} training images on this "
            f"machine, so that {LEAST_NETS} nets can be compared with one pass each; got "
            f"{clock.seconds / 60:g}m. Raise it, or give a smaller --image_size."
        )


def affordable(clock: Clock, nets: int, pass_seconds: float) -> int:
    """Returns how many nets can be compared so that each, and the final one, gets a pass.

    Args:
        clock: The time that is left.
        nets: The number of nets that are wanted.
        pass_seconds: Seconds for a pass over the training images.
    """
    numbers = range(nets, LEAST_NETS, -1)
    fit = (n for n in numbers if clock.flexible(PHASES[2:], n) >= (n + 1) * pass_seconds)
    return next(fit, min(nets, LEAST_NETS))


def sized(model: ModelSettings, image_size: int, passes: float, num_images: int) -> Plan:
    """Returns a plan with the batch sizes that suit a number of passes and images."""
    ghost = ghost_batch_size(num_images)
    batch = one_shot_batch(num_images, passes, ghost)
    final = ghost * max(1, min(64 // ghost, num_images // (4 * ghost)))
    return Plan(
        image_size, model.stem_stride, model.num_cells, model.filters, passes, ghost, batch, final
    )


def plan_for_passes(
    passes: Passes, num_images: int, sizes: list[tuple[int, int]], fixed: dict[str, int]
) -> Plan:
    """Returns the plan of a budget in passes. It does not depend on the machine.

    Args:
        passes: The budget.
        num_images: Number of training images.
        sizes: Image sizes and stem strides, the largest first. The first up to 64 is taken.
        fixed: As in `plan_for_time`.
    """
    image_size, stride = next((s for s in sizes if s[0] <= 64), sizes[-1])
    model = ModelSettings(
        num_cells=fixed.get("num_cells", passes.num_cells),
        filters=fixed.get("filters", passes.filters),
        stem_stride=stride,
    )
    return sized(model, image_size, passes.one_shot, num_images)
