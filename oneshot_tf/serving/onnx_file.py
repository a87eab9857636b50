"""Writes a net as an ONNX file."""

import logging
import pathlib

from oneshot_tf.serving.source import INPUT, OUTPUT, Graphs, converting

_OPSET = 17  # ONNX 1.12 of 2022; no operation here needs a later one


def write_onnx(source: Graphs, folder: pathlib.Path) -> None:
    """Writes `model.onnx`. It takes uint8 images `[N, H, W, 3]` of any N, at least 1."""
    with converting("onnx"):
        import tf2onnx  # an optional package

        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        tf2onnx.convert.from_graph_def(
            source.frozen().graph,
            input_names=[f"{INPUT}:0"],
            output_names=[f"{OUTPUT}:0"],
            tensors_to_rename={f"{name}:0": name for name in (INPUT, OUTPUT)},
            opset=_OPSET,
            output_path=str(folder / "model.onnx"),
        )
