"""A setting: a dataclass field with its help text and range.

Construction checks the ranges, so a program and a line of Python give the same message.
`command_line.py` turns fields into flags.
"""

import dataclasses
import math
from typing import Any, TypeVar

from oneshot_tf.system.errors import InputError

_LARGEST = 2**31 - 1  # numbers of steps are int32 in the graph

Kind = TypeVar("Kind", bound="Settings")


def setting(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple | None = None,
    affects_results: bool = True,
    common: bool = False,
    added: bool = False,
) -> Any:
    """Returns a dataclass field for a setting.

    Args:
        default: The default value. Its type is the type of the flag.
        help: The help text of the flag.
        least, most: Inclusive bounds.
        above, below: Exclusive bounds.
        choices: The allowed values.
        affects_results: False if the setting may differ when a run is resumed, because results
            do not depend on it.
        common: True for the few most used settings. `--help` shows them first.
        added: True for a setting that results got in a later version. A file without it has the
            default.
    """
    bounds = {"least": least, "most": most, "above": above, "below": below, "choices": choices}
    metadata = {"help": help, "affects_results": affects_results, "common": common, **bounds}
    metadata["added"] = added
    return dataclasses.field(default=default, metadata=metadata)


class Settings:
    """A group of settings.

    Subclasses are frozen dataclasses whose fields are `setting(…)`.

    Raises:
        InputError: A value is out of its range.
    """

    def __post_init__(self) -> None:
        for field in fields(type(self)):
            value = getattr(self, field.name)
            _check_range(field.name, value, field.metadata)
            if isinstance(value, str) and not value.isprintable():
                raise InputError(
                    f"--{field.name} must have only printable characters; got {value!r}."
                )
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"--{field.name} must be a finite number; got {value}.")
            if field.type is int and not isinstance(value, bool) and value > _LARGEST:
                raise InputError(f"--{field.name} must be at most {_LARGEST}; got {value}.")

    @classmethod
    def from_stored(cls: type[Kind], values: dict[str, Any]) -> Kind:
        """Returns the settings that a run's file stores. An earlier version may have written it."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Returns field names and values."""
        return {field.name: getattr(self, field.name) for field in fields(type(self))}


@dataclasses.dataclass(frozen=True)
class StrategySettings(Settings):
    """Settings of a strategy.

    Each strategy has a subclass in its own file. The default of the field `strategy` in the
    subclass is the name of the strategy.
    """

    strategy: str = setting("", "Name of the strategy.")

    def for_budget(self: Kind, num_candidates: int) -> Kind:
        """Returns the settings of a proposer for a search of this many candidates.

        Only a strategy with a schedule depends on it.
        """
        return self


def fields(kind: type) -> tuple[dataclasses.Field, ...]:
    """Returns the dataclass fields of a class of settings."""
    return dataclasses.fields(kind)


def _check_range(name: str, value: Any, bounds: Any) -> None:
    tests = {
        "least": (lambda bound: value >= bound, "at least {}"),
        "most": (lambda bound: value <= bound, "at most {}"),
        "above": (lambda bound: value > bound, "above {}"),
        "below": (lambda bound: value < bound, "below {}"),
        "choices": (lambda bound: value in bound, "one of {}"),
    }
    for kind, (holds, words) in tests.items():
        bound = bounds.get(kind)
        if bound is not None and not holds(bound):  # NaN fails every bound
            shown = ", ".join(map(str, bound)) if kind == "choices" else bound
            raise InputError(f"--{name} must be {words.format(shown)}; got {value}.")
