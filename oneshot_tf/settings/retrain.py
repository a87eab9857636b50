"""Settings of `retrain`, which results are read with, too."""

import dataclasses

from oneshot_tf.settings.setting import Settings, setting

_SEEDS = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class RetrainSettings(Settings):
    """Selection and training of stand-alone models."""

    select: str = setting(
        "top",
        "Which architectures to train. top: a stratified sample of --count from the best --top "
        "candidates. small: the --count smallest above --percentile of candidate accuracy. random: "
        "any. stratified: --count over the whole range of candidate accuracy, four from each "
        "bucket. all_on: every path.",
        choices=("top", "small", "random", "stratified", "all_on"),
        common=True,
    )
    architecture: str = setting(
        "", "Architecture to train, as text. It replaces --select.", common=True
    )
    top: int = setting(
        100, "Number of best candidates from which --select=top samples.", least=1, common=True
    )
    count: int = setting(10, "Number of architectures to train.", least=1, common=True)
    percentile: float = setting(
        90.0,
        "For --select=small: the lowest candidate accuracy to accept, as a percentile.",
        least=0.0,
        most=100.0,
    )
    filters: int = setting(
        0,
        "Filters of the first convolution. 0: as in the one-shot model.",
        least=0,
        most=4096,
        common=True,
    )
    num_cells: int = setting(
        0,
        "Number of cells. 0: as in the one-shot model. Fewer cells have as many reductions as "
        "they allow.",
        least=0,
        most=64,
    )
    epochs: float = setting(
        300.0, "Passes over the training images.", above=0.0, most=100_000.0, common=True
    )
    repeats: int = setting(
        1, "Number of times to train each architecture, each with its own seed.", least=1
    )
    first_run: int = setting(
        0,
        "Number of the first run. To share the runs of one selection and seed over several "
        "processes or days, give each part its own --name. analyze combines them.",
        least=0,
        most=10_000,
    )
    evaluate_on: str = setting(
        "test",
        "test: train on training and validation images, score the test images once, at the end. "
        "validation: train on the training images, score the validation images.",
        choices=("test", "validation"),
    )
    name: str = setting("", "Subfolder of RUN_DIR/retrain. Empty: named after the selection.")
    seed: int = setting(
        0,
        "Random seed for the selection, weights, data order and augmentation.",
        least=0,
        most=_SEEDS,
    )
