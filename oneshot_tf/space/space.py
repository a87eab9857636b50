"""What every search space offers: decisions, and masks <-> architectures.

A *path* is a part of the one-shot model that can be kept or dropped. `masks` (float32 `[A, P]`, one
column per path) is the only interface between the strategies, which decide, and the models, which
compute.
"""

import abc
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.decisions import Decision, Genes, count, sample
from oneshot_tf.system.errors import InputError


class Space(abc.ABC):
    """A search space. Spaces are hashable, and equal ones have equal `to_dict`.

    Attributes:
        part: What a model consists of, in words: "cell" or "layer".
    """

    part: ClassVar[str]

    @property
    @abc.abstractmethod
    def num_paths(self) -> int:
        """P, the number of paths."""

    @property
    @abc.abstractmethod
    def decisions(self) -> tuple[Decision, ...]:
        """What an architecture decides, in order."""

    @property
    def num_architectures(self) -> int:
        """The number of architectures, each twin counted."""
        return count(self.decisions)

    @property
    def num_distinct(self) -> int:
        """The number of architectures if twins count once; see `canonical`."""
        return self.num_architectures

    @abc.abstractmethod
    def genes(self, architecture: Architecture) -> Genes:
        """Returns the option of each decision that an architecture takes.

        Raises:
            InputError: It is not a member of this space.
        """

    @abc.abstractmethod
    def architecture(self, genes: Genes) -> Architecture:
        """Returns the architecture that takes these options. It is the inverse of `genes`."""

    @abc.abstractmethod
    def all_on(self) -> Architecture:
        """Returns All On, the baseline with every path (table 1). It is not a member."""

    @abc.abstractmethod
    def masks(self, architectures: Iterable[Architecture]) -> np.ndarray:
        """Returns the paths of architectures as float32 `[A, P]`: 1 is used, 0 is not.

        It takes All On too.

        Raises:
            InputError: The space has no such paths.
        """

    @abc.abstractmethod
    def architectures(self, masks: np.ndarray) -> list[Architecture]:
        """Returns the architectures of binary masks `[A, P]`. It is the inverse of `masks`.

        Raises:
            InputError: The masks have another shape, are not binary, or are of no architecture.
        """

    @abc.abstractmethod
    def check(self, architecture: Architecture) -> None:
        """Checks that an architecture is a member of this space.

        Raises:
            InputError: It is not a member. The message says why.
        """

    @abc.abstractmethod
    def parameter_free(self, architecture: Architecture) -> float:
        """Returns the share of the operations of an architecture that have no parameters."""

    @abc.abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Returns plain values. `space.kinds.from_dict` makes the space again from them."""

    def canonical(self, architecture: Architecture) -> Architecture:
        """Returns the form that an architecture shares with its twins, and with no others.

        Twins are the same stand-alone model. By default, an architecture has no twins.
        """
        return architecture

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Samples an architecture, uniformly: each decision draws from its options."""
        return self.architecture(sample(self.decisions, rng))

    def parse(self, text: str) -> Architecture:
        """Returns the architecture of this space that a text describes.

        Raises:
            InputError: The text has another form, or the space has no such architecture.
        """
        architecture = Architecture.from_text(text)
        self.check(architecture)
        return architecture

    def least_image_size(self, stem_stride: int) -> int:
        """Returns the least height and width in pixels that every layer can work on."""
        return 1

    def check_image_size(self, size: int, stem_stride: int) -> None:
        """Checks that images have at least one pixel in every layer.

        Args:
            size: Height or width in pixels.
            stem_stride: The factor by which the stem divides it.

        Raises:
            InputError: They are too small.
        """
        least = self.least_image_size(stem_stride)
        if size < least:
            raise InputError(
                f"Images of {size}x{size} pixels are too small for this space, which divides "
                f"height and width by {least}. They must have at least {least} pixels. Give a "
                "larger --image_size, a smaller --stem_stride, or another --space."
            )

    def allows(self, architecture: Architecture) -> bool:
        """Returns True: the whole space has no limits. `LimitedSpace` has."""
        return True

    def _check_masks(self, masks: np.ndarray) -> np.ndarray:
        """Returns masks as an array, after a check of their shape and values."""
        masks = np.asarray(masks)
        if masks.ndim != 2 or masks.shape[1] != self.num_paths:
            raise InputError(
                f"`masks` must have the shape [A, {self.num_paths}]; got {masks.shape}."
            )
        if not np.isin(masks, (0, 1)).all():
            raise InputError(
                "`masks` must hold only 0 and 1; got other values, which no architecture has."
            )
        return masks
