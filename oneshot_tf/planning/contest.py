"""The nets that `auto` compares: searched ones, random ones of like size, and two baselines."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from oneshot_tf.cost.baselines import BASELINES, Baseline, of_size, of_text
from oneshot_tf.runs.baselines import costs_of
from oneshot_tf.runs.candidates import Candidate, pareto_front, ranked
from oneshot_tf.runs.selection import select
from oneshot_tf.settings import LimitSettings, RetrainSettings
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.space import Space
from oneshot_tf.space.stacking import Stack

NUM_RANDOM = 2
_MIRRORED = "plain_cnn_mirrored"
_SMALLER = 0.7  # a further searched net has at most this share of the parameters of the last one
_KINDS = {"plain_cnn": "plain CNN", "mobile_net": "small MobileNet"}
assert set(_KINDS) == set(BASELINES)


@dataclasses.dataclass(frozen=True)
class Contender:
    """A net of the comparison.

    Args:
        name: Name of its folder in RUN_DIR/retrain.
        kind: What it is, in words.
        net: An architecture or a baseline, as text.
        eligible: Whether it may be chosen.
        augmentation: The augmentation of its training; "" for that of the run.
    """

    name: str
    kind: str
    net: str
    eligible: bool = True
    augmentation: str = ""

    @property
    def baseline(self) -> Baseline | None:
        """The baseline; None for an architecture."""
        return of_text(self.net)

    def parameters(self, space: Space, stack: Stack, num_classes: int) -> int:
        """Returns its number of trained parameters."""
        net = self.baseline or Architecture.from_text(self.net)
        return costs_of(space, net, stack, num_classes, 1)["parameters"]

    def retraining(self, stack: Stack, num_classes: int) -> dict[str, Any]:
        """Returns the settings of `retrain` that train this net."""
        if self.baseline is None:
            return {"architecture": self.net}
        # `retrain` takes the width whose number of parameters is nearest, which is this one.
        parameters = self.baseline.parameters(stack, num_classes)
        return {"select": self.baseline.kind, "parameters": parameters}


def num_nets(searched: int) -> int:
    """Returns the number of nets that are compared, for a number of searched ones."""
    return searched + NUM_RANDOM + len(BASELINES)


def searched_nets(candidates: Sequence[Candidate], count: int, seed: int) -> list[Contender]:
    """Returns the best candidate, smaller ones on the front, and random ones of like size.

    Args:
        candidates: The candidates of the search.
        count: Number of nets from the front.
        seed: The seed of the random ones.
    """
    best = ranked(candidates)
    front = pareto_front(best)[::-1] or best
    chosen = [front[0]]
    for candidate in front[1:]:
        if candidate.parameters <= _SMALLER * chosen[-1].parameters and len(chosen) < count:
            chosen.append(candidate)
    rest = [c for c in best if c.architecture not in {c.architecture for c in chosen}]
    like = RetrainSettings(
        select="random", count=min(NUM_RANDOM, len(rest)), parameters=chosen[0].parameters,
        seed=seed,
    )  # fmt: skip
    randoms = select(rest, like) if rest else []
    texts = [str(c.architecture) for c in chosen], [str(c.architecture) for c in randoms]
    return _named("searched", "searched net", texts[0]) + _named("random", "random net", texts[1])


def random_nets(architectures: Sequence[Architecture]) -> list[Contender]:
    """Returns contenders for architectures that nothing was searched for."""
    return _named("random", "random net", [str(a) for a in architectures])


def _named(name: str, kind: str, nets: Sequence[str]) -> list[Contender]:
    return [Contender(f"{name}_{i}", kind, net) for i, net in enumerate(nets, start=1)]


def baselines(
    parameters: int, stack: Stack, num_classes: int, image_size: int, limits: LimitSettings
) -> list[Contender]:
    """Returns the baselines of like size.

    Args:
        parameters: Number of parameters to come near to.
        stack: The stack of the searched nets.
        num_classes: Number of classes.
        image_size: Height and width of the images in pixels.
        limits: The limits. Those on parameters and multiply-adds make the baselines smaller. With
            one on latency or on the file, baselines are compared but may not be chosen, because
            only cells have an estimate of both.
    """
    found = []
    for kind, words in _KINDS.items():
        baseline = of_size(kind, parameters, stack, num_classes)
        while baseline.width > 1 and (
            _beyond(limits.max_parameters, baseline.parameters(stack, num_classes))
            or _beyond(
                limits.max_multiply_adds, baseline.multiply_adds(stack, num_classes, image_size)
            )
        ):
            baseline = Baseline(kind, baseline.width - 1)
        eligible = not (limits.max_latency_ms or limits.max_file_kb)
        found.append(Contender(kind, words, str(baseline), eligible))
    return found


def _beyond(most: int, found: int) -> bool:
    return bool(most) and found > most


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a contender reached.

    Args:
        contender: The net.
        accuracy: Accuracy on the validation images.
        balanced_accuracy: Balanced accuracy on the same images.
        parameters, multiply_adds: Its costs.
        seconds: Seconds of its training and evaluation.
        epochs: Passes over the training images.
        num_images: Number of validation images.
    """

    contender: Contender
    accuracy: float
    balanced_accuracy: float
    parameters: int
    multiply_adds: int
    seconds: float
    epochs: float
    num_images: int

    def score(self, balanced: bool) -> float:
        """Returns what decides: the balanced accuracy, or the accuracy."""
        return self.balanced_accuracy if balanced else self.accuracy


