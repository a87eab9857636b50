"""Settings that several programs share. Those of one program are in its own file."""

import dataclasses

from oneshot_tf.settings.setting import Settings, setting
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class RunSettings(Settings):
    """Where a program works."""

    run_dir: str = setting("", "Folder of the run: everything is written here, and read from here.")

    def __post_init__(self):
        super().__post_init__()
        if not self.run_dir:
            raise InputError(
                "--run_dir is missing: the folder of the run, such as --run_dir=runs/1."
            )


@dataclasses.dataclass(frozen=True)
class DistributionSettings(Settings):
    """On which devices."""

    distribution: str = setting(
        "auto",
        "Devices: auto (all GPUs, else the CPU), cpu, mirrored (all GPUs of this machine), "
        "multi_worker (the processes of TF_CONFIG, which share --run_dir), tpu.",
        choices=("auto", "cpu", "mirrored", "multi_worker", "tpu"),
    )
    threads: int = setting(
        0,
        "CPU threads that share one operation. The same number gives the same result to the bit, "
        "on any number of cores of the same processor. 0: the number that the run directory was "
        "begun with, or one thread a core.",
        least=0,
        most=1024,
    )


@dataclasses.dataclass(frozen=True)
class DeviceSettings(DistributionSettings):
    """On what a net is trained."""

    mixed_precision: bool = setting(
        False, "Compute in bfloat16; variables, batch statistics and loss stay float32."
    )
    log_steps: int = setting(50, "Steps between two lines of metrics.jsonl.", least=1)
    checkpoint_steps: int = setting(500, "Steps between two checkpoints.", least=1)
    keep_checkpoints: int = setting(
        3, "Checkpoints that stay; the newest whole one is gone on from.", least=1
    )
    nan_policy: str = setting(
        "stop",
        "When the loss is not finite: stop, or rollback (to the last checkpoint, with another data "
        "order and half the learning rate, at most --max_rollbacks times).",
        choices=("stop", "rollback"),
    )
    max_rollbacks: int = setting(3, "How often training may go back in all.", least=1, most=20)

    @property
    def dtype(self) -> str:
        """The Keras dtype policy."""
        return "mixed_bfloat16" if self.mixed_precision else "float32"


@dataclasses.dataclass(frozen=True)
class LocationSettings(Settings):
    """Where the images are."""

    data_dir: str = setting(
        "",
        "Folder of prepared tensorflow-datasets (empty: their default, ~/tensorflow_datasets). "
        "After training: empty for where they were; that of folder:PATH or npz:FILE, if it moved.",
    )
    download: bool = setting(True, "Whether to download and prepare a data set that is missing.")


@dataclasses.dataclass(frozen=True)
class DataSettings(LocationSettings):
    """Which images."""

    skip_bad_images: bool = setting(
        False,
        "Leave out images that can't be decoded, or whose label is out of range, instead of "
        "stopping; how many, and the first few, are printed.",
    )

    dataset: str = setting(
        "cifar10",
        "cifar10, cifar100, digits (in scikit-learn, no download), any image classification set "
        "of tensorflow-datasets, folder:PATH with one folder of images per class (or folders "
        "train, val and test that have such folders), or npz:FILE with the arrays train_images, "
        "train_labels, test_images, test_labels.",
    )
    image_size: int = setting(
        0, "Height and width to resize images to; 0: as they are (folders: 32).", least=0, most=1024
    )
    storage: str = setting(
        "memory",
        "Where training images are while training: memory (all at one size), or files (each is "
        "decoded when a step needs it, for sets larger than memory).",
        choices=("memory", "files"),
    )
    fit: str = setting(
        "stretch",
        "How images become squares: stretch, or center (the middle, 7/8 of the shorter side; for "
        "photographs). Training with inception crops has its own way.",
        choices=("stretch", "center"),
    )
    num_validation: int = setting(
        0,
        "Images held out of the training set to rank candidates; 0: 5,000 of CIFAR's, a tenth "
        "of others' (folder: and npz: a tenth of each class).",
        least=0,
    )

    @property
    def own(self) -> bool:
        """Whether the data set may be of any size: the user's own, or the digits."""
        return self.dataset == "digits" or self.dataset.startswith(("folder:", "npz:"))


