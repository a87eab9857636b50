"""config.json: what a run was begun with. It is complete and in range, or it is refused."""

import dataclasses
import math
import re
import uuid

from oneshot_tf.settings import (
    DataSettings,
    DeviceSettings,
    ModelSettings,
    OneShotSettings,
    TrainSettings,
)
from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.files import check_form, read_json

GROUPS = {"data": DataSettings, "model": ModelSettings, "train": TrainSettings,
          "one_shot": OneShotSettings, "device": DeviceSettings}  # fmt: skip
# A new setting raises the version: a file of this version must have all settings; one of an
# earlier version may lack some, which then have their defaults.
VERSION = 2
_OLDEST = 1
_FACTS = {"class_names": [str], "image_size": int,
          "fingerprint": {"train": [int], "validation": [int]}}  # fmt: skip
# What runs have that this version began.
_NEW_FACTS = {"mean": [float], "std": [float], "fingerprint": {"test": [int]}}
_RUN_ID = re.compile("[0-9a-f]{32}")
_LARGEST_IMAGE = 2**14  # costs of images of this size still fit into 64 bits


def facts_of(dataset) -> dict:
    """What config.json says of a `Dataset`: classes, image size, statistics, checksums."""
    return {
        "class_names": list(dataset.class_names),
        "image_size": dataset.image_size,
        "mean": dataset.mean.tolist(),
        "std": dataset.std.tolist(),
        "fingerprint": dataset.fingerprint(),
    }


def new_config(groups: dict, facts: dict) -> dict:
    """The contents of config.json for a run that begins, with a new run id.

    Args:
        groups: objects of `settings` by group name. A group that is missing has its defaults.
        facts: as `facts_of`.
    """
    values = {name: groups.get(name, kind()).to_dict() for name, kind in GROUPS.items()}
    # Random, and no result depends on it.
    return {"version": VERSION, "run_id": uuid.uuid4().hex, **values, "facts": facts}


def read_config(path) -> dict:
    """Reads config.json.

    Returns:
        As `new_config`. In a run that an earlier version began, settings that the file lacks
        have their defaults, and "run_id" is None.

    Raises:
        InputError: the file is of another version, a setting is unknown, out of range or, in a
            file of this version, missing.
    """
    config = read_json(path)
    version = config.get("version")
    if type(version) is not int or not _OLDEST <= version <= VERSION:
        raise InputError(
            f"{path} is of version {short(version)}; this package works with versions {_OLDEST} "
            f"to {VERSION}. Use the package that made it, or train anew in another --run_dir."
        )
    complete = version == VERSION
    run_id = config.setdefault("run_id", None)
    valid = isinstance(run_id, str) and _RUN_ID.fullmatch(run_id)
    if not valid and (complete or run_id is not None):
        raise _damaged(path, f"`run_id` must be 32 hexadecimal digits; got {short(run_id)}")
    for name, kind in GROUPS.items():
        config[name] = stored_settings(path, config.get(name), name, kind, complete)
    _check_facts(path, config, complete)
    return config


def _damaged(path, what) -> InputError:
    return InputError(
        f"{path} is damaged: {what}. Restore the file, or train anew in another --run_dir."
    )


def stored_settings(path, values, name: str, kind: type, complete: bool) -> dict:
    """The settings of a group, all of them.

    Args:
        path: the file that they are from.
        values: what it holds.
        name: of the group.
        kind: class of `settings`.
        complete: whether a missing setting is damage. Otherwise it has its default.

    Raises:
        InputError: `values` is no group of settings, or a setting is unknown, missing or out of
            range.
    """
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    if not isinstance(values, dict):
        raise _damaged(path, f"it has no group '{name}' of settings")
    for key, value in values.items():
        if key not in types:
            raise _damaged(path, f"'{name}' has the unknown setting {short(key)}")
        if type(value) is not types[key] and (type(value), types[key]) != (int, float):
            raise _damaged(path, f"'{name}' has --{key}={short(value)}")
    missing = [key for key in types if key not in values]
    if missing and complete:
        raise _damaged(path, f"'{name}' has no setting '{missing[0]}'")
    try:
        return kind.from_stored(values).to_dict()
    except InputError as error:
        raise _damaged(path, f"'{name}': {str(error).rstrip('.')}") from None


def _check_facts(path, config, complete):
    """Raises InputError unless the facts on the data set have their form and range."""
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
