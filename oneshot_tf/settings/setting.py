"""A setting: a dataclass field with its help text and range, checked on construction.

So a program and a line of Python get the same message. `command_line.py` turns fields into flags.
"""

import dataclasses
import math

from oneshot_tf.system.errors import InputError

_LARGEST = 2**31 - 1  # numbers of steps are int32 in the graph


def setting(default, help, *, least=None, most=None, above=None, below=None, choices=None):
    """A dataclass field with its help text and range (bounds inclusive but `above` and `below`)."""
    bounds = {"least": least, "most": most, "above": above, "below": below, "choices": choices}
    return dataclasses.field(default=default, metadata={"help": help, **bounds})


class Settings:
    """Checks every field against its range. Subclasses are frozen dataclasses."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            self._check(field.name, value, field.metadata)
            if isinstance(value, str) and not value.isprintable():
                raise InputError(f"--{field.name}={value!r}: needed are printable characters.")
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"--{field.name}={value}: needed is a finite number.")
            if field.type is int and not isinstance(value, bool) and value > _LARGEST:
                raise InputError(f"--{field.name}={value}: needed is at most {_LARGEST}.")

    def _check(self, name, value, bounds):
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
                raise InputError(f"--{name}={value}: needed is {words.format(shown)}.")

    @classmethod
    def from_stored(cls, values: dict):
        """The settings of a file that a run keeps, an earlier version's too."""
        return cls(**values)

    def to_dict(self) -> dict:
        """Field names and values."""
        return dataclasses.asdict(self)