@dataclasses.dataclass(frozen=True)
class ModelSettings(Settings):
    """The one-shot model."""

    num_cells: int = setting(
        6, "Cells in the stack (the paper's: 6 for CIFAR-10).", least=1, most=64
    )
    filters: int = setting(
        16, "Channels of the first convolution (the paper's F).", least=1, most=4096
    )
    num_blocks: int = setting(4, "Choice blocks in a cell (the paper's N_choice).", least=1, most=8)
    num_reductions: int = setting(
        -1,
        "How often, along the cells, height and width are halved and the channels doubled "
        "(2 for 32x32 images, 3 for 224x224): at most --num_cells less one. -1: 2, or as many as "
        "the cells allow.",
        least=-1,
        most=6,
    )
    stem_stride: int = setting(
        1,
        "By what the stem divides height and width before the first cell: 1, 2 or 4 (1 for 32x32 "
        "images, 4 for 224x224).",
        choices=(1, 2, 4),
    )

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "num_reductions", self.stack().num_reductions)

    @classmethod
    def from_stored(cls, values: dict) -> "ModelSettings":
        """As `Settings.from_stored`. Earlier versions kept more reductions than the cells allow.

        They made as many as there are cells after the first one, and so does this.
        """
        if isinstance(values.get("num_cells"), int) and "num_reductions" in values:
            most = max(0, values["num_cells"] - 1)
            values = {**values, "num_reductions": min(values["num_reductions"], most)}
        return super().from_stored(values)

    def stack(self, num_cells: int = 0, filters: int = 0) -> Stack:
        """What nets and `space.cost` take besides the space and the number of classes.

        Args:
            num_cells, filters: for a net of other sizes; 0 for those of the one-shot model. Fewer
                cells have as many of its reductions as they allow.
        """
        if num_cells or filters:
            values = {"num_cells": num_cells or self.num_cells, "filters": filters or self.filters}
            return self.from_stored({**self.to_dict(), **values}).stack()
        reductions = None if self.num_reductions == -1 else self.num_reductions
        return Stack(self.num_cells, self.filters, reductions, self.stem_stride)


@dataclasses.dataclass(frozen=True)
class TrainSettings(Settings):
    """How weights are trained, of the one-shot model and of stand-alone nets alike."""

    batch_size: int = setting(
        64,
        "Images in the global batch of a step. 0, in train and plan: the paper's 1,024, or "
        "fewer for a small data set of your own.",
        least=0,
    )
    ghost_batch_size: int = setting(
        32, "Images that share batch statistics and, in the one-shot model, dropped paths.", least=2
    )
    device_batch_size: int = setting(
        64,
        "Images that a device holds at once (the paper's worker: 64); the rest of its share of "
        "the batch follows in turns, with the same result.",
        least=1,
    )
    skip_paths: str = setting(
        "auto",
        "Whether a step of the one-shot model leaves out the paths that a ghost batch drops "
        "(always, one ghost batch after another), or computes and masks them (never), with the "
        "same result. auto: whichever is expected to be faster at that step, on this device.",
        choices=("auto", "always", "never"),
    )
    learning_rate: float = setting(0.1, "Initial learning rate.", above=0.0, most=100.0)
    learning_rate_schedule: str = setting(
        "auto",
        "constant; cosine: falls to 0 at the last step; cooldown: constant, then linear to 0 over "
        "the last tenth of the steps. auto: constant for the one-shot model, cosine for "
        "stand-alone nets.",
        choices=("auto", "constant", "cosine", "cooldown"),
    )
    momentum: float = setting(0.9, "Nesterov momentum.", least=0.0, below=1.0)
    weight_decay: float = setting(
        1e-4, "Factor of |w|^2 / 2, counted only while a weight is in use.", least=0.0, most=1.0
    )
    label_smoothing: float = setting(
        0.0, "Share of the target spread over all classes.", least=0.0, below=1.0
    )
    augmentation: str = setting(
        "crop_flip",
        "crop_flip (shifts by up to an eighth of the size, mirrored half of the time), crop, "
        "inception (parts of any place, size and shape, mirrored half of the time; needs "
        "--storage=files), none.",
        choices=("crop_flip", "crop", "inception", "none"),
    )

    def __post_init__(self):
        super().__post_init__()
        if self.batch_size % self.ghost_batch_size:
            raise InputError(
                f"--batch_size={self.batch_size}: needed is a multiple of "
                f"--ghost_batch_size={self.ghost_batch_size}."
            )