def by_importance(nets: Sequence[Contender]) -> list[Contender]:
    """Returns the nets in the order of training. If the time runs out, the last ones are left out.

    A searched net and the plain CNN come first, and then what shows whether the search paid off.
    """
    first = ["searched_1", "plain_cnn", _MIRRORED, "random_1", "mobile_net"]
    rank = {name: place for place, name in enumerate(first)}
    return sorted(nets, key=lambda net: rank.get(net.name, len(first)))


def mirrored(nets: Sequence[Contender]) -> Contender:
    """Returns the plain CNN among the nets once more, trained on mirrored images, too."""
    plain = next(net for net in nets if net.name == "plain_cnn")
    return dataclasses.replace(
        plain, name=_MIRRORED, kind=f"{plain.kind}, mirrored images", augmentation="crop_flip"
    )


def augmentation_of(outcomes: Sequence[Outcome], balanced: bool) -> str:
    """Returns the augmentation of the better one of the two plain CNNs; "" for that of the run."""
    found = {o.contender.name: o.score(balanced) for o in outcomes}
    better = found.get(_MIRRORED, 0.0) > found.get("plain_cnn", 1.0)
    return "crop_flip" if better else ""


def outcome_of(contender: Contender, result: dict[str, Any], seconds: float) -> Outcome:
    """Returns the outcome in the result.json of a contender, as `read_result` returned it."""
    net = result["nets"][0]
    return Outcome(
        contender, net["accuracies"][0], net["balanced_accuracies"][0], net["parameters"],
        net["multiply_adds"], seconds, result["retrain"]["epochs"], result["num_images"],
    )  # fmt: skip


def winner(outcomes: Sequence[Outcome], balanced: bool) -> Outcome:
    """Returns the best of the eligible nets by validation accuracy, the smallest of equal ones."""

    def key(outcome: Outcome) -> tuple[float, int]:
        return -outcome.score(balanced), outcome.parameters

    return min((o for o in outcomes if o.contender.eligible), key=key)


def table(outcomes: Sequence[Outcome]) -> str:
    """Returns the outcomes as lines of text, the best one first."""
    head = ("net", "accuracy", "balanced", "parameters", "multiply-adds", "passes", "seconds")
    rows = [head]
    for o in sorted(outcomes, key=lambda o: -o.accuracy):
        rows.append((
            f"{o.contender.kind} ({o.contender.name})", f"{o.accuracy:.4f}",
            f"{o.balanced_accuracy:.4f}", f"{o.parameters:,}", f"{o.multiply_adds:,}",
            f"{o.epochs:.1f}", f"{o.seconds:.0f}",
        ))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )
