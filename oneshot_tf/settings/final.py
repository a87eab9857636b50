"""Settings of final training: tools that train a chosen net better. All of them are off."""

import dataclasses

from oneshot_tf.settings.setting import Settings, setting


@dataclasses.dataclass(frozen=True)
class FinalSettings(Settings):
    """Tools of final training.

    Example:

        >>> FinalSettings(warmup_epochs=5.0, weight_average=0.999).drop_path_keep
        1.0
    """

    warmup_epochs: float = setting(
        0.0,
        "Number of passes over the training images in which the learning rate rises linearly to "
        "--learning_rate. The schedule begins after them. They count as --epochs. 0: no warm-up.",
        least=0.0,
        most=100_000.0,
    )
    weight_average: float = setting(
        0.0,
        "Decay of an exponential moving average of the weights, for example 0.999. The averaged "
        "weights are scored and exported. The decay is smaller in the first steps, so that short "
        "trainings work too. 0: use the last weights.",
        least=0.0,
        below=1.0,
    )
    drop_path_keep: float = setting(
        1.0,
        "Probability to keep an operation of the last cell at the end of training "
        "(ScheduledDropPath), for example 0.8. Each image drops operations of its own. The "
        "probability falls linearly from 1, over the steps and over the cells. 1: drop nothing.",
        above=0.0,
        most=1.0,
    )
    class_weights: str = setting(
        "none",
        "Weights of the classes in the loss. none: all images count the same. balanced: an image "
        "counts by the inverse frequency of its class, so that all classes count the same.",
        choices=("none", "balanced"),
    )
