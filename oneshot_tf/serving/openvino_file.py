"""Writes a net for OpenVINO, which runs on Intel's CPUs, GPUs and NPUs."""

import pathlib

from oneshot_tf.serving.source import INPUT, OUTPUT, Graphs, converting


def write_openvino(source: Graphs, folder: pathlib.Path) -> None:
    """Writes `model.xml` and `model.bin`. It takes uint8 images `[N, H, W, 3]` of any N.

    The weights stay float32. On some CPUs OpenVINO computes in bfloat16 unless its property
    INFERENCE_PRECISION_HINT is f32.
    """
    graph = folder / ".graph.pb"
    with converting("openvino"):
        import openvino  # an optional package

        try:
            graph.write_bytes(source.frozen().graph.SerializeToString())
            model = openvino.convert_model(str(graph))
            model.input().set_names({INPUT})
            model.output().set_names({OUTPUT})
            openvino.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
        finally:
            graph.unlink(missing_ok=True)
