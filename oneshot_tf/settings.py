"""All settings, as frozen dataclasses: each is written once, here, and becomes a flag.

A field's metadata holds its help text and its range, checked on construction,
so that a program and a line of Python get the same message. `config.py` turns
the fields into flags; nothing else knows of flags.
"""

import dataclasses
import math

from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError

_LARGEST = 2**31 - 1  # numbers of steps are int32 in the graph


def setting(default, help, *, least=None, most=None, above=None, below=None, choices=None):
    """A dataclass field with its help text and range (bounds inclusive but `above` and `below`)."""
    bounds = {"least": least, "most": most, "above": above, "below": below, "choices": choices}
    return dataclasses.field(default=default, metadata={"help": help, **bounds})


class Settings:
    """Checks every field against its range. Subclasses are frozen dataclasses."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            self._check(field.name, value, field.metadata)
            if isinstance(value, str) and not value.isprintable():
                raise InputError(f"--{field.name}={value!r}: needed are printable characters.")
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"--{field.name}={value}: needed is a finite number.")
            if field.type is int and not isinstance(value, bool) and value > _LARGEST:
                raise InputError(f"--{field.name}={value}: needed is at most {_LARGEST}.")

    def _check(self, name, value, bounds):
        tests = {
            "least": (lambda bound: value >= bound, "at least {}"),
            "most": (lambda bound: value <= bound, "at most {}"),
            "above": (lambda bound: value > bound, "above {}"),
            "below": (lambda bound: value < bound, "below {}"),
            "choices": (lambda bound: value in bound, "one of {}"),
        }
        for kind, (holds, words) in tests.items():
            bound = bounds.get(kind)
            if bound is not None and not holds(bound):  # NaN fails every bound
                shown = ", ".join(map(str, bound)) if kind == "choices" else bound
                raise InputError(f"--{name}={value}: needed is {words.format(shown)}.")

    @classmethod
    def from_stored(cls, values: dict):
        """The settings of a file that a run keeps, an earlier version's too."""
        return cls(**values)

    def to_dict(self) -> dict:
        """Field names and values."""
        return dataclasses.asdict(self)


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
class SearchSettings(Settings):
    """Which candidates, how many."""

    num_candidates: int = setting(20_000, "Candidates in candidates.csv when done.", least=1)
    budget: str = setting(
        "full",
        "full (every candidate on all validation images, as in the paper) or race (candidates "
        "that can't be among the best --finalists any more stop early).",
        choices=("full", "race"),
    )
    rank_by: str = setting(
        "accuracy",
        "accuracy, or kl: first by how much a candidate's predictions differ from those with "
        "nearly all paths on, for 64 training images without their labels (section 5); then "
        "the best --finalists by accuracy.",
        choices=("accuracy", "kl"),
    )
    finalists: int = setting(
        100,
        "With --budget=race or --rank_by=kl: how many of the best are wanted, and measured on "
        "all validation images; 0 with kl: none, no labels are read.",
        least=0,
    )
    race_confidence: float = setting(
        0.9,
        "With --budget=race: what share of the true best --finalists is expected to be measured "
        "on all images in the end. The race estimates it from the candidates themselves; it is "
        "an average over races, not a promise for one. More costs more.",
        above=0.5,
        below=1.0,
    )
    max_memory_gb: float = setting(
        0.0,
        "Memory that activations may take, in 10^9 bytes; 0: half of what is free.",
        least=0.0,
    )
    seed: int = setting(0, "Of the sampled architectures.", least=0, most=2**31 - 1)
    skip_twins: bool = setting(
        True,
        "Evaluate one of several architectures that are the same stand-alone net, which differ in "
        "the order of blocks that do not read each other.",
    )
    trained_in: str = setting(
        "",
        "Another run directory: evaluate the architectures that were trained alone there, and no "
        "others, to compare one-shot models.",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.budget == "race" and self.rank_by == "kl":
            raise InputError("--budget=race races by accuracy; give it or --rank_by=kl, not both.")
        if self.budget == "race" and self.finalists < 1:
            raise InputError(f"--finalists={self.finalists}; a race needs at least 1.")


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


@dataclasses.dataclass(frozen=True)
class ExportSettings(Settings):
    """What is exported, and where to."""

    net: str = setting(
        "",
        "Folder of a trained net below RUN_DIR/retrain; empty: of those evaluated on test images "
        "the one with the best rank among the candidates (of equals, the largest), else the one "
        "with the best validation accuracy.",
    )
    export_dir: str = setting("", "Folder of the SavedModel; empty: RUN_DIR/export.")
    class_names: str = setting(
        "",
        "File (UTF-8) with what to call the classes, a line each: its name in the data set, a "
        "space or a tab, and what to call it, such as 'n01440764 tench'; empty: the data set's "
        "names.",
    )


@dataclasses.dataclass(frozen=True)
class PredictSettings(Settings):
    """Which model, and what is printed."""

    saved_model: str = setting("", "Folder of the SavedModel, as export writes it.")
    top: int = setting(5, "How many classes to print for an image, the likeliest first.", least=1)
    json: bool = setting(
        False,
        "Print a line of JSON an image: its name as `image`, and as `classes` a list of objects "
        "with `name` and `probability`.",
    )


@dataclasses.dataclass(frozen=True)
class ReproduceSettings(Settings):
    """Which experiment of the paper, and at what size."""

    experiment: str = setting(
        "figure5",
        "figure4 (one-shot models of several constant rates), figure5 (candidate against "
        "stand-alone accuracy), figure6 (accuracy against divergence), figure7 (divergence over "
        "training), table1 (selections of nets, at each F), table2 (the same, for ImageNet).",
        choices=("figure4", "figure5", "figure6", "figure7", "table1", "table2"),
    )
    train_flags: str = setting("cifar.flags", "Flag file of the one-shot model's training.")
    train_steps: int = setting(0, "Its steps; 0: what the flag file says.", least=0)
    retrain_flags: str = setting(
        "cifar_retrain_28.flags", "Flag file of the stand-alone nets' training."
    )
    epochs: float = setting(0.0, "Its epochs; 0: what the flag file says.", least=0.0)
    repeats: int = setting(5, "Runs of each stand-alone net.", least=1)
    num_candidates: int = setting(20_000, "Candidates of the search.", least=1)
    count: int = setting(32, "Nets to train alone (tables: for each row and F).", least=1)
    top: int = setting(100, "For tables: the best candidates that the row Top is of.", least=1)
    rates: str = setting("1e-6,0.01,0.3", "For figure 4: dropout rates, separated by commas.")
    filters: str = setting("16,32,64,128", "For tables: F, separated by commas.")
    rows: str = setting(
        "top,small,random,all_on",
        "For tables: rows, separated by commas. They may be filled on different days and machines: "
        "each is a folder of RUN_DIR/one_shot/retrain, which may be copied from elsewhere.",
    )


@dataclasses.dataclass(frozen=True)
class PlanSettings(Settings):
    """For which machine."""

    topology: str = setting(
        "v5e:2x4",
        "Machines, separated by commas: a TPU's kind and chips (v2, v3, v4, v5e, v5p, v6e: "
        "v5e:2x4, v4:2x2x1), GPUs (gpu:a100, gpu:h100, gpu:h200, gpu:h200x8) or cpu. For GPUs and "
        "the CPU there is no least time, and memory is what XLA's analysis for a CPU says.",
    )
    num_classes: int = setting(
        0, "Classes, for a data set that isn't read for this; 0: known by its name.", least=0
    )


_TUNABLE = ("drop_rate", "learning_rate", "weight_decay", "drop_schedule", "learning_rate_schedule")


@dataclasses.dataclass(frozen=True)
class TuneSettings(Settings):
    """What is tuned, how, and towards what."""

    tuner: str = setting(
        "random",
        "random, hyperband (70 trials, most of them short, together as long as 17 whole ones; "
        "--max_trials doesn't count), bayesian.",
        choices=("random", "hyperband", "bayesian"),
    )
    max_trials: int = setting(12, "Trials, each a training of --train_steps.", least=1)
    tune: str = setting(
        "drop_rate", f"What is tuned, separated by commas, of {', '.join(_TUNABLE)}."
    )
    objective: str = setting(
        "top",
        "top (mean accuracy, with the shared weights, of the best --top of --num_candidates), rank "
        "(Spearman of candidate with stand-alone accuracy, over the stand-alone nets of --of_run), "
        "stand_alone (validation accuracy of the best candidate of --of_run, trained alone: the "
        "final nets' settings, section 3.4).",
        choices=("top", "rank", "stand_alone"),
    )
    num_candidates: int = setting(100, "For --objective=top: candidates in a trial.", least=1)
    top: int = setting(10, "For --objective=top: how many of them count.", least=1)
    of_run: str = setting(
        "", "For rank and stand_alone: a run directory of the same data and space."
    )
    drop_rate_range: str = setting("1e-6,0.5", "From and to, drawn uniformly in the logarithm.")
    learning_rate_range: str = setting("0.01,0.5", "From and to, likewise.")
    weight_decay_range: str = setting("1e-5,1e-3", "From and to, likewise.")

    def __post_init__(self):
        super().__post_init__()
        if self.top > self.num_candidates:
            raise InputError(
                f"--top={self.top} of --num_candidates={self.num_candidates}; give fewer, or more."
            )
        self.names()
        for name in ("drop_rate", "learning_rate", "weight_decay"):
            self.range_of(name)

    def names(self) -> list[str]:
        """What is tuned."""
        names = [name.strip() for name in self.tune.split(",")]
        wrong = [name for name in names if name not in _TUNABLE]
        if wrong or len(set(names)) < len(names):
            raise InputError(f"--tune={self.tune}: needed are some of {', '.join(_TUNABLE)}.")
        unused = [name for name in names if name.startswith("drop")]
        if self.objective == "stand_alone" and unused:
            raise InputError(
                f"--tune={self.tune}: a stand-alone net has no {unused[0]}; leave it out."
            )
        return names

    def range_of(self, name: str) -> tuple[float, float]:
        """From and to."""
        text, most = getattr(self, f"{name}_range"), 100.0 if name == "learning_rate" else 1.0
        try:
            low, high = map(float, text.split(","))
        except ValueError:
            low = high = 0.0
        if not 0 < low < high <= most:
            raise InputError(
                f"--{name}_range={text}: needed are two numbers FROM,TO above 0 and up to {most:g}."
            )
        return low, high


@dataclasses.dataclass(frozen=True)
class AnalyzeSettings(Settings):
    """What is reported."""

    compare: str = setting(
        "",
        "More run directories, separated by commas: other one-shot models of the same data and "
        "space, whose candidates are compared with the same stand-alone nets (figure 4).",
    )
    only: str = setting(
        "",
        "Folders of RUN_DIR/retrain, separated by commas: the ranking is reported for their nets "
        "alone; empty: for all.",
    )
    resamples: int = setting(1000, "Of the bootstrap behind each interval.", least=100, most=10**6)
    top: int = setting(0, "k of precision at k; 0: a quarter of the nets.", least=0)


@dataclasses.dataclass(frozen=True)
class DrawSettings(Settings):
    """What is drawn, and where to."""

    architecture: str = setting("", "The architecture, as text.")
    file: str = setting("cell.svg", "The SVG to write.")
