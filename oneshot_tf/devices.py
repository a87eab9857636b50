"""What kinds of device this process computes on: no more than that, and nothing of nets."""

import tensorflow as tf


def accelerators() -> set[str]:
    """Which of "GPU" and "TPU" there are; empty on a CPU alone."""
    return {kind for kind in ("GPU", "TPU") if tf.config.list_logical_devices(kind)}
