"""search.json: the settings of the search, so that no other search adds to candidates.csv."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from oneshot_tf.devices.distribution import is_chief
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.same_settings import affecting
from oneshot_tf.settings import LimitSettings, Settings, StrategySettings
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import checksum, make_folder, user_path
from oneshot_tf.system.json_files import check_run, read_json, write_json

# The behaviour of earlier versions, whose search.json lacks these settings.
_BEFORE = {
    "skip_twins": False, "strategy": "random", "max_parameters": 0, "max_multiply_adds": 0,
    "evaluator": "shared", "epochs": 0.0, "max_file_kb": 0.0, "max_latency_ms": 0.0,
    "limit_filters": 0, "limit_num_cells": 0,
}  # fmt: skip
_TABLE = "table_checksum"
COSTS = "costs_checksum"
# What a search measures, by its evaluator.
MEASURES = {
    "shared": "candidate accuracy",
    "stand_alone": "stand-alone accuracy",
    "table": "accuracy in the table",
}


def made_with(
    search: Any, strategy: Settings, step: int, limits: LimitSettings | None = None
) -> dict[str, Any]:
    """Returns the settings that decide which candidates a search has and how it scores them.

    Args:
        search: The `SearchSettings`.
        strategy: The settings of the proposer.
        step: The training step of the one-shot model's checkpoint.
        limits: The limits on candidates.

    Raises:
        InputError: The file of `--table` cannot be read.
    """
    names = ["seed", "rank_by", "budget", "trained_in", "evaluator"]
    if search.budget == "race":
        names += ["finalists", "race_confidence"]
    if search.evaluator == "stand_alone":
        names += ["epochs"]
    table = {_TABLE: checksum(user_path(search.table))} if search.evaluator == "table" else {}
    values = {name: getattr(search, name) for name in names}
    return {
        "step": step,
        **affecting(strategy),
        **values,
        **_limits(search, limits or LimitSettings()),
        **table,
    }


def _limits(search: Any, limits: LimitSettings) -> dict[str, Any]:
    names = ["max_parameters", "max_multiply_adds", "max_file_kb", "max_latency_ms"]
    if limits.max_file_kb:
        names += ["file_format"]
    if limits.max_latency_ms:
        names += ["latency_of", "latency_batch", "latency_threads"]
    sizes = {name: getattr(search, name) for name in ("limit_filters", "limit_num_cells")}
    return {**{name: getattr(limits, name) for name in names}, **sizes}


def with_schedule(
    directory: RunDirectory, strategy: StrategySettings, num_candidates: int, new: bool
) -> StrategySettings:
    """Returns the settings of a proposer with the length of its schedule.

    Args:
        directory: The run.
        strategy: The settings, in which 0 stands for the length of the search.
        num_candidates: How many candidates the search wants.
        new: Whether the search begins. Otherwise it keeps the length that it began with.
    """
    planned = strategy.for_budget(num_candidates)
    path = directory.searched / "search.json"
    if new or not path.exists():
        return planned
    before, chosen = read_json(path), strategy.to_dict()
    kept = {
        name: before[name]
        for name, value in planned.to_dict().items()
        if value != chosen[name] and type(before.get(name)) is type(value)
    }
    return dataclasses.replace(planned, **kept)


class SearchRecord:
    """What search.json holds.

    Args:
        directory: The run.
        settings: The `made_with` settings of the search.
        new: Whether the search begins. Otherwise the record continues that of the file.
        writes: Whether this process writes the file. False in a copy that joins a search.

    Attributes:
        settings: The `made_with` settings.
        values: The contents.
    """

    def __init__(
        self, directory: RunDirectory, settings: dict[str, Any], new: bool, writes: bool = True
    ):
        self.path, self.settings = directory.searched / "search.json", settings
        self._writes = writes and is_chief()
        self.values = {**settings, "run_id": directory.run_id()}
        self._written = not new and self.path.exists()
        if self._written:
            self.values = read_json(self.path)

    def note(self, **facts: Any) -> None:
        """Adds facts, and writes the file if it changes. Only the chief writes."""
        known = self._written and all(self.values.get(n) == v for n, v in facts.items())
        self.values.update(facts)
        self._written = True
        if self._writes and not known:
            make_folder(self.path.parent)
            write_json(self.path, self.values)


def check_same_search(directory: RunDirectory, settings: dict[str, Any]) -> None:
    """Makes sure that a search resumes with the settings that it began with.

    Args:
        directory: The run, which has candidates.
        settings: The current settings, as `made_with` returns them.

    Raises:
        InputError: search.json is missing, damaged or from another run, or its settings differ.
    """
    path = directory.searched / "search.json"
    if not path.exists():
        raise InputError(
            f"{path} is missing, so the settings of the candidates beside it are unknown. Restore "
            "it, or move candidates.csv, race.npz and claims away to start anew."
        )
    before = read_json(path)
    check_run(path, before, directory.run_id())
    for name, value in settings.items():
        old = before.get(name, _BEFORE.get(name, ""))
        if old != value and name == _TABLE:
            raise InputError(
                f"The search in {directory.searched} began with another table: its checksum was "
                f"{old}, now it is {value}. Restore the file, or give this search another --name."
            )
        if old != value and name == COSTS:
            raise InputError(
                f"The search in {directory.searched} began with other measured costs. Restore the "
                f"files in {directory.path / 'costs'}, or give this search another --name."
            )
        if old != value:
            raise InputError(
                f"The search in {directory.searched} began with --{name}={old}; now "
                f"--{name}={value}. Give --{name}={old} to resume, move candidates.csv, race.npz "
                "and claims away to start anew, or give this search a --name of its own."
            )


def measure(directory: RunDirectory) -> str:
    """Returns the name of what the search measures: the column `candidate_accuracy`."""
    path = directory.searched / "search.json"
    found = read_json(path).get("evaluator") if path.exists() else None
    return MEASURES.get(found if isinstance(found, str) else "shared", MEASURES["shared"])


def note_cost(directory: RunDirectory, candidates: Sequence[Candidate]) -> None:
    """Adds to search.json what the search spent: images, and multiply-adds for them.

    It is called after every search, also after one that found nothing to do, because the last one
    may have been killed just before. It writes only if something changes.

    Training a stand-alone model spends three times the multiply-adds of its forward passes,
    because a backward pass costs about two of them.
    """
    path = directory.searched / "search.json"
    before = read_json(path)
    trained = before.get("training_images_per_candidate", 0)
    spent = {
        "image_evaluations": sum(c.num_images for c in candidates),
        "training_images": trained * len(candidates),
        "multiply_adds_spent": sum(
            (c.num_images + 3 * trained) * c.multiply_adds for c in candidates
        ),
    }
    if {**before, **spent} != before:
        write_json(path, {**before, **spent})
