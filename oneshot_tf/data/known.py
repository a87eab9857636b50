"""Facts about data sets by name, for programs that do not read the images."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Known:
    """Facts about a data set.

    Args:
        num_classes: Number of classes.
        image_size: Height and width in pixels. For ImageNet, the size that the paper uses.
    """

    num_classes: int
    image_size: int


KNOWN = {
    "cifar10": Known(10, 32),
    "cifar100": Known(100, 32),
    "digits": Known(10, 8),
    "noisy_digits": Known(10, 12),
    "imagenet2012": Known(1000, 224),
}
