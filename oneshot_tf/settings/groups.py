"""Settings that several programs share. The other settings are in the file of their program."""

import dataclasses

from oneshot_tf.settings.setting import Settings, setting
from oneshot_tf.system.errors import InputError

_SEEDS = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class RunSettings(Settings):
    """Run directory."""

    run_dir: str = setting(
        "",
        "Folder for all files of the run. Required.",
        affects_results=False,
        common=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.run_dir:
            raise InputError("--run_dir is missing. Set it, for example --run_dir=runs/1.")


@dataclasses.dataclass(frozen=True)
class DistributionSettings(Settings):
    """Devices."""

    distribution: str = setting(
        "auto",
        "Devices to use. auto: the GPUs of this machine, or the CPU if there are none. cpu: the "
        "CPU. mirrored: all GPUs of this machine. multi_worker: the workers in the environment "
        "variable TF_CONFIG. They must share --run_dir. tpu: the TPU of this machine.",
        choices=("auto", "cpu", "mirrored", "multi_worker", "tpu"),
        affects_results=False,
        common=True,
    )
    threads: int = setting(
        0,
        "Number of CPU threads for one operation. With the same number, results agree to the bit "
        "on the same processor, with any number of cores. 0: one thread per core, or the "
        "number that the run began with.",
        least=0,
        most=1024,
        affects_results=False,
    )


@dataclasses.dataclass(frozen=True)
class DeviceSettings(DistributionSettings):
    """Devices, logs and checkpoints.

    Example:

        >>> DeviceSettings(mixed_precision=True).dtype
        'mixed_bfloat16'
    """

    mixed_precision: bool = setting(
        False, "Compute in bfloat16. Variables, batch statistics and the loss stay float32."
    )
    log_steps: int = setting(
        50, "Training steps between two lines of metrics.jsonl.", least=1, affects_results=False
    )
    checkpoint_steps: int = setting(
        500, "Training steps between two checkpoints.", least=1, affects_results=False
    )
    keep_checkpoints: int = setting(
        3,
        "Number of checkpoints to keep. Training resumes from the newest undamaged one.",
        least=1,
        affects_results=False,
    )
    nan_policy: str = setting(
        "stop",
        "What to do if the loss is not finite. stop: end with an explanation. rollback: return to "
        "the last checkpoint, and continue with another data order and half the learning rate.",
        choices=("stop", "rollback"),
        affects_results=False,
    )
    max_rollbacks: int = setting(
        3,
        "Largest number of rollbacks in a training. After that, it stops.",
        least=1,
        most=20,
        affects_results=False,
    )

    @property
    def dtype(self) -> str:
        """The Keras dtype policy."""
        return "mixed_bfloat16" if self.mixed_precision else "float32"


@dataclasses.dataclass(frozen=True)
class LocationSettings(Settings):
    """Location of the data."""

    data_dir: str = setting(
        "",
        "Folder of data sets prepared by TensorFlow Datasets. Empty: ~/tensorflow_datasets. If "
        "your own data (folder:PATH or npz:FILE) moved after training, give its new path.",
        affects_results=False,
    )
    download: bool = setting(
        True, "Download and prepare the data set if it is missing.", affects_results=False
    )


@dataclasses.dataclass(frozen=True)
class DataSettings(LocationSettings):
    """Data."""

    skip_bad_images: bool = setting(
        False,
        "Skip images that cannot be decoded or whose label is out of range. Without this flag, "
        "the program stops at them. It always prints their number and the first few names.",
    )

    dataset: str = setting(
        "cifar10",
        "Data set. cifar10, cifar100 or another name: an image classification data set of "
        "TensorFlow Datasets. digits: the handwritten digits of scikit-learn, which need no "
        "download. noisy_digits: these digits, turned, scaled, shifted and with noise. "
        "folder:PATH: your images, in one folder per class, or in folders train, val and test "
        "with one folder per class each. npz:FILE: a NumPy file with the arrays train_images, "
        "train_labels, test_images and test_labels.",
        common=True,
    )
    image_size: int = setting(
        0,
        "Height and width to which all images are resized, in pixels. 0: keep the size of the "
        "images; use 32 for folder:PATH and for images of several sizes.",
        least=0,
        most=1024,
        common=True,
    )
    storage: str = setting(
        "memory",
        "Where training images are kept. memory: all images are decoded once and kept in memory. "
        "files: they stay on disk and are decoded in each step, for data larger than memory.",
        choices=("memory", "files"),
    )
    fit: str = setting(
        "stretch",
        "How to make images square. stretch: stretch them. center: cut out the middle, a square of "
        "7/8 of the shorter side. --augmentation=inception trains on random crops instead.",
        choices=("stretch", "center"),
    )
    num_validation: int = setting(
        0,
        "Number of training images to hold out for ranking candidates, as validation images. 0: "
        "5,000 for CIFAR, and a tenth otherwise (for folder: and npz:, of each class).",
        least=0,
    )

    @property
    def own(self) -> bool:
        """Whether the data set may have any size: the user's own data, or the digits."""
        digits = self.dataset in ("digits", "noisy_digits")
        return digits or self.dataset.startswith(("folder:", "npz:"))


@dataclasses.dataclass(frozen=True)
class TrainSettings(Settings):
    """Training of the one-shot model and of stand-alone models.

    Example:

        >>> TrainSettings(batch_size=128, learning_rate=0.05).ghost_batch_size
        32
    """

    batch_size: int = setting(
        64,
        "Number of images in a training step, over all devices. 0 (train and plan only): the "
        "paper's 1,024, or fewer for a small data set of your own.",
        least=0,
        common=True,
    )
    ghost_batch_size: int = setting(
        32,
        "Number of images in a ghost batch. A batch is divided into ghost batches. The images of "
        "one share their batch statistics and, in the one-shot model, their dropped paths.",
        least=2,
    )
    device_batch_size: int = setting(
        64,
        "Largest number of images that a device computes at once (a micro-batch). Gradient "
        "accumulation makes larger batches possible, with the same result. The paper uses 64.",
        least=1,
        affects_results=False,
    )
    skip_paths: str = setting(
        "auto",
        "How a training step handles dropped paths. always: skip them, ghost batch by ghost "
        "batch. never: compute all paths and mask the dropped ones. auto: whichever should be "
        "faster. The result is the same except for rounding.",
        choices=("auto", "always", "never"),
        affects_results=False,
    )
    learning_rate: float = setting(
        0.1, "Initial learning rate.", above=0.0, most=100.0, common=True
    )
    learning_rate_schedule: str = setting(
        "auto",
        "Learning rate over the training. constant: stays the same. cosine: falls to 0 along a "
        "cosine. cooldown: stays the same, then falls linearly to 0 in the last tenth of the "
        "steps. auto: constant for the one-shot model, cosine for stand-alone models.",
        choices=("auto", "constant", "cosine", "cooldown"),
    )
    momentum: float = setting(0.9, "Nesterov momentum of the optimizer.", least=0.0, below=1.0)
    weight_decay: float = setting(
        1e-4,
        "Factor of the L2 loss, |w|^2 / 2. The weights of dropped paths do not count.",
        least=0.0,
        most=1.0,
    )
    global_clipnorm: float = setting(
        0.0,
        "Largest norm of the gradient of all weights together, L2 included. A larger gradient is "
        "scaled down to it. 0: no limit.",
        least=0.0,
        added=True,
    )
    label_smoothing: float = setting(
        0.0, "Share of the target to spread evenly over all classes.", least=0.0, below=1.0
    )
    augmentation: str = setting(
        "crop_flip",
        "Augmentation of the training images. crop_flip: shift each image by up to an eighth of "
        "its size, and mirror half of the images. crop: only shift. flip: only mirror. inception: "
        "take a crop of random position, size and shape, and mirror half of the images; needs "
        "--storage=files. none: leave the images unchanged.",
        choices=("crop_flip", "crop", "flip", "inception", "none"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.ghost_batch_size:
            raise InputError(
                f"--batch_size must be a multiple of --ghost_batch_size={self.ghost_batch_size}; "
                f"got {self.batch_size}."
            )


@dataclasses.dataclass(frozen=True)
class OneShotSettings(Settings):
    """Training of the one-shot model."""

    train_steps: int = setting(
        10_000,
        "Number of training steps. 0 (train and plan only): the paper's 10,000, or 228 passes over "
        "a small data set of your own.",
        least=0,
        common=True,
    )
    track_architectures: int = setting(
        0,
        "Number of architectures to track in training. tracked.jsonl gets their KL divergence from "
        "the model with nearly all paths on, as in figure 7 of the paper (6 architectures).",
        least=0,
        most=1000,
        affects_results=False,
    )
    seed: int = setting(
        0,
        "Random seed for weights, dropped paths, data order and augmentation.",
        least=0,
        most=_SEEDS,
    )
