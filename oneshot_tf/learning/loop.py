"""The training loop of one-shot models and stand-alone models."""

import contextlib
import math
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from oneshot_tf.devices.distribution import is_chief, num_workers, of_all_workers
from oneshot_tf.devices.threads import set_threads
from oneshot_tf.learning.architecture_steps import (
    ArchitectureStep,
    Updates,
    check_belongs,
    check_intervals,
    check_learner,
    means,
)
from oneshot_tf.learning.batches import Batches
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.learning.final_training import check_final, make_tools, warmup_steps
from oneshot_tf.learning.learnt_so_far import LearntSoFar
from oneshot_tf.learning.metrics_log import MetricsLog, Track, curves, words
from oneshot_tf.learning.not_finite import Diverged, Rollbacks
from oneshot_tf.learning.optimizers import NesterovSGD
from oneshot_tf.learning.recalibration import Recalibration
from oneshot_tf.learning.recovery import Recovery
from oneshot_tf.learning.schedules import Factored
from oneshot_tf.learning.steps import TrainStep
from oneshot_tf.learning.unrolled_steps import UnrolledStep
from oneshot_tf.settings import DeviceSettings, FinalSettings, TrainSettings
from oneshot_tf.strategies.protocols import Learner, Sampler
from oneshot_tf.system.claims import ClaimLost
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import make_folder
from oneshot_tf.system.interrupts import Interrupted, uninterrupted
from oneshot_tf.system.progress import Progress


def check_batch_size(settings: TrainSettings, data: Any) -> None:
    """Makes sure that the data set suits the batch size and the augmentation.

    Raises:
        InputError: The batch is larger than the training set, or the augmentation needs images
            on disk.
    """
    if settings.augmentation == "inception" and not data.train.on_disk:
        raise InputError(
            "--augmentation=inception crops images at their own size. Train the one-shot model "
            "with --storage=files, or choose another --augmentation."
        )
    if settings.batch_size > len(data.train):
        raise InputError(
            f"--batch_size must be at most {len(data.train):,}, the number of training images of "
            f"{data.name}; got {settings.batch_size}."
        )


