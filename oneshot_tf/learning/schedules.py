"""Learning-rate schedules by name."""

import keras


def learning_rate_schedule(name: str, initial: float, num_steps: int):
    """What a Keras optimizer takes as `learning_rate`.

    Args:
        name: "cosine": one half-wave from `initial` to 0 at `num_steps`; "constant".
        initial: the learning rate at step 0.
        num_steps: steps of the whole training.
    """
    if name == "cosine":
        return keras.optimizers.schedules.CosineDecay(initial, num_steps)
    return initial
