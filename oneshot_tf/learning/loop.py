"""The training loop, the same for the one-shot model and for stand-alone nets."""

import contextlib
import json
import math
import signal
import time

import keras
import tensorflow as tf

from oneshot_tf.devices.distribution import (
    is_chief,
    local_batch,
    num_workers,
    of_all_workers,
    own_rows,
)
from oneshot_tf.devices.threads import set_threads
from oneshot_tf.learning.checkpoints import Checkpoints, not_finite, value_of
from oneshot_tf.learning.defaults import default_batch_size
from oneshot_tf.learning.divergence import Diverged, Rollbacks, gave_up, look_at
from oneshot_tf.learning.metrics_log import last_line, truncate, words
from oneshot_tf.learning.optimizers import NesterovSGD
from oneshot_tf.learning.schedules import Factored
from oneshot_tf.learning.steps import TrainStep
from oneshot_tf.learning.summaries import Summaries
from oneshot_tf.settings import DeviceSettings, TrainSettings
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import append_line, make_folder, write_json
from oneshot_tf.system.interrupts import Interrupted, held
from oneshot_tf.system.progress import Progress

_REMEMBER_SECONDS = 30.0  # how far back one goes, at most about, to reach a step again


def fit_supernet(
    supernet,
    data,
    sampler,
    num_steps,
    settings=None,
    seed=0,
    directory=None,
    device=None,
    track=None,
    owner=None,
):
    """Trains a one-shot model with masks drawn by a sampler (section 3.2).

    Args:
        supernet: a `Supernet`; made in the scope of the strategy in force, if any.
        data: a `Dataset`; its training images are used.
        sampler: has `sample(num_ghosts, step, seed)`, such as `PathDropout`.
        num_steps: length of the training.
        settings: `TrainSettings`; None for the defaults, with `default_batch_size` images a step.
        seed: of dropped paths, data order and augmentation.
        directory: where checkpoints and metrics.jsonl go; a training found
            there goes on where it stopped. None keeps nothing.
        device: `DeviceSettings`: intervals of logs and checkpoints, what to do if it diverges. Its
            `threads` must be 0 or the number that TensorFlow started with.
        track: called as `track(step)` at each line of metrics.jsonl; the dict that it returns
            becomes a line of tracked.jsonl in `directory`.
        owner: text that tells this training from others; checkpoints carry it.

    Returns:
        The last line of metrics: loss, cross_entropy, l2, accuracy, …

    Raises:
        InputError: sizes don't fit the data, TensorFlow started with another number of threads,
            or a loss isn't finite.
        KeyboardInterrupt: interrupted; the state was saved in `directory`.
    """
    settings = settings or TrainSettings(batch_size=default_batch_size(len(data.train)))
    loop = Loop(supernet, data, sampler, num_steps, settings, seed, directory, track)
    return loop.run(device or DeviceSettings(), "one-shot training", owner)


def fit_standalone(
    net, data, num_steps, settings=None, seed=0, directory=None, device=None, owner=None
):
    """Trains a stand-alone net from scratch (section 3.4). Arguments as `fit_supernet`'s."""
    loop = Loop(net, data, None, num_steps, settings, seed, directory)
    return loop.run(device or DeviceSettings(), "stand-alone training", owner)


def check_batch_size(settings: TrainSettings, data) -> None:
    """Raises InputError if the data set has too few images for a batch, or none to cut crops of."""
    if settings.augmentation == "inception" and not data.train.on_disk:
        raise InputError(
            "--augmentation=inception cuts its crops from images in their own size: train the "
            "one-shot model with --storage=files, or choose another --augmentation."
        )
    if settings.batch_size > len(data.train):
        raise InputError(
            f"--batch_size={settings.batch_size}, but {data.name} has only {len(data.train):,} "
            "training images; give a smaller batch size."
        )


