"""Settings of `retrain`. The code that reads results needs them, too."""

import dataclasses

from oneshot_tf.settings.setting import Settings, setting

_SEEDS = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class RetrainSettings(Settings):
    """Selection and training of stand-alone models."""

    select: str = setting(
        "top",
        "Way to choose the architectures to train. top: a stratified sample of --count from the "
        "best --top candidates. small: the --count smallest candidates above --percentile of "
        "candidate accuracy. random: a random sample of --count. stratified: --count candidates "
        "over the whole range of candidate accuracy, four from each bucket. all_on: the one "
        "architecture with every path.",
        choices=("top", "small", "random", "stratified", "all_on"),
        common=True,
    )
    architecture: str = setting(
        "", "Architecture to train, as text. It overrides --select.", common=True
    )
    top: int = setting(
        100, "Number of best candidates from which --select=top samples.", least=1, common=True
    )
    count: int = setting(10, "Number of architectures to train.", least=1, common=True)
    percentile: float = setting(
        90.0,
        "For --select=small: lowest candidate accuracy to accept, as a percentile.",
        least=0.0,
        most=100.0,
    )
    filters: int = setting(
        0,
        "Number of filters of the first convolution. 0: as in the one-shot model.",
        least=0,
        most=4096,
        common=True,
    )
    num_cells: int = setting(
        0,
        "Number of cells. 0: as in the one-shot model. A model with fewer cells has as many "
        "reductions as they allow.",
        least=0,
        most=64,
    )
    epochs: float = setting(
        300.0, "Number of passes over the training images.", above=0.0, most=100_000.0, common=True
    )
    repeats: int = setting(
        1, "Number of times to train each architecture, each with its own seed.", least=1
    )
    first_run: int = setting(
        0,
        "Number of the first repeat. Several processes can share the repeats of one "
        "selection and seed, each with its own --name and --first_run. analyze combines them.",
        least=0,
        most=10_000,
    )
    evaluate_on: str = setting(
        "test",
        "Images that score the models. test: train on the training and validation images, and "
        "score the test images once, at the end. validation: train on the training images, and "
        "score the validation images.",
        choices=("test", "validation"),
    )
    name: str = setting(
        "", "Subfolder of RUN_DIR/retrain for the results. Empty: the name of the selection."
    )
    seed: int = setting(
        0,
        "Random seed for the selection, weights, data order and augmentation.",
        least=0,
        most=_SEEDS,
    )
