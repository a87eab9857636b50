"""Limits on stand-alone models. `search`, `retrain` and `export` share them."""

import dataclasses

from oneshot_tf.settings.setting import Settings, setting

# The formats whose latency can be limited, by the name of --latency_of.
RUNTIMES = {
    "tensorflow": "saved_model",
    "tflite": "tflite",
    "tflite_fp16": "tflite_fp16",
    "tflite_int8": "tflite_int8",
    "onnx": "onnx",
    "openvino": "openvino",
}


@dataclasses.dataclass(frozen=True)
class LimitSettings(Settings):
    """Limits on the stand-alone model."""

    max_parameters: int = setting(0, "Most parameters. 0: no limit.", least=0, common=True)
    max_multiply_adds: int = setting(
        0, "Most multiply-adds for one image. 0: no limit.", least=0, common=True
    )
    max_file_kb: float = setting(
        0.0,
        "Largest length of the exported file in units of 1,000 bytes. 0: no limit.",
        least=0.0,
        common=True,
    )
    file_format: str = setting(
        "tflite",
        "Format of the file that --max_file_kb limits.",
        choices=tuple(RUNTIMES.values()),
    )
    max_latency_ms: float = setting(
        0.0,
        "Most milliseconds for --latency_batch images on this device. 0: no limit. Before the "
        "first use, a few nets are timed, which takes minutes.",
        least=0.0,
        common=True,
    )
    latency_of: str = setting(
        "tensorflow",
        "What runs the net that --max_latency_ms limits.",
        choices=tuple(RUNTIMES),
    )
    latency_batch: int = setting(
        1, "Number of images that --max_latency_ms is for.", least=1, most=4096
    )
    latency_threads: int = setting(
        1, "Number of threads of the runtime that is timed.", least=1, most=1024
    )
    latency_table: str = setting(
        "",
        "CSV file with times that were measured on another device; see measure --write_units. "
        "Empty: times that were measured here.",
    )

    def any(self) -> bool:
        """Returns whether there is a limit."""
        return bool(
            self.max_parameters or self.max_multiply_adds or self.max_file_kb or self.max_latency_ms
        )