class Loop:
    """A training that can be interrupted, gone on with, and gone back in.

    Arguments as those of `fit_supernet`; `run` trains.
    """

    def __init__(self, net, data, sampler, num_steps, settings, seed, directory, track=None):
        settings = settings or TrainSettings()
        if num_steps < 1:
            raise InputError(f"num_steps={num_steps}; training takes at least 1.")
        check_batch_size(settings, data)
        self.net, self.data, self.sampler, self.num_steps = net, data, sampler, num_steps
        self.batch_size, self.seed = settings.batch_size, seed
        self.distort = settings.augmentation == "inception"
        self._batches = self._coming = None
        with tf.distribute.get_strategy().scope():
            name = settings.learning_rate_schedule
            if name == "auto":
                name = "cosine" if sampler is None else "constant"
            self.schedule = Factored(name, settings.learning_rate, num_steps)
            momentum = settings.momentum
            self.optimizer = NesterovSGD(
                self.schedule, momentum=momentum, nesterov=momentum > 0, name="sgd"
            )
            self.optimizer.build(net.trainable_variables)
        prepare = data.augmenter(settings.augmentation, seed)
        self.step = TrainStep(
            net, self.optimizer, sampler, prepare, settings, seed, data.image_size
        )
        self.variables = net.variables + self.optimizer.variables
        self.track = track
        self.directory = None if directory is None else make_folder(directory)

    def run(self, device: DeviceSettings, title: str, owner: str | None = None) -> dict:
        """Trains from the newest checkpoint to the end; returns the last metrics."""
        set_threads(device.threads)
        self.device, self.title = device, title
        self.checkpoints = self.metrics_file = self.tracked_file = None
        self.rollbacks = Rollbacks(None)
        if self.directory:
            self.checkpoints = Checkpoints(
                self.directory / "checkpoints", device.keep_checkpoints, owner, self.num_steps
            )
            self.metrics_file = self.directory / "metrics.jsonl"
            self.tracked_file = self.directory / "tracked.jsonl"
            self.summaries = Summaries(self.directory / "tensorboard")
            self.rollbacks = Rollbacks(self.directory / "rollbacks.json", owner)
        while True:
            start = self.checkpoints.restore(self.variables) if self.checkpoints else 0
            starts = of_all_workers(start)
            if len(set(starts)) > 1:
                raise InputError(
                    f"The processes of TF_CONFIG find checkpoints of different steps in "
                    f"{self.directory}: {starts}; needed is a folder that all of them share."
                )
            if self.metrics_file and is_chief():
                truncate(self.metrics_file, start)
                truncate(self.tracked_file, start)
            if start >= self.num_steps:
                print(f"{title}: all {self.num_steps:,} steps are done.", flush=True)
                return last_line(self.metrics_file, start)
            try:
                return self._train(start)
            except Diverged as diverged:
                self._after(diverged)

    def _train(self, start) -> dict:
        """Trains from step `start` to the end.

        Raises:
            Diverged: a loss isn't finite.
            Interrupted: by the user; the state was saved.
        """
        where = f"from step {start:,} " if start else ""
        print(
            f"{self.title}: {self.num_steps:,} steps {where}(the first one takes a while) ...",
            flush=True,
        )
        progress = Progress(self.title, self.num_steps, "steps")
        entry, device = {}, self.device
        self._last_batch = None
        self._done, self._saved, self._whole = start, start, True
        self._sums, self._since = [], time.monotonic()
        self._remember()
        if self.checkpoints and device.nan_policy == "rollback" and start == 0:
            self._save()  # to go back to
        try:
            for number in range(start, self.num_steps):
                batch = self._own_batch(number)
                self.step.trace(*batch, number)
                with held():
                    self._step(batch, number)
                    save = self._done % device.checkpoint_steps == 0 or self._done == self.num_steps
                    if save or self._done % device.log_steps == 0 or number == 0:
                        entry = self._look(save)
                    if save:
                        self._save()
                    progress.update(self._done, words(entry))
        except KeyboardInterrupt as interrupt:
            with contextlib.suppress(Diverged):  # which isn't saved
                # Several processes save together or not at all.
                if self._whole and self._done > self._saved and num_workers() == 1:
                    self._look(save=True)
                    self._save()
            number = getattr(interrupt, "number", signal.SIGINT)
            where = f" after step {self._done:,} of {self.num_steps:,}"
            if self._done > self._saved:
                where += f", of which {self._saved:,} are saved"
            raise Interrupted(number, where) from None
        return entry

    def _own_batch(self, number):
        """This process's part of the batch of a step, a slice for each of its replicas."""
        seed, factor = self.rollbacks.at(number, self.seed)
        self.schedule.factor.assign(factor)
        if self._coming != (number, seed):
            size, rows = self.batch_size, own_rows(self.batch_size)
            self._batches = self.data.train.batches(number, size, seed, rows, self.distort)
        batch = next(self._batches)
        self._coming = number + 1, seed
        return local_batch(*batch)

    def _whole_batch(self, number):
        seed, _ = self.rollbacks.at(number, self.seed)
        return self.data.train.batch(number, self.batch_size, seed, self.distort)

    def _step(self, batch, number):
        self._whole = False  # a second signal may end it when weights have changed, but not `_done`
        self._sums.append((number, self.step(*batch, number)))
        self._done, self._last_batch = number + 1, batch
        self._whole = True
        # The step before: an accelerator that works ahead isn't kept waiting.
        if len(self._sums) > 1:
            self._check(*self._sums[-2])

    def _check(self, number, sums):
        loss = float(sums["loss"])
        if not math.isfinite(loss):
            raise Diverged(number, f"The loss is {loss}")

    def _look_at_state(self):
        """Whether what is about to be saved is finite, and gives a finite loss.

        A step's loss is that before its update, so what the last update made was not seen yet.
        The last step is taken once more, for its loss, and undone: its graph is there already.

        Raises:
            Diverged: a variable or the loss isn't finite.
        """
        number = self._done - 1
        values = {variable.path: value_of(variable) for variable in self.variables}
        wrong = not_finite(values)
        if wrong:
            raise Diverged(number, f"'{wrong}' is not finite", after=True)
        self._whole = False
        loss = float(self.step(*self._last_batch, number)["loss"])
        for variable in self.variables:
            variable.assign(values[variable.path])
        self._whole = True
        if not math.isfinite(loss):
            raise Diverged(number, f"The loss is {loss}", after=True)

    def _look(self, save) -> dict:
        """Means over the steps since the last look; logs them. What is saved is looked at too."""
        for number, sums in self._sums:
            self._check(number, sums)
        if save or self.track:
            self._look_at_state()
        if not self._sums:
            return {}
        count, seconds = len(self._sums), time.monotonic() - self._since
        names = self._sums[0][1]
        means = {name: float(sum(sums[name] for _, sums in self._sums)) / count for name in names}
        entry = {"step": self._done, **means}
        if hasattr(self.sampler, "progress"):
            entry["drop_progress"] = float(self.sampler.progress(self._done - 1))
        if hasattr(self.sampler, "kept_share"):
            entry["dropped_share"] = 1.0 - self.sampler.kept_share(self._done - 1)
        rate = keras.ops.convert_to_numpy(self.optimizer.learning_rate)
        entry["learning_rate"] = float(rate)
        entry["images_per_second"] = round(count * self.batch_size / seconds, 1)
        tracked = self.track(self._done) if self.track else None
        if self.metrics_file and is_chief():
            append_line(self.metrics_file, json.dumps(entry))
            self.summaries.scalars(self._done, {k: v for k, v in entry.items() if k != "step"})
            if tracked is not None:
                append_line(self.tracked_file, json.dumps({"step": self._done, **tracked}))
        # Several processes read values at the same steps or not at all: when they save.
        if time.monotonic() - self._remembered > _REMEMBER_SECONDS and num_workers() == 1:
            self._remember()
        self._sums, self._since = [], time.monotonic()
        return entry

    def _remember(self):
        """Keeps values from which a step that goes wrong can be reached again."""
        self._known = self._done, [value_of(variable) for variable in self.variables]
        self._remembered = time.monotonic()

    def _save(self):
        if self.checkpoints:
            self.checkpoints.save(self._done, self.variables, write=is_chief())
            if num_workers() > 1:
                self._remember()
        self._saved = self._done

    def _after(self, diverged):
        """Writes down what went wrong; returns if training may go back and on."""
        number = diverged.number
        print(f"{diverged} Looking for where it begins ...", flush=True)
        report = self._diagnose(number, diverged.after)
        kept = "Nothing was saved."
        way_out = "A new run with a lower --learning_rate may get further."
        if self.directory:
            steps = self.checkpoints.steps()
            report |= {"last_checkpoint": max(steps, default=None), "owner": self.checkpoints.owner}
            if is_chief():
                write_json(self.directory / "diverged.json", report)
            kept = (
                f"{self.directory / 'diverged.json'} says more; "
                f"{f'the checkpoint of step {max(steps):,} is' if steps else 'nothing was'} kept."
            )
            if self.device.nan_policy == "rollback" and steps:
                if len(self.rollbacks) < self.device.max_rollbacks:
                    self.rollbacks.add(number + 1, max(steps), write=is_chief())
                    print(
                        f"Rolling back to step {max(steps):,}, with another data order and "
                        f"{0.5 ** len(self.rollbacks):g} of the learning rate.",
                        flush=True,
                    )
                    return
                kept += f" It went back {len(self.rollbacks)} times already (--max_rollbacks)."
            elif steps:
                way_out = f"{way_out[:-1]}, and so may this one with --nan_policy=rollback."
        raise gave_up(diverged, report, kept, way_out)

    def _diagnose(self, number, after) -> dict:
        """Goes to the step again from the values last known to be good, and looks at it.

        Args:
            number: of the step whose batch is looked at.
            after: with the weights that the step's update made; else with those it had.
        """
        known, values = self._known
        for variable, value in zip(self.variables, values):
            variable.assign(value)
        for before in range(known, number + after):
            self.step(*self._own_batch(before), before)
        report = look_at(self.step, self._whole_batch(number), number)
        rate = float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))
        return {"step": number + 1, "learning_rate": rate, **report}
