"""Budgets: a time, or the lengths of all trainings in passes over the data."""

import dataclasses
import re

from oneshot_tf.system.errors import InputError, short

_TIME = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", re.ASCII)
_LEAST, _MOST = 60, 30 * 24 * 3600


@dataclasses.dataclass(frozen=True)
class Passes:
    """Lengths that do not depend on the speed of the machine.

    Args:
        one_shot: Passes over the training images for the one-shot model.
        candidates: Number of candidates of the search.
        contender: Passes for each net of the comparison.
        final: Passes for the final training of the best net.
        searched: Number of searched nets in the comparison.
        num_cells, filters: Sizes of the nets.
    """

    one_shot: float
    candidates: int
    contender: float
    final: float
    searched: int
    num_cells: int
    filters: int


NAMED = {
    "quick": Passes(20, 100, 8, 20, 1, 3, 8),
    "standard": Passes(60, 500, 20, 100, 2, 3, 16),
    "thorough": Passes(228, 2000, 50, 300, 4, 6, 16),
}


def parse_budget(text: str) -> float | Passes:
    """Returns the seconds of a time such as "30m", "1h30m" or "90s", or the passes of a name.

    Args:
        text: The value of `--budget`.

    Raises:
        InputError: The text is neither, or the time is below a minute or above 30 days.
    """
    if text in NAMED:
        return NAMED[text]
    match = _TIME.fullmatch(text)
    if not match or not text:
        raise InputError(
            "--budget must be a time such as 30m, 1h30m or 90s, or one of "
            f"{', '.join(NAMED)}; got {short(text)}."
        )
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    found = 3600 * hours + 60 * minutes + seconds
    if not _LEAST <= found <= _MOST:
        raise InputError(f"--budget must be from 1m to 720h; got {short(text)}.")
    return float(found)


def as_time(seconds: float) -> str:
    """Returns seconds as words, for example "1 h 05 min", "12 min" or "40 s"."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d} min" if hours else f"{minutes} min"
