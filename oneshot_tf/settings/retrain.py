"""Settings of `retrain`. The code that reads results needs them, too."""

import dataclasses

from oneshot_tf.settings.setting import Settings, setting

# The attribute of a candidate for each value of --front.
COSTS = {
    "parameters": "parameters",
    "multiply_adds": "multiply_adds",
    "latency": "latency_ms",
    "file": "file_bytes",
}
_SEEDS = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class RetrainSettings(Settings):
    """Selection and training of stand-alone models."""

    select: str = setting(
        "top",
        "How to choose the architectures to train. top: --count of the best --top candidates, "
        "spread evenly over their ranks. small: the --count smallest of the candidates above "
        "--percentile. random: --count random candidates. stratified: --count candidates over the "
        "whole range of candidate accuracy, four from each of several equally wide intervals. "
        "pareto: --count of the candidates that no other one beats in accuracy and in the cost "
        "--front. "
        "all_on: the architecture with every path. plain_cnn and mobile_net: a plain CNN or a "
        "small MobileNet of about --parameters parameters, as a baseline.",
        choices=(
            "top",
            "small",
            "random",
            "stratified",
            "pareto",
            "all_on",
            "plain_cnn",
            "mobile_net",
        ),
        common=True,
    )
    architecture: str = setting(
        "",
        "Architecture to train, written as in candidates.csv. It overrides --select.",
        common=True,
    )
    top: int = setting(
        100,
        "For --select=top: number of best candidates to choose from.",
        least=1,
        common=True,
    )
    count: int = setting(10, "Number of architectures to train.", least=1, common=True)
    percentile: float = setting(
        90.0,
        "For --select=small: percentile of candidate accuracy. 90 leaves the best tenth.",
        least=0.0,
        most=100.0,
    )
    front: str = setting(
        "parameters",
        "For --select=pareto: the cost. latency and file need the settings of the limits, for "
        "example --latency_of, but no limit.",
        choices=tuple(COSTS),
        added=True,
    )
    filters: int = setting(
        0,
        "Number of filters of the first convolution. 0: the same as the one-shot model.",
        least=0,
        most=4096,
        common=True,
    )
    num_cells: int = setting(
        0,
        "Number of cells. 0: the same as the one-shot model. A model with fewer cells may have "
        "fewer reductions (--num_reductions of train).",
        least=0,
        most=64,
    )
    parameters: int = setting(
        0,
        "Number of parameters to come near to. For --select=plain_cnn and mobile_net, 0 is the "
        "number of the best candidate. For --select=random, the candidates come from the tenth "
        "whose size is nearest; 0 allows all.",
        least=0,
        added=True,
    )
    epochs: float = setting(
        300.0, "Number of passes over the training images.", above=0.0, most=100_000.0, common=True
    )
    repeats: int = setting(
        1, "Number of times to train each architecture, each time with another seed.", least=1
    )
    first_run: int = setting(
        0,
        "Number of the first repeat. To divide the repeats among several processes, give them the "
        "same selection and --seed, and each its own --name and --first_run. analyze combines "
        "their results.",
        least=0,
        most=10_000,
    )
    evaluate_on: str = setting(
        "test",
        "Images for measuring accuracy. test: train on the training and validation images, and "
        "score the models on the test images, once, at the end. validation: train on the training "
        "images only, and score the models on the validation images.",
        choices=("test", "validation"),
    )
    search: str = setting(
        "",
        "Name of the search (--name of search) whose candidates to choose from. Empty: the search "
        "without a name.",
        affects_results=False,
    )
    name: str = setting(
        "", "Name of the results' folder in RUN_DIR/retrain. Empty: the value of --select."
    )
    seed: int = setting(
        0,
        "Random seed for the selection, weights, data order and augmentation.",
        least=0,
        most=_SEEDS,
    )
