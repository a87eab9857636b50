"""Trainings that several copies of `retrain` share: a claim for each run of each architecture.

A copy that takes over a training resumes it from its checkpoints. When all trainings are done, one
copy scores the models and writes result.json.
"""

import pathlib
from collections.abc import Callable
from typing import Any

from oneshot_tf.retraining.jobs import Jobs
from oneshot_tf.system.claims import Claim, Claims
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import (
    discard_folder,
    make_folder,
    remove_leftovers,
    write_atomically,
)
from oneshot_tf.system.locks import in_turn
from oneshot_tf.system.progress import Progress
from oneshot_tf.system.sharing import do_together

FOLDER = "claims"


def share(
    jobs: Jobs,
    chosen: list[dict[str, Any]],
    seconds: float,
    begin: Callable[[], None],
    finish: Callable[[dict[str, Any]], None],
) -> None:
    """Trains models together with other copies of the program. One copy scores all of them.

    Args:
        jobs: The models.
        chosen: The architectures with their facts.
        seconds: Time until the claim of a copy that died expires.
        begin: Checks the settings and writes them. Only one copy at a time calls it.
        finish: Writes the scores to result.json. Only one copy calls it.

    Raises:
        InputError: The copies have different settings, or a training or a file fails.
    """
    folder, result = jobs.folder / FOLDER, jobs.folder / "result.json"
    with in_turn(jobs.folder, "begin"):
        begin()
        if result.exists():
            discard_folder(folder)
            return
        make_folder(folder)
    runs = {
        f"net_{index:02d}_run_{repeat}": (index, repeat)
        for index in range(len(chosen))
        for repeat in jobs.repeats
    }

    def train(claim: Claim) -> None:
        index, repeat = runs[claim.name]
        claim.check()
        remove_leftovers(make_folder(jobs.folder_of(index, repeat)))
        jobs.train(chosen, index, repeat, claim.check)
        write_atomically(_done(folder, claim.name), lambda file: file.write("done\n"))

    with Claims(folder, seconds) as claims:
        do_together(
            claims, list(runs), train, lambda name: _done(folder, name).exists(), result.exists,
            Progress(jobs.retrain.name, len(runs), "trainings"),
        )  # fmt: skip
    with in_turn(jobs.folder, "score the models"):
        if result.exists():
            return
        try:
            scores = jobs.evaluate(chosen)
        except InputError:
            discard_folder(folder)  # so that the next start looks at the trainings again
            raise
        finish(scores)
        discard_folder(folder)


def _done(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the file that says that a training is complete."""
    return folder / f"{name}.done"
