"""search.json: the settings of the search, so that no other search adds to candidates.csv."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.same_settings import affecting
from oneshot_tf.settings import Settings, StrategySettings
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import make_folder
from oneshot_tf.system.json_files import check_run, read_json, write_json

# The behaviour of earlier versions, whose search.json lacks these settings.
_BEFORE = {"skip_twins": False, "strategy": "random", "max_parameters": 0, "max_multiply_adds": 0}


def made_with(search: Any, strategy: Settings, step: int) -> dict[str, Any]:
    """Returns the settings that decide which candidates a search has and how it scores them.

    Args:
        search: The `SearchSettings`.
        strategy: The settings of the proposer.
        step: The training step of the one-shot model's checkpoint.
    """
    names = ["seed", "rank_by", "budget", "trained_in", "max_parameters", "max_multiply_adds"]
    if search.budget == "race":
        names += ["finalists", "race_confidence"]
    return {"step": step, **affecting(strategy), **{name: getattr(search, name) for name in names}}


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


def begin_search(directory: RunDirectory, settings: dict[str, Any]) -> None:
    """Writes search.json with the `made_with` settings of a new search."""
    write_json(
        make_folder(directory.searched) / "search.json", {**settings, "run_id": directory.run_id()}
    )


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
            "it, or move candidates.csv and race.npz away to start anew."
        )
    before = read_json(path)
    check_run(path, before, directory.run_id())
    for name, value in settings.items():
        old = before.get(name, _BEFORE.get(name, ""))
        if old != value:
            raise InputError(
                f"The search in {directory.searched} began with --{name}={old}; now "
                f"--{name}={value}. Give --{name}={old} to resume, move candidates.csv and "
                "race.npz away to start anew, or give this search a --name of its own."
            )


def note_cost(directory: RunDirectory, candidates: Sequence[Candidate]) -> None:
    """Adds to search.json what the search spent: images scored, and multiply-adds for them."""
    path = directory.searched / "search.json"
    spent = {
        "image_evaluations": sum(c.num_images for c in candidates),
        "multiply_adds_spent": sum(c.num_images * c.multiply_adds for c in candidates),
    }
    write_json(path, {**read_json(path), **spent})
