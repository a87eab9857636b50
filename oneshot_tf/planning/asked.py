"""Settings of `auto`."""

import dataclasses

from oneshot_tf.planning.budgets import NAMED, parse_budget
from oneshot_tf.settings import Settings, setting
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import user_path


@dataclasses.dataclass(frozen=True)
class AutoSettings(Settings):
    """Data, budget and result."""

    data: str = setting(
        "",
        "Folder of images with one subfolder per class, or any --dataset of train. Required.",
        common=True,
    )
    out: str = setting(
        "", "New folder for all files of the run. Required.", affects_results=False, common=True
    )
    budget: str = setting(
        "30m",
        "Time to spend, for example 30m, 2h or 1h30m. Or a length in passes over the data, which "
        f"does not depend on the machine: {', '.join(NAMED)}.",
        common=True,
    )
    format: str = setting(
        "saved_model,tflite", "Formats of the export; see export --help.", common=True
    )
    image_size: int = setting(
        0,
        "Height and width of the images in pixels. 0: chosen from the images and the budget.",
        least=0,
        most=1024,
    )
    num_cells: int = setting(0, "Number of cells. 0: chosen from the budget.", least=0, most=64)
    filters: int = setting(
        0, "Number of filters of the first convolution. 0: chosen from the budget.",
        least=0, most=4096,
    )  # fmt: skip
    augmentation: str = setting(
        "auto",
        "Augmentation of the training images, as in train. auto: crop, or crop_flip if the plain "
        "CNN classifies the validation images better with it.",
        choices=("auto", "crop_flip", "crop", "flip", "none"),
    )
    class_weights: str = setting(
        "auto",
        "balanced: all classes count the same in training and in the choice of the net. none: all "
        "images count the same. auto: balanced if the largest class has more than three times "
        "the images of the smallest one.",
        choices=("auto", "balanced", "none"),
    )
    skip_bad_images: bool = setting(False, "Skip images that cannot be decoded.")
    fit: str = setting(
        "stretch",
        "How to make images square. stretch: stretch them. center: cut out the middle.",
        choices=("stretch", "center"),
    )
    seed: int = setting(0, "Random seed.", least=0, most=2**31 - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, example in (("data", "my_photos"), ("out", "runs/mine")):
            if not getattr(self, name):
                raise InputError(f"--{name} is missing. Set it, for example --{name}={example}.")
        parse_budget(self.budget)

    @property
    def dataset(self) -> str:
        """The value for --dataset of train."""
        if ":" not in self.data and user_path(self.data).is_dir():
            return f"folder:{user_path(self.data).resolve()}"
        kind, colon, place = self.data.partition(":")
        if kind in ("folder", "npz") and colon:
            return f"{kind}:{user_path(place).resolve()}"
        return self.data
