"""Recovers from a loss that is not finite: replays the step, reports on it, then rolls back."""

import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import keras

from oneshot_tf.devices.distribution import is_chief, num_workers
from oneshot_tf.learning.batches import Batches
from oneshot_tf.learning.checkpoints import Checkpoints, not_finite, value_of
from oneshot_tf.learning.not_finite import Diverged, Rollbacks, gave_up, inspect_step
from oneshot_tf.learning.steps import TrainStep
from oneshot_tf.settings import DeviceSettings
from oneshot_tf.system.json_files import write_json

_SNAPSHOT_SECONDS = 30.0  # keep a snapshot this recent, to replay a failing step from it


class Recovery:
    """A snapshot of a training, and the decision what to do when a step fails.

    Args:
        step: The training step.
        optimizer: Its learning rate goes into the report.
        variables: All variables that a checkpoint holds.
        batches: The data of each step.
        rollbacks: The earlier rollbacks of the training.
        device: Its `nan_policy` and `max_rollbacks` say whether to roll back.
        directory: The folder of diverged.json. None writes no file.
        checkpoints: The checkpoints to roll back to, or None.
        advance: Does step `number` again, with the architecture updates that follow it.
    """

    def __init__(
        self,
        *,
        step: TrainStep,
        optimizer: keras.Optimizer,
        variables: list[keras.Variable],
        batches: Batches,
        rollbacks: Rollbacks,
        device: DeviceSettings,
        directory: pathlib.Path | None,
        checkpoints: Checkpoints | None,
        advance: Callable[[int], None],
    ):
        self.step, self.optimizer, self.variables, self.batches = (
            step, optimizer, variables, batches,
        )  # fmt: skip
        self.rollbacks, self.device = rollbacks, device
        self.directory, self.checkpoints, self.advance = directory, checkpoints, advance

    def snapshot(self, done: int) -> None:
        """Copies the values after `done` steps, to replay a failing step from them."""
        self._snapshot = done, [value_of(variable) for variable in self.variables]
        self._taken = time.monotonic()

    def refresh(self, done: int) -> None:
        """Takes a new snapshot if the last one is old.

        Several workers must read values at the same steps, so they take a snapshot only when they
        save.
        """
        if time.monotonic() - self._taken > _SNAPSHOT_SECONDS and num_workers() == 1:
            self.snapshot(done)

    def check_state(self, batch: tuple[Any, Any], number: int) -> None:
        """Makes sure that what will be saved is finite and gives a finite loss.

        A step computes its loss before its update, so no loss shows yet what the last update did.
        Therefore the last step runs once more, for its loss, and its update is undone. Its graph
        exists already.

        Args:
            batch: This worker's part of the batch of the last step.
            number: The number of the last step.

        Raises:
            Diverged: A variable or the loss is not finite.
        """
        values = {variable.path: value_of(variable) for variable in self.variables}
        wrong = not_finite(values)
        if wrong:
            raise Diverged(number, f"'{wrong}' is not finite", after=True)
        loss = float(self.step(*batch, number)["loss"])
        for variable in self.variables:
            variable.assign(values[variable.path])
        if not math.isfinite(loss):
            raise Diverged(number, f"The loss is {loss}", after=True)

    def after(self, failure: Diverged) -> None:
        """Reports on a step that failed. Returns if training may roll back and continue.

        Raises:
            GaveUp: Training may not continue.
        """
        number = failure.number
        print(f"{failure} Searching for where it begins ...", flush=True)
        report = self._diagnose(number, failure.after)
        kept = "Nothing was saved."
        learnt = str(report["first_not_finite"]).startswith("variable learner")
        rate = "--architecture_learning_rate or --controller_learning_rate" if learnt else ""
        way_out = f"A new run with a lower {rate or '--learning_rate'} may get further."
        if self.directory and self.checkpoints:
            steps = self.checkpoints.steps()
            report |= {"last_checkpoint": max(steps, default=None), "owner": self.checkpoints.owner}
            if is_chief():
                write_json(self.directory / "diverged.json", report)
            kept = (
                f"{self.directory / 'diverged.json'} has details. "
                f"{f'The checkpoint of step {max(steps):,} is' if steps else 'No checkpoint was'} "
                "kept."
            )
            if self.device.nan_policy == "rollback" and steps:
                if len(self.rollbacks) < self.device.max_rollbacks:
                    self._roll_back(number, max(steps))
                    return
                kept += f" Training rolled back {len(self.rollbacks)} times (--max_rollbacks)."
            elif steps:
                way_out = f"{way_out[:-1]}, and so may this one with --nan_policy=rollback."
        raise gave_up(failure, report, kept, way_out)

    def _roll_back(self, number: int, step: int) -> None:
        self.rollbacks.add(number + 1, step, write=is_chief())
        print(
            f"Rolling back to step {step:,}, with another data order and "
            f"{0.5 ** len(self.rollbacks):g} of the learning rate.",
            flush=True,
        )

    def _diagnose(self, number: int, after: bool) -> dict[str, Any]:
        """Replays training from the snapshot up to a step and inspects this step.

        Args:
            number: The number of the step to inspect.
            after: Whether to inspect it with the weights after its update.
        """
        first, values = self._snapshot
        for variable, value in zip(self.variables, values):
            variable.assign(value)
        for before in range(first, number + after):
            self.advance(before)
        report = inspect_step(self.step, self.batches.whole(number), number, self.variables)
        rate = float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))
        return {"step": number + 1, "learning_rate": rate, **report}
