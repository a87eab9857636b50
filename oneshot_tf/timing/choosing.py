"""Chooses candidates and stand-alone models that are within limits."""

import dataclasses
from collections.abc import Iterable

from oneshot_tf.runs.candidates import Candidate, ranked
from oneshot_tf.runs.selection import select
from oneshot_tf.settings import RetrainSettings
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError
from oneshot_tf.timing.limits import RunLimits


def select_within(
    candidates: Iterable[Candidate], retrain: RetrainSettings, limits: RunLimits
) -> list[Candidate]:
    """Returns the candidates to train alone, as `select` does, of those within the limits.

    The chosen candidates are measured. If one is beyond a limit after all, the choice is made
    again without it.

    Raises:
        InputError: There are too few candidates within the limits.
    """
    best = ranked(candidates)
    ranks = {c.architecture: c.rank for c in best}
    while True:  # each round measures a candidate that was unknown
        allowed = _allowed(limits.costed(best), limits)
        chosen = select(allowed, retrain)
        new = limits.unknown(c.architecture for c in chosen)
        if not new:
            break
        limits.measure(new)
    if limits:
        print(f"{len(allowed):,} of {len(best):,} candidates are within {limits.given()}.")
    return [dataclasses.replace(c, rank=ranks[c.architecture]) for c in chosen]


def _allowed(best: list[Candidate], limits: RunLimits) -> list[Candidate]:
    ok = limits.within([c.architecture for c in best])
    allowed = [c for c, each in zip(best, ok) if each]
    if best and not allowed:
        ratios = limits.ratios([c.architecture for c in best])
        nearest = best[int(ratios.argmin())]
        raise InputError(
            f"None of the {len(best):,} candidates is within {limits.given()}. The nearest one, of "
            f"rank {nearest.rank}, has {limits.described(nearest.architecture)}. Raise the limit, "
            "or search again with it."
        )
    return allowed


def check_within(architecture: Architecture, limits: RunLimits) -> None:
    """Measures an architecture and makes sure that it is within the limits.

    Raises:
        InputError: It is not.
    """
    if not limits:
        return
    limits.measure([architecture])
    if not limits.within([architecture])[0]:
        raise InputError(
            f"{architecture} is not within {limits.given()}: it has "
            f"{limits.described(architecture)}. Choose another one, or raise the limit."
        )
