"""Opens a run for a program: takes the lock, selects devices and watches other workers."""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from oneshot_tf.devices.distribution import is_chief, watch_workers
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.system.files import remove_leftovers
from oneshot_tf.system.locks import locked


@contextlib.contextmanager
def opened(
    directory: RunDirectory,
    strategy: tf.distribute.Strategy,
    folder: Any = None,
    shared: bool = False,
) -> Iterator[None]:
    """Locks a run for a program, and computes on the devices of a strategy inside the block.

    Only the chief takes the lock. If another worker stops, the error is one line.

    Args:
        directory: The run.
        strategy: The distribution strategy that `make_strategy` returned.
        folder: The folder of a program that only adds one folder to the run. Other programs may
            then work in the run too, but not in this folder. None locks the whole run.
        shared: Whether other copies of the program may work in the folder at the same time. All
            of them must say so.

    Raises:
        InputError: Another program works there, or another worker has stopped.
    """
    with contextlib.ExitStack() as stack:
        if is_chief(strategy):
            stack.enter_context(directory.locked(shared=folder is not None))
            if folder is not None:
                stack.enter_context(locked(folder, shared))
                if not shared:  # otherwise another copy may be writing them
                    remove_leftovers(folder)
        stack.enter_context(watch_workers(strategy))
        stack.enter_context(strategy.scope())
        yield
