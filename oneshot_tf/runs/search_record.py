"""search.json: what candidates.csv was made with, so that no other search adds to it."""

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import check_run, read_json, write_json

_BEFORE = {"skip_twins": False}  # what searches did that say nothing of it


def made_with(search, step: int) -> dict:
    """The settings that decide which candidates there are, and what is measured of them.

    Args:
        search: `SearchSettings`.
        step: of the one-shot model's checkpoint.
    """
    names = ["seed", "rank_by", "skip_twins", "budget", "trained_in"]
    if search.budget == "race":
        names += ["finalists", "race_confidence"]
    return {"step": step, **{name: getattr(search, name) for name in names}}


def begin_search(directory, settings: dict) -> None:
    """Writes search.json for the `made_with` of a new search in a `RunDirectory`."""
    write_json(directory.path / "search.json", {**settings, "run_id": directory.run_id()})


def check_same_search(directory, settings: dict) -> None:
    """Makes sure that a search goes on as it was begun.

    Args:
        directory: the `RunDirectory`, which has candidates.
        settings: the `made_with` of the search now.

    Raises:
        InputError: search.json is missing, damaged, of another run or of other settings.
    """
    path = directory.path / "search.json"
    if not path.exists():
        raise InputError(
            f"{path} is missing, so what the candidates beside it were made with is unknown. Put "
            "it back, or move candidates.csv and race.npz away to start anew."
        )
    before = read_json(path)
    check_run(path, before, directory.run_id())
    for name, value in settings.items():
        old = before.get(name, _BEFORE.get(name, ""))
        if old != value:
            raise InputError(
                f"The search in {directory.path} was begun with {name}={old}, now "
                f"it is {name}={value}; give --{name}={old} to go on, or move "
                "candidates.csv and race.npz away to start anew."
            )
