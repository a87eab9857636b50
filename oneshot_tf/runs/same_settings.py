"""Checks that work resumes with the settings that it began with."""

import pathlib
from collections.abc import Mapping
from typing import Any

from oneshot_tf.settings import Settings
from oneshot_tf.settings.setting import fields
from oneshot_tf.system.errors import InputError


def check_same(
    what: str | pathlib.Path,
    before: Mapping[str, Mapping[str, Any]],
    now: Mapping[str, Settings],
    way_out: str,
    free: tuple[str, ...] = (),
) -> None:
    """Refuses to resume with settings that would change the result.

    Args:
        what: Name of the work, for the message.
        before: The earlier values by group and name.
        now: Settings objects by group.
        way_out: The fix, which ends the message.
        free: Names of settings that may differ although they affect results.

    Raises:
        InputError: A setting differs. The message names the first one.
    """
    for group, settings in now.items():
        for field in fields(type(settings)):
            value = getattr(settings, field.name)
            absent = field.default if field.metadata["added"] else None
            old = before.get(group, {}).get(field.name, absent)
            if field.metadata["affects_results"] and field.name not in free and old != value:
                raise InputError(
                    f"{what} was made with --{field.name}={old}; now --{field.name}={value}. "
                    f"{way_out}"
                )


def affecting(settings: Settings) -> dict[str, Any]:
    """Returns the settings that affect results, by name."""
    return {
        field.name: getattr(settings, field.name)
        for field in fields(type(settings))
        if field.metadata["affects_results"]
    }
