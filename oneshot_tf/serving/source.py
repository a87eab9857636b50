"""What every converter starts from: the signature `fixed` of a SavedModel as a frozen graph.

In a frozen graph the weights are constants. So no converter can lose them or mistake them for
inputs.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from oneshot_tf.system.errors import InputError, plain

INPUT, OUTPUT = "images", "probabilities"


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A graph without variables. Its input is called `images` and its output `probabilities`.

    Args:
        graph: The graph, a GraphDef without functions.
        shape: Shape of the input. None stands for any number of images.
        dtype: Type of the input.
    """

    graph: Any
    shape: tuple[int | None, ...]
    dtype: tf.DType


class Graphs(Protocol):
    """What the converters need of a net, or of a part of it."""

    calibration: np.ndarray | None

    def frozen(self, batch: int | None = None, floats: bool = False) -> Frozen:
        """Returns the graph; see `Source.frozen`."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A trained net, for converters.

    Args:
        net: The `Standalone`.
        preprocessing: The `Preprocessing` of the net, or a `Dataset`.
        saved_model: Folder of its finished SavedModel.
        input_size: Height and width of the images that the exported files take. None: images of
            the size of the training, to which nothing is done before normalisation.
        calibration: Training images for quantisation, uint8 `[n, h, w, 3]` of the size that the
            exported files take. None if no format needs them.
    """

    net: Any
    preprocessing: Any
    saved_model: pathlib.Path
    input_size: tuple[int, int] | None = None
    calibration: np.ndarray | None = None
    _graphs: dict[tuple[int | None, bool], Frozen] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def _fixed(self) -> Any:
        model = tf.saved_model.load(str(self.saved_model))
        return model, model.signatures["fixed"]  # the signature does not keep the model alive

    def frozen(self, batch: int | None = None, floats: bool = False) -> Frozen:
        """Returns the frozen graph of the signature `fixed`.

        Sums of several tensors are written as sums of two, because TensorFlow Lite cannot quantise
        others.

        Args:
            batch: Number of images. None: any number.
            floats: Whether the graph takes float32 images from 0 to 255 instead of uint8 images.
                Such a graph does not round resized images, because quantisation rounds them too.
        """
        if (batch, floats) not in self._graphs:  # freezing takes seconds
            self._graphs[batch, floats] = self._freeze(batch, floats)
        return self._graphs[batch, floats]

    def _freeze(self, batch: int | None, floats: bool) -> Frozen:
        _, fixed = self._fixed
        shape = (batch, *fixed.structured_input_signature[1][INPUT].shape[1:])
        return freeze(lambda images: fixed(images=images)[OUTPUT], shape, tf.uint8, floats)


def freeze(
    function: Callable[[tf.Tensor], tf.Tensor],
    shape: tuple[int | None, ...],
    dtype: tf.DType,
    floats: bool = False,
) -> Frozen:
    """Returns the frozen graph of a function.

    Args:
        function: Maps a tensor to a float32 tensor. It may use variables.
        shape: Shape of its input.
        dtype: Type of its input.
        floats: As in `Source.frozen`.
    """
    with tf.device("/cpu:0"):
        traced = tf.function(function, autograph=False)
        concrete = traced.get_concrete_function(tf.TensorSpec(shape, dtype, INPUT))
        concrete = convert_variables_to_constants_v2(concrete)
    given = concrete.graph.as_graph_def()
    output = concrete.outputs[0].op.name
    graph = tf.compat.v1.GraphDef(versions=given.versions)
    for node in given.node:
        node.device = ""
        graph.node.extend(_rewritten(node, floats))
    if given.library.function:
        raise InputError("The net has control flow, so it cannot be converted.")
    result = graph.node.add(name=OUTPUT, op="Identity", input=[output])
    result.attr["T"].type = tf.float32.as_datatype_enum
    return Frozen(graph, shape, tf.float32 if floats else dtype)


def _rewritten(node: Any, floats: bool) -> Iterator[Any]:
    """Yields the nodes that take the place of a node of the frozen graph."""
    if node.op == "AddN" and len(node.input) > 1:
        total, *others = node.input
        for index, other in enumerate(others):
            last = index == len(others) - 1
            name = node.name if last else f"{node.name}/sum_{index}"
            new = tf.compat.v1.NodeDef(name=name, op="AddV2", input=[total, other])
            new.attr["T"].CopyFrom(node.attr["T"])
            total = name
            yield new
        return
    to_float = node.op == "Cast" and node.attr["SrcT"].type == tf.uint8.as_datatype_enum
    if floats and (to_float or node.op == "Round"):
        yield _identity(node)
        return
    for value in node.attr.values():  # of the input, and of what hands it on to the Cast
        if floats and value.type == tf.uint8.as_datatype_enum:
            value.type = tf.float32.as_datatype_enum
    yield node


def _identity(node: Any) -> Any:
    new = tf.compat.v1.NodeDef(name=node.name, op="Identity", input=node.input)
    new.attr["T"].type = tf.float32.as_datatype_enum
    return new


@contextlib.contextmanager
def converting(what: str) -> Iterator[None]:
    """Turns every error of a converter into one line, and hides what it prints.

    Converters print pages to standard output and standard error, some from C++.

    Args:
        what: Name of the format, for the message.

    Raises:
        InputError: The block raised an error, except an OSError, for example of a full disk.
    """
    with tempfile.TemporaryFile() as kept, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        terminals = {}
        for number in (1, 2):
            with contextlib.suppress(OSError):  # the program was started with it closed
                terminals[number] = os.dup(number)
                os.dup2(kept.fileno(), number)
        try:
            yield
        except (InputError, MemoryError, OSError):
            raise
        except Exception as error:
            raise InputError(
                f"The net cannot be converted to {what} ({type(error).__name__}: {plain(error)}). "
                "Leave this format out of --format."
            ) from None
        finally:
            sys.stdout.flush()
            for number, terminal in terminals.items():
                os.dup2(terminal, number)
                os.close(terminal)
