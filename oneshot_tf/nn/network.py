"""Stem, stacked cells and classifier. One-shot and stand-alone models share this module."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from oneshot_tf.cost.counts import usage
from oneshot_tf.nn.cells import Cells
from oneshot_tf.nn.chain import ChainBody
from oneshot_tf.nn.ghost_batch_norm import check_policy
from oneshot_tf.nn.operations import BnReluConvs, Conv, LayerFactory
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.chain_space import ChainSpace
from oneshot_tf.space.kinds import from_dict, num_units
from oneshot_tf.space.space import Space
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError, short

_BODIES: dict[type[Space], Any] = {CellSpace: Cells, ChainSpace: ChainBody}


class Network(keras.Model):
    """Stem, body and classifier, with all units or with those of one architecture.

    This is a base class. `Supernet` builds every unit, and `Standalone` builds the units of one
    architecture. All variables exist once the constructor returns.

    Args:
        space: The search space.
        stack: The sizes: the number of cells, their width, the places of the reductions, and the
            stride of the stem. Of these, a chain has the width and the stride.
        architecture: The architecture whose units are built, with moving averages. None builds all
            units, without moving averages.
        num_classes: K, at least 2.
        seed: Seed of the initial weights, at least 0.
        dtype: A Keras dtype policy with float32 variables. None takes Keras's global policy.
        **kwargs: `name` and `trainable`, as in every Keras model.

    Raises:
        InputError: A value has a wrong type or is out of its range.
    """

    def __init__(
        self,
        space: Space,
        stack: Stack,
        architecture: Architecture | None,
        num_classes: int,
        seed: int,
        dtype: Any,
        **kwargs: Any,
    ):
        trainable = kwargs.pop("trainable", True)
        super().__init__(dtype=dtype, **kwargs)
        check_policy(self.dtype_policy)
        if not isinstance(stack, Stack):
            raise InputError(f"`stack` must be a Stack, e.g. Stack(num_cells=6); got {stack!r}.")
        for name, value, least in (("num_classes", num_classes, 2), ("seed", seed, 0)):
            if not isinstance(value, (int, np.integer)) or value < least:
                raise InputError(
                    f"`{name}` must be a whole number of at least {least}; got {value!r}."
                )
        self.space, self.stack = space, stack
        self.num_classes, self.seed = int(num_classes), int(seed)
        moving_averages = architecture is not None
        factory = LayerFactory(moving_averages, self.dtype_policy.name, np.random.default_rng(seed))
        units = np.ones(num_units(space, stack.num_cells), bool)
        if architecture is not None:
            units = usage(space, stack.num_cells, [architecture])[0] > 0
        self._stem_unit = len(units) - 2

        self.stem = _Stem(factory, stack.filters, stack.stem_stride, name="stem")
        self.body = _BODIES[type(space)](factory, space, stack, units)
        self.cells = self.body.layers  # the files of Keras name the layers by this attribute
        features = self.body.features
        self.last_norm = factory.batch_norm("last_bn")
        self.last_norm.build((None, None, None, features))
        self.classifier = keras.layers.Dense(
            num_classes,
            dtype="float32",
            kernel_initializer=keras.initializers.VarianceScaling(
                1.0, "fan_in", seed=int(factory.rng.integers(2**31))
            ),
            name="classifier",
        )
        self.classifier.build((None, features))
        self.trainable = trainable
        self.build((None, None, None, 3))

    def build(self, input_shape: tuple):
        """Creates nothing. Keras records the shape here, for `summary`, saving and export."""

    @property
    def kernels(self) -> list[keras.Variable]:
        """The variables under L2 regularisation: all convolutions and the classifier's weights."""
        return [variable for variable, _ in self._kernels()]

    @property
    def kernel_units(self) -> list[int]:
        """The unit of each of `kernels`; see `space.stacking`."""
        return [unit for _, unit in self._kernels()]

    def _kernels(self) -> list[tuple[keras.Variable, int]]:
        stem = [(kernel, self._stem_unit) for kernel in self.stem.kernels]
        return [*stem, *self.body.kernels(), (self.classifier.kernel, self._stem_unit + 1)]

    def get_config(self) -> dict:
        """Returns plain values. `from_config` makes the same untrained model from them."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": self.dtype_policy.name,
            "space": self.space.to_dict(),
            "stack": dataclasses.asdict(self.stack),
            "num_classes": self.num_classes,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: Any = None):
        """Returns the untrained model that `get_config` describes.

        Raises:
            InputError: `config` lacks a value, or a value is wrong.
        """
        del custom_objects  # a config holds only numbers and strings
        config = dict(config)
        try:
            config["space"] = from_dict(config["space"])
            config["stack"] = Stack(**config["stack"])
            if "architecture" in config:
                config["architecture"] = Architecture.from_text(config["architecture"])
            if not isinstance(config["dtype"], str):
                raise InputError(f"`dtype` must be a string; got {short(config['dtype'])}.")
            return cls(**config)
        except InputError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"The configuration of a {cls.__name__} must come from `get_config`; got "
                f"{short(config)} ({type(error).__name__}: {error})."
            ) from None

    def stem_of(
        self,
        images: tf.Tensor,
        num_ghosts: int,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        """Returns the stem's output `[B, h, w, F]`. All architectures share it.

        Raises:
            InputError: `images` are not `[B, H, W, 3]`, or too small for the space.
        """
        if len(images.shape) != 4 or images.shape[-1] != 3:
            raise InputError(
                f"`images` must have the shape [B, H, W, 3]; got {list(images.shape)}. Give one "
                "image as a batch of one, and a grey image three equal channels."
            )
        if None not in images.shape[1:3]:
            self.space.check_image_size(min(images.shape[1:3]), self.stack.stem_stride)
        images = tf.cast(images, self.compute_dtype)
        return self.stem(images, num_ghosts=num_ghosts, training=training, micro_batch=micro_batch)

    def _logits(
        self,
        stem: tf.Tensor,
        paths: Any,
        num_ghosts: int,
        training: bool,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        """Returns the logits, float32 `[B, K]`, for the stem's output `[B, H, W, F]`."""
        return dict(self._outputs(stem, paths, num_ghosts, training, micro_batch))["classifier"]

    def _outputs(
        self,
        stem: tf.Tensor,
        paths: Any,
        num_ghosts: int,
        training: bool,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        """Yields name and output of the stem, of the parts of the body, and of the classifier."""
        yield "stem", stem
        context = {"num_ghosts": num_ghosts, "training": training, "micro_batch": micro_batch}
        x = stem
        for name, x in self.body.outputs(stem, paths, context):
            yield name, x
        x = tf.nn.relu(self.last_norm(x, **context))
        yield "classifier", self.classifier(tf.reduce_mean(tf.cast(x, tf.float32), axis=[1, 2]))


class _Stem(keras.layers.Layer):
    """The stem: a 3x3 convolution. With stride 4, BN-ReLU and a second one follow."""

    def __init__(self, factory: LayerFactory, filters: int, stride: int, name: str):
        super().__init__(dtype=factory.dtype, name=name)
        self.conv = Conv(factory, filters, (3, 3), stride=min(stride, 2), name=name)
        self.conv.build((None, None, None, 3))
        self.filters, self.stride, self.second = filters, stride, None
        if stride == 4:
            conv = Conv(factory, filters, (3, 3), stride=2, name=f"{name}2")
            self.second = BnReluConvs(factory, [conv], name=f"{name}2")
            self.second.build((None, None, None, filters))
        self.build((None, None, None, 3))

    def build(self, input_shape: tuple):
        """Creates nothing. Keras records the shape here."""

    def compute_output_shape(self, input_shape: tuple):
        sizes = [n and -(-n // self.stride) for n in input_shape[1:3]]
        return (input_shape[0], *sizes, self.filters)

    @property
    def kernels(self) -> list:
        convs: list[Any] = [self.conv] if self.second is None else [self.conv, *self.second.convs]
        return [conv.kernel for conv in convs]

    def call(
        self,
        images: tf.Tensor,
        num_ghosts: int = 1,
        training: bool = False,
        micro_batch: tf.Tensor | tuple[int, int] = (0, 1),
    ):
        x = self.conv(images)
        if self.second is None:
            return x
        return self.second(x, num_ghosts=num_ghosts, training=training, micro_batch=micro_batch)
