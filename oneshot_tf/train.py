"""Trains the one-shot model: a net that holds every architecture of the search space.

Started again with the same flags, it goes on from its last checkpoint. Next:
python -m oneshot_tf.search --run_dir=DIR.
"""

import contextlib
import dataclasses

from oneshot_tf import settings
from oneshot_tf.data.inventory import format_table, warnings
from oneshot_tf.data.sources import load_data
from oneshot_tf.devices.distribution import (
    check_alike,
    is_chief,
    make_strategy,
    of_all_workers,
    watching,
)
from oneshot_tf.devices.threads import set_threads
from oneshot_tf.evaluation.kl_divergence import Tracker
from oneshot_tf.learning.defaults import with_sizes
from oneshot_tf.learning.loop import check_batch_size, fit_supernet
from oneshot_tf.learning.steps import count_turns
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.runs.config_file import facts_of
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.sizes import check_one_shot
from oneshot_tf.settings import command_line
from oneshot_tf.space.cell_space import bender2018
from oneshot_tf.strategies import PathDropout
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import user_path
from oneshot_tf.system.printable import command


def main(run, data, model, train, one_shot, device) -> None:
    """Trains; each argument is the object of `settings` of that kind."""
    kind, colon, place = data.dataset.partition(":")
    if kind in ("folder", "npz") and colon:  # also found when a later program starts elsewhere
        place = user_path(place).resolve()
        data = dataclasses.replace(data, dataset=f"{kind}:{place}")
    directory = RunDirectory(run.run_dir)
    set_threads(directory.threads(device.threads))  # before TensorFlow starts
    train, one_shot, dataset = _sizes(directory, data, train, one_shot, device.distribution)
    groups = {"data": data, "model": model, "train": train, "one_shot": one_shot, "device": device}
    directory.check_settings(groups)
    if (directory.path / "config.json").exists():
        check_one_shot(directory)
    ghosts = train.batch_size // train.ghost_batch_size
    strategy = make_strategy(device.distribution, ghosts, groups.values())
    turns = count_turns(
        train.batch_size, train.ghost_batch_size, train.device_batch_size,
        strategy.num_replicas_in_sync,
    )  # fmt: skip
    space = bender2018(model.num_blocks)
    alone = contextlib.nullcontext()
    with directory.locked() if is_chief(strategy) else alone, watching(strategy):
        directory.check_settings(groups)  # again: nothing changes it from here on
        dataset = dataset or load_data(**data.to_dict())
        check_batch_size(train, dataset)
        _train(directory, strategy, space, dataset, turns, groups)


def _sizes(directory, data, train, one_shot, distribution):
    """Settings with a batch size and a number of steps: given, the run's own, or chosen.

    Also the data set, where it had to be read for that; otherwise None.
    """
    if train.batch_size and one_shot.train_steps:
        return train, one_shot, None
    if (directory.path / "config.json").exists():
        batch = directory.group(settings.TrainSettings, "train").batch_size
        steps = directory.group(settings.OneShotSettings, "one_shot").train_steps
        train = dataclasses.replace(train, batch_size=train.batch_size or batch)
        one_shot = dataclasses.replace(one_shot, train_steps=one_shot.train_steps or steps)
        return train, one_shot, None
    if not data.own:
        return *with_sizes(train, one_shot), None
    if distribution in ("multi_worker", "tpu"):
        raise InputError(
            f"--distribution={distribution} needs --batch_size and --train_steps for "
            f"--dataset={data.dataset}: the devices must meet before the images are counted."
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


def _run_id(directory) -> str | None:
    """The run's id, from the chief: another process may not see config.json yet."""
    number = int(directory.run_id() or "0", 16) if is_chief() else 0
    parts = [sum(of_all_workers(number >> shift & 0xFFFFFFF)) for shift in range(0, 128, 28)]
    number = sum(part << 28 * i for i, part in enumerate(parts))
    return f"{number:032x}" if number else None


def _train(directory, strategy, space, dataset, turns, groups):
    model, train, one_shot, device = (groups[g] for g in ("model", "train", "one_shot", "device"))
    inventory = dataset.inventory()  # before anything is written: test images may be damaged
    facts = facts_of(dataset)
    with strategy.scope():
        check_alike("images (--data_dir)", facts)
    if is_chief(strategy):
        directory.begin(groups, space, command_line.as_flag_lines(groups.values()), facts)
        directory.check_data(dataset, test=True)
        directory.note_provenance("train")
        print(format_table(inventory), flush=True)
        for warning in warnings(inventory, train.ghost_batch_size):
            print(f"Warning: {warning}", flush=True)
    print(f"{strategy.num_replicas_in_sync} device(s), {turns} turn(s) a step.", flush=True)
    with strategy.scope():
        supernet = Supernet(space, model.stack(), dataset.num_classes, one_shot.seed, device.dtype)
        sampler = PathDropout(
            space, one_shot.drop_rate, one_shot.drop_schedule, one_shot.train_steps
        )
        print(
            f"One-shot model: {model.num_cells} cell(s), {model.num_reductions} reduction(s), "
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
            directory.path, device, track, _run_id(directory),
        )  # fmt: skip
    print(
        f"Trained for {last['step']:,} steps. Next: "
        f"{command('search', f'--run_dir={directory.path}')}",
        flush=True,
    )


if __name__ == "__main__":
    command_line.run(
        main,
        settings.RunSettings,
        settings.DataSettings,
        settings.ModelSettings,
        settings.TrainSettings(batch_size=0),
        settings.OneShotSettings(train_steps=0),
        settings.DeviceSettings,
    )