@dataclasses.dataclass(frozen=True)
class OneShotSettings(Settings):
    """What only the training of the one-shot model has."""

    train_steps: int = setting(
        10_000,
        "Steps of training. 0, in train and plan: the paper's 10,000, or 228 passes over a "
        "small data set of your own.",
        least=0,
    )
    drop_rate: float = setting(
        0.1,
        "The paper's r: the chance that a node loses all its paths. Each of the k paths that "
        "meet there is dropped at rate r^(1/k).",
        least=0.0,
        most=1.0,
    )
    track_architectures: int = setting(
        0,
        "Architectures whose divergence is followed while training, at each line of metrics.jsonl "
        "(the paper's figure 7: 6); see tracked.jsonl.",
        least=0,
        most=1000,
    )
    drop_schedule: str = setting(
        "linear",
        "linear (rates rise from 0 over the training) or constant.",
        choices=("linear", "constant"),
    )
    seed: int = setting(
        0, "Of weights, dropped paths, data order and augmentation.", least=0, most=2**31 - 1
    )


@dataclasses.dataclass(frozen=True)
class RetrainSettings(Settings):
    """Which architectures are trained alone, and how."""

    select: str = setting(
        "top",
        "top (a stratified sample of --count from the best --top), small (the --count smallest "
        "above --percentile of candidate accuracy), random, stratified (--count over the whole "
        "range of candidate accuracy, four from each bucket), all_on.",
        choices=("top", "small", "random", "stratified", "all_on"),
    )
    architecture: str = setting("", "Train this architecture, given as text, instead of selecting.")
    top: int = setting(
        100, "The best candidates, from which --select=top takes its sample.", least=1
    )
    count: int = setting(10, "Architectures to train.", least=1)
    percentile: float = setting(
        90.0,
        "For --select=small: least candidate accuracy, as a percentile.",
        least=0.0,
        most=100.0,
    )
    filters: int = setting(
        0, "Channels of the first convolution; 0: as the one-shot model.", least=0, most=4096
    )
    num_cells: int = setting(
        0,
        "Cells in the stack; 0: as the one-shot model. Fewer cells have as many of its reductions "
        "as they allow.",
        least=0,
        most=64,
    )
    epochs: float = setting(300.0, "Passes over the training images.", above=0.0, most=100_000.0)
    repeats: int = setting(1, "Runs of each architecture, each with its own seed.", least=1)
    first_run: int = setting(
        0,
        "Number of the first run. Runs of the same selection and seed may be shared out over "
        "processes or days, each part under its own --name; analyze puts them together.",
        least=0,
        most=10_000,
    )
    evaluate_on: str = setting(
        "test",
        "test (trains on training and validation images; the test images are read once, at the "
        "end) or validation (trains on the training images).",
        choices=("test", "validation"),
    )
    name: str = setting("", "Sub-folder of RUN_DIR/retrain; empty: named after the selection.")
    seed: int = setting(
        0, "Of the selection, weights, data order and augmentation.", least=0, most=2**31 - 1
    )
