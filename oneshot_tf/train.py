"""Trains the one-shot model, which contains every architecture of the search space.

If training stops, repeat the command to resume from the last checkpoint.
Next step: python -m oneshot_tf.search --run_dir=DIR
"""

import dataclasses
from typing import Any

from oneshot_tf import settings
from oneshot_tf.analysis.live import live_page
from oneshot_tf.data.dataset import Dataset
from oneshot_tf.data.inventory import format_table, inventory_of, warnings
from oneshot_tf.data.sources import load_data
from oneshot_tf.devices.distribution import (
    check_alike,
    is_chief,
    make_strategy,
    of_all_workers,
)
from oneshot_tf.devices.threads import set_threads
from oneshot_tf.evaluation.kl_divergence import Tracker
from oneshot_tf.learning.architecture_steps import check_learner
from oneshot_tf.learning.defaults import with_sizes
from oneshot_tf.learning.fitting import fit_supernet
from oneshot_tf.learning.loop import check_batch_size
from oneshot_tf.learning.steps import count_micro_batches
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.runs.config_file import facts_of
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.opened import opened
from oneshot_tf.runs.sizes import check_one_shot
from oneshot_tf.settings import (
    DataSettings,
    DeviceSettings,
    ModelSettings,
    OneShotSettings,
    StrategySettings,
    TrainSettings,
    command_line,
)
from oneshot_tf.strategies import DEFAULT_STRATEGY, STRATEGIES, Learner, Sampler
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import user_path
from oneshot_tf.system.hints import print_with_next
from oneshot_tf.system.printable import command


def main(
    run: settings.RunSettings,
    data: DataSettings,
    model: ModelSettings,
    train: TrainSettings,
    one_shot: OneShotSettings,
    strategy: StrategySettings,
    device: DeviceSettings,
) -> None:
    """Trains the one-shot model."""
    kind, colon, place = data.dataset.partition(":")
    if kind in ("folder", "npz") and colon:  # later programs may start elsewhere
        data = dataclasses.replace(data, dataset=f"{kind}:{user_path(place).resolve()}")
    directory = RunDirectory(run.run_dir)
    set_threads(directory.threads(device.threads))  # before TensorFlow starts
    train, one_shot, dataset = _sizes(directory, data, train, one_shot, device.distribution)
    groups = {"data": data, "model": model, "train": train, "one_shot": one_shot,
              "strategy": strategy, "device": device}  # fmt: skip
    directory.check_settings(groups)
    if directory.exists():
        check_one_shot(directory)
    ghosts = train.batch_size // train.ghost_batch_size
    devices = make_strategy(device.distribution, ghosts, groups.values())
    micro_batches = count_micro_batches(
        train.batch_size, train.ghost_batch_size, train.device_batch_size,
        devices.num_replicas_in_sync,
    )  # fmt: skip
    with opened(directory, devices):
        directory.check_settings(groups)  # again, because now no other process can change them
        dataset = dataset or load_data(**data.to_dict())
        check_batch_size(train, dataset)
        model.search_space().check_image_size(dataset.image_size, model.stem_stride)
        make = STRATEGIES[strategy.strategy].make
        sampler = make(model.search_space(), strategy, one_shot.train_steps)
        if isinstance(sampler, Learner):
            check_learner(sampler, dataset, train, one_shot.train_steps)
        begin(directory, groups, dataset)
        print(
            f"{devices.num_replicas_in_sync} device(s), {micro_batches} micro-batch(es) per step.",
            flush=True,
        )
        with live_page(directory, "train", is_chief()):
            _train(directory, dataset, groups, sampler)


