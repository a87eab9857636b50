"""The training loop, the same for the one-shot model and for stand-alone nets."""

import contextlib
import json
import math
import pathlib
import signal
import time

import keras
import tensorflow as tf

from oneshot_tf.errors import InputError
from oneshot_tf.files import append_line, make_folder, write_atomically
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.learning.distribution import is_chief, local_batch
from oneshot_tf.learning.optimizers import NesterovSGD
from oneshot_tf.learning.schedules import learning_rate_schedule
from oneshot_tf.learning.steps import TrainStep
from oneshot_tf.progress import Progress
from oneshot_tf.settings import DeviceSettings, TrainSettings


def fit_supernet(
    supernet, data, sampler, num_steps, settings=None, seed=0, directory=None, device=None
):
    """Trains a one-shot model with masks drawn by a sampler (section 3.2).

    Args:
        supernet: a `Supernet`; made in the scope of the strategy in force, if any.
        data: a `Dataset`; its training images are used.
        sampler: has `sample(num_ghosts, step, seed)`, such as `PathDropout`.
        num_steps: length of the training.
        settings: `TrainSettings`; None for the defaults.
        seed: of dropped paths, data order and augmentation.
        directory: where checkpoints and metrics.jsonl go; a training found
            there goes on where it stopped. None keeps nothing.
        device: `DeviceSettings`, for the intervals of logs and checkpoints.

    Returns:
        The last line of metrics: loss, cross_entropy, l2, accuracy, …

    Raises:
        InputError: sizes don't fit the data, or the loss isn't finite any more.
        KeyboardInterrupt: interrupted; the state was saved in `directory`.
    """
    loop = _Loop(supernet, data, sampler, num_steps, settings, seed, directory)
    return loop.run(device or DeviceSettings(), "one-shot training")


def fit_standalone(net, data, num_steps, settings=None, seed=0, directory=None, device=None):
    """Trains a stand-alone net from scratch (section 3.4). Arguments as `fit_supernet`'s."""
    loop = _Loop(net, data, None, num_steps, settings, seed, directory)
    return loop.run(device or DeviceSettings(), "stand-alone training")


def check_batch_size(settings: TrainSettings, data) -> None:
    """Raises InputError if the data set has fewer training images than a batch."""
    if settings.batch_size > len(data.train):
        raise InputError(
            f"--batch_size={settings.batch_size}, but {data.name} has only {len(data.train):,} "
            "training images; give a smaller batch size."
        )


class _Loop:
    def __init__(self, net, data, sampler, num_steps, settings, seed, directory):
        settings = settings or TrainSettings()
        if num_steps < 1:
            raise InputError(f"num_steps={num_steps}; training takes at least 1.")
        check_batch_size(settings, data)
        self.data, self.sampler, self.num_steps = data, sampler, num_steps
        self.batch_size, self.seed = settings.batch_size, seed
        with tf.distribute.get_strategy().scope():
            self.optimizer = NesterovSGD(
                learning_rate_schedule(
                    settings.learning_rate_schedule, settings.learning_rate, num_steps
                ),
                momentum=settings.momentum,
                nesterov=settings.momentum > 0,
                name="sgd",
            )
            self.optimizer.build(net.trainable_variables)
        prepare = data.augmenter(settings.augmentation, seed)
        self.step = TrainStep(
            net, self.optimizer, sampler, prepare, settings, seed, data.image_size
        )
        self.variables = net.variables + self.optimizer.variables
        self.checkpoints = self.metrics_file = None
        if directory is not None:
            self.checkpoints = Checkpoints(pathlib.Path(directory) / "checkpoints")
            self.metrics_file = make_folder(directory) / "metrics.jsonl"

    def run(self, device: DeviceSettings, title: str) -> dict:
        start = self.checkpoints.restore(self.variables) if self.checkpoints else 0
        if self.metrics_file and is_chief():
            _truncate(self.metrics_file, start)
        if start >= self.num_steps:
            print(f"{title}: all {self.num_steps:,} steps are done.", flush=True)
            return _last_line(self.metrics_file, start)
        where = f"from step {start:,} " if start else ""
        print(
            f"{title}: {self.num_steps:,} steps {where}(the first one takes a while) …", flush=True
        )
        progress = Progress(title, self.num_steps, "steps")
        entry, sums, since = {}, [], time.monotonic()
        with _graceful_stop() as stop:
            for number in range(start, self.num_steps):
                batch = self.data.train.batch(number, self.batch_size, self.seed)
                sums.append(self.step(*local_batch(*batch), number))
                done = number + 1
                stopping = bool(stop)
                save = done % device.checkpoint_steps == 0 or done == self.num_steps or stopping
                # Whatever is saved was looked at first: only finite losses get past `_entry`.
                if save or done % device.log_steps == 0 or number == start:
                    entry = self._entry(done, sums, time.monotonic() - since)
                    sums, since = [], time.monotonic()
                    self._log(entry)
                if save:
                    self._save(done)
                progress.update(done, _words(entry))
                if stopping:
                    raise KeyboardInterrupt(f"stopped after step {done:,} of {self.num_steps:,}")
        return entry

    def _entry(self, done, sums, seconds) -> dict:
        """Means over the steps since the last entry."""
        means = {name: float(sum(s[name] for s in sums)) / len(sums) for name in sums[0]}
        if not math.isfinite(means["loss"]):
            raise InputError(
                f"The loss is {means['loss']} after step {done:,}; try a lower --learning_rate. "
                "Checkpoints from before are kept."
            )
        entry = {"step": done, **means}
        if hasattr(self.sampler, "progress"):
            entry["drop_progress"] = float(self.sampler.progress(done - 1))
        rate = keras.ops.convert_to_numpy(self.optimizer.learning_rate)
        entry["learning_rate"] = float(rate)
        entry["images_per_second"] = round(len(sums) * self.batch_size / seconds, 1)
        return entry

    def _log(self, entry):
        if self.metrics_file and is_chief():
            append_line(self.metrics_file, json.dumps(entry))

    def _save(self, done):
        if self.checkpoints:
            self.checkpoints.save(done, self.variables, write=is_chief())


@contextlib.contextmanager
def _graceful_stop():
    """Gives a list that is empty until Ctrl-C or SIGTERM: the step at hand is finished first."""
    stop, before = [], {}

    def handler(number, frame):
        del frame
        if stop:  # asked twice: at once
            raise KeyboardInterrupt
        stop.append(number)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handler)
    except ValueError:  # not the main thread: signals are its business
        pass
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _truncate(metrics_file, start):
    """Drops lines of steps after the checkpoint from which training goes on."""
    if not metrics_file.exists():
        return
    kept = []
    for line in metrics_file.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["step"] <= start:
                kept.append(line + "\n")
    write_atomically(metrics_file, lambda file: file.writelines(kept))


def _last_line(metrics_file, step) -> dict:
    lines = metrics_file.read_text().splitlines() if metrics_file.exists() else []
    return json.loads(lines[-1]) if lines else {"step": step}


def _words(entry) -> str:
    if not entry:
        return ""
    return f"loss {entry['loss']:.3f}, accuracy {entry['accuracy']:.3f}"
