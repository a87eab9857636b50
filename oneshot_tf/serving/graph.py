"""Checks that the graph of a SavedModel can only compute.

TensorFlow runs parts of a SavedModel while it loads it, and a graph can read and write files. A
run directory may come from anybody. So this module has one list of allowed operations: those that
`saved_model` writes. Operations that save and restore variables are allowed only in functions that
nothing calls.
"""

import os
import pathlib
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from oneshot_tf.system.errors import InputError, short

_MOST_BYTES = 2**28
# These operations compute, read variables, or call functions that are checked in the same way.
_COMPUTE = """
    AddN AddV2 All Any ArgMax Assert AvgPool BiasAdd BroadcastTo Cast ConcatV2 Const Conv2D
    DecodeJpeg DecodePng DecodeRaw DepthwiseConv2dNative EnsureShape Equal ExpandDims
    ExtractJpegShape Fill FloorDiv FloorMod FusedBatchNormV3 GatherV2 Greater GreaterEqual Identity
    IdentityN If Less LessEqual LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool Maximum Mean Min
    Minimum Mul Neg NoOp NotEqual Pack Pad PadV2 PartitionedCall Placeholder Prod Range Rank
    ReadVariableOp RealDiv Relu Reshape ReverseV2 Round Rsqrt ScaleAndTranslate Select SelectV2
    Shape Size Slice Softmax Split SplitV Squeeze StatefulPartitionedCall StatelessIf
    StatelessWhile StaticRegexFullMatch StridedSlice StringJoin StringLength Sub Substr Sum
    TensorListFromTensor TensorListGetItem TensorListReserve TensorListSetItem TensorListStack
    Tile Transpose Unpack VarHandleOp Where While ZerosLike
"""
# TensorFlow's own functions for saving and restoring use these. Loading calls neither function: it
# reads variables/ itself.
_SAVE = "AssignVariableOp DisableCopyOnRead MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename"
_KINDS = ("user_object", "variable", "function", "bare_concrete_function", "constant")
_OBJECTS = (
    "_generic_user_object", "signature_map", "trackable_list_wrapper", "trackable_dict_wrapper",
    "trackable_tuple_wrapper", "tf_module",
)  # fmt: skip


def check_graph(folder: str | os.PathLike) -> None:
    """Makes sure that loading a SavedModel and calling its signatures only computes.

    Args:
        folder: Folder of the SavedModel. Only `saved_model.pb` is read, and nothing is run.

    Raises:
        InputError: The folder is not a SavedModel, or its graph has a forbidden operation or
            object.
    """
    path = pathlib.Path(folder) / "saved_model.pb"
    try:
        if any(path.with_suffix(other).exists() for other in (".cpb", ".pbtxt")):
            raise InputError(f"{path.parent} describes its graph twice. Export the net again.")
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} must be a regular file of at most {_MOST_BYTES:,} bytes.")
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:  # InputError is neither
        raise InputError(f"{path} cannot be read ({error}). Export the net again.") from None
    # In a graph without objects, as TensorFlow 1 wrote it, loading runs the initial operations.
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].object_graph_def.nodes:
        raise InputError(f"{path} must hold one graph with objects. Export the net again.")
    _check_objects(path, model.meta_graphs[0])
    _check_operations(path, model.meta_graphs[0])


def _check_objects(path: pathlib.Path, graph: Any):
    """Raises InputError for an object that reads a file, or is registered, while it loads."""
    for node in graph.object_graph_def.nodes:
        kind = node.WhichOneof("kind")
        name = node.user_object.identifier if kind == "user_object" else kind
        registered = node.registered_name or node.registered_saver
        if kind not in _KINDS or (kind == "user_object" and name not in _OBJECTS) or registered:
            raise _refusal(path, "object", registered or name)
    if graph.asset_file_def:
        raise _refusal(path, "object", "asset")


def _check_operations(path: pathlib.Path, graph: Any):
    """Raises InputError for an operation that is not in the lists of this module."""
    library = {function.signature.name: function for function in graph.graph_def.library.function}
    roots = set(graph.object_graph_def.concrete_functions)
    for node in graph.object_graph_def.nodes:
        roots |= set(node.function.concrete_functions)
        roots.add(node.bare_concrete_function.concrete_function_name)
    called, compute = _reachable(library, roots), set(_COMPUTE.split())
    for name, function in library.items():
        allowed = compute if name in called else compute.union(_SAVE.split())
        for node in function.node_def:
            if node.op not in allowed and node.op not in library:
                raise _refusal(path, "operation", node.op)
    for node in graph.graph_def.node:  # this package does not run them, but servers do
        if node.op not in compute and node.op not in library:
            raise _refusal(path, "operation", node.op)


def _reachable(library: dict[str, Any], names: Iterable[str]) -> set[str]:
    """Returns the names of the functions that `names` call, directly or not, and `names`."""
    calls = {name: set(_mentioned(function, library)) for name, function in library.items()}
    found, open_names = set(), set(names) & set(library)
    while open_names:
        found |= open_names
        open_names = set().union(*(calls[name] for name in open_names)) - found
    return found


def _mentioned(function: Any, library: dict[str, Any]):
    for node in function.node_def:
        if node.op in library:
            yield node.op
        for value in node.attr.values():
            for func in (value.func, *value.list.func):
                if func.name in library:
                    yield func.name


def _refusal(path: pathlib.Path, what: str, name: str) -> InputError:
    return InputError(
        f"{path} has the {what} {short(name)}, which this package never exports. It could read or "
        "write files. Do not load it. Export the net again."
    )
