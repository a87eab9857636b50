"""config.json: the id, the settings and the data statistics of a run. Damaged files are refused."""

import math
import pathlib
import re
import uuid
from typing import Any

from oneshot_tf.settings import (
    DataSettings,
    DeviceSettings,
    ModelSettings,
    OneShotSettings,
    Settings,
    TrainSettings,
)
from oneshot_tf.settings.setting import fields
from oneshot_tf.space.known import MissingSpace
from oneshot_tf.strategies import DEFAULT_STRATEGY, STRATEGIES
from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.json_files import check_form, read_json

# The settings class of each group except "strategy", whose class depends on the strategy's name.
GROUPS: dict[str, type[Settings]] = {
    "data": DataSettings,
    "model": ModelSettings,
    "train": TrainSettings,
    "one_shot": OneShotSettings,
    "device": DeviceSettings,
}
# A new setting raises the version. A file of this version must have all settings. In a file of an
# earlier version, missing settings have their defaults.
VERSION = 3
_OLDEST = 1
_COMPLETE_SINCE = 2
_FACTS = {"class_names": [str], "image_size": int,
          "fingerprint": {"train": [int], "validation": [int]}}  # fmt: skip
# Facts that were added in version 2.
_NEW_FACTS = {"mean": [float], "std": [float], "fingerprint": {"test": [int]}}
_RUN_ID = re.compile("[0-9a-f]{32}")
_LARGEST_IMAGE = 2**14  # costs of images of this size still fit into 64 bits


def strategy_settings(name: str) -> type[Settings]:
    """Returns the class of the settings of a sampler or learner.

    Raises:
        InputError: There is no strategy of this name.
    """
    if name not in STRATEGIES:
        raise InputError(f"strategy must be one of {', '.join(STRATEGIES)}; got {short(name)}.")
    return STRATEGIES[name].settings


def facts_of(dataset: Any) -> dict[str, Any]:
    """Returns the facts about a `Dataset` for config.json: classes, size, statistics, checksums."""
    return {
        "class_names": list(dataset.class_names),
        "image_size": dataset.image_size,
        "mean": dataset.mean.tolist(),
        "std": dataset.std.tolist(),
        "fingerprint": dataset.fingerprint(),
    }


def new_config(groups: dict[str, Settings], facts: dict[str, Any]) -> dict[str, Any]:
    """Returns the contents of config.json for a new run, with a new run id.

    Args:
        groups: Settings objects by group name. A missing group gets its defaults.
        facts: The facts about the data, as `facts_of` returns them.
    """
    kinds = {**GROUPS, "strategy": strategy_settings(DEFAULT_STRATEGY)}
    values = {name: groups.get(name, kind()).to_dict() for name, kind in kinds.items()}
    # The id is random, and no result depends on it.
    return {"version": VERSION, "run_id": uuid.uuid4().hex, **values, "facts": facts}


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """Reads config.json.

    Returns:
        The contents, as `new_config` returns them. For a run that version 1 began, missing
        settings have their defaults, and "run_id" is None.

    Raises:
        InputError: The file has an unsupported version, or a setting is unknown or out of range.
            Since version 2, a missing setting is an error too.
    """
    config = read_json(path)
    version = config.get("version")
    if type(version) is not int or not _OLDEST <= version <= VERSION:
        raise InputError(
            f"{path} has version {short(version)}; this package supports versions {_OLDEST} to "
            f"{VERSION}. Use the version of the package that wrote it, or train anew in another "
            "--run_dir."
        )
    complete = version >= _COMPLETE_SINCE
    run_id = config.setdefault("run_id", None)
    valid = isinstance(run_id, str) and _RUN_ID.fullmatch(run_id)
    if not valid and (complete or run_id is not None):
        raise _damaged(path, f"`run_id` must be 32 hexadecimal digits; got {short(run_id)}")
    if version < VERSION:
        _upgrade(config)
    for name, kind in GROUPS.items():
        config[name] = stored_settings(path, config.get(name), name, kind, complete)
    config["strategy"] = _stored_strategy(path, config.get("strategy"), complete)
    _check_facts(path, config, complete)
    return config