def _sizes(
    directory: RunDirectory,
    data: DataSettings,
    train: TrainSettings,
    one_shot: OneShotSettings,
    distribution: str,
) -> tuple[TrainSettings, OneShotSettings, Dataset | None]:
    """Returns the settings with a batch size and a number of steps, and the data set or None.

    The sizes come from the flags, from the run, or from the size of the data set. The data set is
    returned if this function had to read it to choose them.
    """
    if train.batch_size and one_shot.train_steps:
        return train, one_shot, None
    if directory.exists():
        batch = directory.group(TrainSettings, "train").batch_size
        steps = directory.group(OneShotSettings, "one_shot").train_steps
        train = dataclasses.replace(train, batch_size=train.batch_size or batch)
        one_shot = dataclasses.replace(one_shot, train_steps=one_shot.train_steps or steps)
        return train, one_shot, None
    if not data.own:
        return *with_sizes(train, one_shot), None
    if distribution in ("multi_worker", "tpu"):
        raise InputError(
            f"--batch_size and --train_steps must be set for --distribution={distribution} with "
            f"--dataset={data.dataset}, because the devices start before the images are counted."
        )
    dataset = load_data(**data.to_dict())
    count = len(dataset.train)
    train, one_shot = with_sizes(train, one_shot, count)
    print(
        f"For {count:,} training images: --batch_size={train.batch_size} "
        f"({train.batch_size // train.ghost_batch_size} ghost batches), "
        f"--train_steps={one_shot.train_steps} "
        f"({one_shot.train_steps * train.batch_size / count:.0f} passes over the data).",
        flush=True,
    )
    return train, one_shot, dataset


def _run_id(directory: RunDirectory) -> str | None:
    """Returns the run's id from the chief, because other workers may not see config.json yet."""
    number = int(directory.run_id() or "0", 16) if is_chief() else 0
    parts = [sum(of_all_workers(number >> shift & 0xFFFFFFF)) for shift in range(0, 128, 28)]
    number = sum(part << 28 * i for i, part in enumerate(parts))
    return f"{number:032x}" if number else None


def begin(directory: RunDirectory, groups: dict[str, Any], dataset: Dataset) -> None:
    """Begins the run, or checks that it resumes with the same data."""
    inventory = inventory_of(dataset)  # before anything is written: test images may be damaged
    facts = facts_of(dataset)
    check_alike("images (--data_dir)", facts)
    if not is_chief():
        return
    flag_lines = command_line.as_flag_lines(groups.values())
    directory.begin(groups, groups["model"].search_space(), flag_lines, facts)
    directory.check_data(dataset, test=True)
    directory.note_provenance("train")
    print(format_table(inventory), flush=True)
    for warning in warnings(inventory, groups["train"].ghost_batch_size):
        print(f"Warning: {warning}", flush=True)


def _train(
    directory: RunDirectory, dataset: Dataset, groups: dict[str, Any], sampler: Sampler
) -> None:
    model, train, one_shot = groups["model"], groups["train"], groups["one_shot"]
    device = groups["device"]
    supernet = Supernet(
        model.search_space(), model.stack(), dataset.num_classes, one_shot.seed, device.dtype
    )
    print(
        f"One-shot model: {model.num_cells} {supernet.space.part}(s), F = {model.filters}, "
        f"{supernet.count_params():,} parameters.",
        flush=True,
    )
    track = None
    if one_shot.track_architectures:
        track = Tracker(
            supernet, dataset, one_shot.track_architectures, one_shot.train_steps,
            train.ghost_batch_size, one_shot.seed,
        )  # fmt: skip
    last = fit_supernet(
        supernet, dataset, sampler, one_shot.train_steps, train, one_shot.seed,
        directory.path, device=device, track=track, owner=_run_id(directory),
    )  # fmt: skip
    learnt = ["--strategy=learnt", "--name=learnt"] if isinstance(sampler, Learner) else []
    next_command = command("search", f"--run_dir={directory.path}", *learnt)
    print_with_next(f"Trained for {last['step']:,} steps.", next_command)


if __name__ == "__main__":
    command_line.run(
        main,
        settings.RunSettings,
        settings.DataSettings,
        settings.ModelSettings,
        settings.TrainSettings(batch_size=0),
        settings.OneShotSettings(train_steps=0),
        command_line.strategy(STRATEGIES, DEFAULT_STRATEGY),
        settings.DeviceSettings,
    )