class Loop:
    """A training that can be interrupted, resumed, and rolled back.

    The arguments are those of `fit_supernet` and `fit_standalone`. `run` trains.
    """

    def __init__(
        self,
        net: Any,
        data: Any,
        sampler: Sampler | None,
        num_steps: int,
        settings: TrainSettings,
        seed: int,
        directory: str | os.PathLike | None,
        *,
        track: Track | None = None,
        final: FinalSettings | None = None,
    ):
        if num_steps < 1:
            raise InputError(f"num_steps must be at least 1; got {num_steps}.")
        check_batch_size(settings, data)
        final = final or FinalSettings()
        check_final(final, data, num_steps, settings.batch_size)
        self.data, self.sampler, self.num_steps = data, sampler, num_steps
        self.settings, self.seed, self.track = settings, seed, track
        with tf.distribute.get_strategy().scope():
            name = settings.learning_rate_schedule
            if name == "auto":
                name = "cosine" if sampler is None else "constant"
            warmup = warmup_steps(final, len(data.train), settings.batch_size)
            self.schedule = Factored(name, settings.learning_rate, num_steps, warmup)
            momentum = settings.momentum
            self.optimizer = NesterovSGD(
                self.schedule, momentum=momentum, nesterov=momentum > 0, name="sgd"
            )
            self.optimizer.build(net.trainable_variables)
            self.tools = make_tools(final, net, data, num_steps, seed)
        prepare = data.augmenter(settings.augmentation, seed)
        self.step = TrainStep(
            net, self.optimizer, sampler, prepare, settings, seed, data.image_size,
            tools=self.tools,
        )  # fmt: skip
        self.learner = sampler if isinstance(sampler, Learner) else None
        self.variables = net.variables + self.optimizer.variables + self.tools.variables
        if self.learner:
            check_belongs(self.learner, net)
            check_learner(self.learner, data, settings, num_steps)
            self.learner.begin(seed)
            self.variables += self.learner.variables
        self.directory = None if directory is None else make_folder(directory)
        self.before_write: Callable[[], None] = lambda: None

    def run(self, device: DeviceSettings, title: str, owner: str | None = None) -> dict[str, Any]:
        """Trains from the newest checkpoint to the end. Returns the last metrics."""
        set_threads(device.threads)
        check_intervals(self.learner, device.log_steps)
        self.device, self.title = device, title
        self._open(owner)
        while True:
            start = self._restore()
            if start >= self.num_steps:
                print(f"{title}: all {self.num_steps:,} steps are done.", flush=True)
                return self.log.last(start)
            try:
                return self._train(start)
            except Diverged as failure:
                self.before_write()
                self.recovery.after(failure)

    def _open(self, owner: str | None) -> None:
        """Opens the files of the training."""
        tracks = {"tracked.jsonl": self.track} if self.track else {}
        if self.learner and self.directory:
            tracks["decisions.jsonl"] = lambda done: self.learnt_so_far(done)
        self.log = MetricsLog(self.directory, self.settings.batch_size, tracks)
        self.checkpoints: Checkpoints | None = None
        self.rollbacks = Rollbacks(None)
        if self.directory:
            folder, keep = self.directory / "checkpoints", self.device.keep_checkpoints
            self.checkpoints = Checkpoints(folder, keep, owner, self.num_steps)
            self.rollbacks = Rollbacks(self.directory / "rollbacks.json", owner)
        self.batches = Batches(
            self.data.train, self.settings.batch_size, self.seed,
            self.settings.augmentation == "inception", self.schedule, self.rollbacks,
        )  # fmt: skip
        self.recovery = Recovery(
            step=self.step, optimizer=self.optimizer, variables=self.variables,
            batches=self.batches, rollbacks=self.rollbacks, device=self.device,
            directory=self.directory, checkpoints=self.checkpoints, advance=self._repeat,
        )  # fmt: skip
        self.updates = self._make_updates()
        if self.updates:
            self.learnt_so_far = LearntSoFar(
                self.step.net, self.updates, self.num_steps, self.data.image_size
            )

    def _make_updates(self) -> Updates | None:
        """Returns the architecture updates; None without a learner."""
        if self.learner is None:
            return None
        data, settings = self.data, self.settings
        other = (self.seed + 1) % 2**31  # augments otherwise than the training images
        prepare = data.augmenter(settings.augmentation, other)
        batches = Batches(
            data.validation, settings.batch_size, self.seed, settings.augmentation == "inception",
            None, self.rollbacks,
        )  # fmt: skip
        unrolls = self.learner.unrolls
        step = (UnrolledStep if unrolls else ArchitectureStep)(self.step, self.learner, prepare)
        return Updates(step, batches, self.batches if unrolls else None)

    def _repeat(self, number: int) -> None:
        """Does a step again, without a log."""
        self.step(*self.batches.own(number), number)
        if self.updates:
            self.updates.after(number)

    def _restore(self) -> int:
        """Restores the newest checkpoint. Returns its step."""
        start = self.checkpoints.restore(self.variables) if self.checkpoints else 0
        starts = of_all_workers(start)
        if len(set(starts)) > 1:
            raise InputError(
                f"The workers in TF_CONFIG see checkpoints of different steps in {self.directory}: "
                f"{starts}. All workers must share one --run_dir."
            )
        if is_chief():
            self.before_write()
            self.log.truncate(start)
        return start

    def _train(self, start: int) -> dict[str, Any]:
        """Trains from step `start` to the end.

        Raises:
            Diverged: A loss is not finite.
            Interrupted: The user interrupted the training. The state was saved.
        """
        where = f"from step {start:,} " if start else ""
        print(
            f"{self.title}: {self.num_steps:,} steps {where}(the first one takes a while) ...",
            flush=True,
        )
        progress = Progress(self.title, self.num_steps, "steps")
        entry: dict[str, Any] = {}
        self._done, self._saved, self._whole = start, start, True
        for line in self.log.lines() if start else []:
            progress.point(line["step"], **curves(line))
        self.log.restart()
        self._learnt: list[dict[str, tf.Tensor]] = []  # since the last line of the log
        self.recovery.snapshot(start)
        if self.checkpoints and self.device.nan_policy == "rollback" and start == 0:
            self._save()  # the first checkpoint to roll back to
        try:
            for number in range(start, self.num_steps):
                batch = self.batches.own(number)
                self.step.trace(*batch, number)
                if self.updates:
                    self.updates.trace(number)
                with uninterrupted():
                    self._step(batch, number)
                    self._whole = self._done < self.num_steps or not self.tools.averages
                if not self._whole:
                    self._recalibrate()
                with uninterrupted():
                    save, log = self._due(number)
                    if save or log:
                        entry = self._report(save)
                        progress.point(self._done, **curves(entry))
                    if save:
                        self._save()
                    progress.update(self._done, words(entry))
        except KeyboardInterrupt as interrupt:
            self._interrupted(interrupt)
        return entry

    def _recalibrate(self) -> None:
        """Measures the batch statistics of the averaged weights. A signal ends it unsaved."""
        if self.tools.averages:
            Recalibration(self.step, self.tools.averages).run(self.batches, self.num_steps)
        self._whole = True

    def _due(self, number: int) -> tuple[bool, bool]:
        """Returns whether to save and whether to log after step `number`."""
        save = self._done % self.device.checkpoint_steps == 0 or self._done == self.num_steps
        return save, self._done % self.device.log_steps == 0 or number == 0

    def _interrupted(self, interrupt: KeyboardInterrupt) -> None:
        """Saves what is done and raises `Interrupted`."""
        # A diverged state is not saved, and neither is that of a training that another copy does.
        with contextlib.suppress(Diverged, ClaimLost):
            # Several workers save together or not at all.
            if self._whole and self._done > self._saved and num_workers() == 1:
                self._report(save=True)
                self._save()
        number = getattr(interrupt, "number", signal.SIGINT)
        where = f" after step {self._done:,} of {self.num_steps:,}"
        if self._done > self._saved:
            where += f" (saved up to step {self._saved:,})"
        raise Interrupted(number, where) from None

    def _step(self, batch: tuple[Any, Any], number: int) -> None:
        self._whole = False  # a signal may come after the weights change, but before `_done` does
        self.log.add(number, self.step(*batch, number))
        if self.updates:
            self._learnt += self.updates.after(number)
        self._done, self._last_batch = number + 1, batch
        self._whole = True
        # Checks the previous step, so that an accelerator that works ahead need not wait.
        if len(self.log.steps) > 1:
            self._check(*self.log.steps[-2])

    def _check(self, number: int, sums: Mapping[str, tf.Tensor]) -> None:
        loss = float(sums["loss"])
        if not math.isfinite(loss):
            raise Diverged(number, f"The loss is {loss}")

    def _report(self, save: bool) -> dict[str, Any]:
        """Checks and logs the steps since the last line. Also checks the state to save."""
        for number, sums in self.log.steps:
            self._check(number, sums)
        if save or self.track:
            self._whole = False
            self.recovery.check_state(self._last_batch, self._done - 1)
            self._whole = True
        more = self.sampler.metrics(self._done - 1) if self.sampler else {}
        more |= self._means_of_updates()
        rate = float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))
        self.before_write()
        entry = self.log.write(self._done, {**more, "learning_rate": rate}, write=is_chief())
        self.recovery.refresh(self._done)
        return entry

    def _means_of_updates(self) -> dict[str, float]:
        """Returns what the updates since the last line of the log gave, on average."""
        found, self._learnt = means(self._learnt), []
        loss = found.get("held_out_loss", 0.0)
        if not math.isfinite(loss):
            raise Diverged(self._done - 1, f"The loss on held-out images is {loss}", after=True)
        return found

    def _save(self) -> None:
        if self.checkpoints:
            self.before_write()
            self.checkpoints.save(self._done, self.variables, write=is_chief())
            if num_workers() > 1:
                self.recovery.snapshot(self._done)
        self._saved = self._done