def _upgrade(config: dict[str, Any]) -> None:
    """Moves the settings of path dropout to where version 3 has them."""
    one_shot = config.get("one_shot")
    if isinstance(one_shot, dict) and "strategy" not in config:
        names = [name for name in ("drop_rate", "drop_schedule") if name in one_shot]
        moved = {name: one_shot.pop(name) for name in names}
        config["strategy"] = {"strategy": DEFAULT_STRATEGY, **moved}


def _stored_strategy(path: pathlib.Path, values: Any, complete: bool) -> dict[str, Any]:
    name = values.get("strategy") if isinstance(values, dict) else None
    try:
        kind = strategy_settings(name if isinstance(name, str) else DEFAULT_STRATEGY)
    except InputError as error:
        raise _damaged(path, str(error).rstrip(".")) from None
    return stored_settings(path, values, "strategy", kind, complete)


def _damaged(path: pathlib.Path, what: str) -> InputError:
    return InputError(
        f"{path} is damaged: {what}. Restore the file, or train anew in another --run_dir."
    )


def stored_settings(
    path: pathlib.Path, values: Any, name: str, kind: type[Settings], complete: bool
) -> dict[str, Any]:
    """Returns all settings of a group that a file holds.

    Args:
        path: Path of the file, for messages.
        values: The group as the file holds it.
        name: Name of the group.
        kind: Class of the settings.
        complete: Whether a missing setting is an error. Otherwise it gets its default.

    Raises:
        InputError: `values` is not a group of settings, or a setting is unknown, missing or out
            of range.
    """
    types = {field.name: field.type for field in fields(kind)}
    if not isinstance(values, dict):
        raise _damaged(path, f"the group '{name}' of settings is missing")
    for key, value in values.items():
        if key not in types:
            raise _damaged(path, f"'{name}' has the unknown setting {short(key)}")
        if type(value) is not types[key] and (type(value), types[key]) != (int, float):
            raise _damaged(path, f"'{name}' has the invalid value --{key}={short(value)}")
    missing = [f.name for f in fields(kind) if f.name not in values and not f.metadata["added"]]
    if missing and complete:
        raise _damaged(path, f"'{name}' has no setting '{missing[0]}'")
    try:
        return kind.from_stored(values).to_dict()
    except MissingSpace:  # the file is whole
        raise
    except InputError as error:
        raise _damaged(path, f"'{name}': {str(error).rstrip('.')}") from None


def _check_facts(path: pathlib.Path, config: dict[str, Any], complete: bool) -> None:
    """Raises InputError unless the facts about the data set have the right form and range."""
    check_form(path, config, {"facts": _FACTS})
    facts = config["facts"]
    if complete:
        check_form(path, facts, _NEW_FACTS)
    check_form(path, list(facts["fingerprint"].values()), [[int]])
    if len(facts["class_names"]) < 2:
        raise _damaged(path, "a data set must have at least 2 classes")
    if not 1 <= facts["image_size"] <= _LARGEST_IMAGE:
        raise _damaged(
            path, f"`image_size` must be from 1 to {_LARGEST_IMAGE:,}; got {facts['image_size']}"
        )
    if any(len(n) != 3 or min(n) < 0 for n in facts["fingerprint"].values()):
        raise _damaged(path, "a fingerprint must have 3 numbers of at least 0")
    for name in ("mean", "std"):
        values = facts.get(name, [1.0] * 3)
        check_form(path, values, [float])
        if len(values) != 3 or not all(map(math.isfinite, values)):
            raise _damaged(path, f"`{name}` must be 3 finite numbers; got {short(values)}")
    if min(facts.get("std", [1.0])) <= 0:
        raise _damaged(path, f"`std` must be above 0; got {short(facts['std'])}")
