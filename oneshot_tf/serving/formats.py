"""The formats that `export` writes.

To add a format, write a function with the signature of `Format.write`, and one entry in FORMATS.
"""

import dataclasses
import importlib
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from oneshot_tf.serving.keras_file import write_keras
from oneshot_tf.serving.measuring import Judged, Measured, check_answers, measure
from oneshot_tf.serving.onnx_file import write_onnx
from oneshot_tf.serving.openvino_file import write_openvino
from oneshot_tf.serving.source import Source
from oneshot_tf.serving.tflite import write_tflite, write_tflite_fp16, write_tflite_int8
from oneshot_tf.system.errors import InputError, plain
from oneshot_tf.system.files import writing
from oneshot_tf.system.progress import each

SAVED_MODEL = "saved_model"


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of exported files.

    Args:
        write: Function `write(source, folder)` that writes the files into a folder. A converter
            takes a `Source` or other `Graphs`.
        files: Names of the files and folders that it writes.
        runtime: Name in `runtimes.RUNTIMES` of the runtime that opens the first file. Empty: the
            files are written, but not run.
        most: Largest difference in probability from the net that is allowed, as in
            `measuring.check_answers`.
        needs: The optional modules that writing or running needs.
        extra: Name of the extra in setup.py that installs them.
        any_size: Whether the format takes `--input_size`.
        calibrates: Whether `write` needs training images.
    """

    write: Callable[[Any, pathlib.Path], None]
    files: tuple[str, ...]
    runtime: str = ""
    most: float | None = 1e-3
    needs: tuple[str, ...] = ()
    extra: str = ""
    any_size: bool = True
    calibrates: bool = False


def _written_already(source: Source, folder: pathlib.Path):
    """Every export begins with the SavedModel."""


_SAVED_FILES = ("saved_model.pb", "fingerprint.pb", "variables", "assets")

# The names in `export --format=NAME,NAME`.
FORMATS: dict[str, Format] = {
    SAVED_MODEL: Format(_written_already, _SAVED_FILES, "saved_model"),
    "keras": Format(write_keras, ("model.keras",), "keras", any_size=False),
    "tflite": Format(write_tflite, ("model.tflite",), "tflite"),
    # The weights have 11 significant bits, so answers differ by about 1e-3.
    "tflite_fp16": Format(write_tflite_fp16, ("model_fp16.tflite",), "tflite", 0.1),
    "tflite_int8": Format(
        write_tflite_int8, ("model_int8.tflite",), "tflite", None, calibrates=True
    ),
    "onnx": Format(
        write_onnx, ("model.onnx",), "onnx", needs=("tf2onnx", "onnxruntime"), extra="onnx"
    ),
    "openvino": Format(
        write_openvino,
        ("model.xml", "model.bin"),
        "openvino",
        needs=("openvino",),
        extra="openvino",
    ),
}


def check_formats(names: Sequence[str], input_size: tuple[int, int] | None = None) -> None:
    """Makes sure that formats can be written here.

    Args:
        names: Names in FORMATS.
        input_size: Height and width of the images that the files shall take, if they are given.

    Raises:
        InputError: An optional package is missing or cannot be imported, or a format cannot take
            the size.
    """
    for name in names:
        kind = FORMATS[name]
        if input_size is not None and not kind.any_size:
            raise InputError(
                f"--format={name} takes images of the training size only. Leave out --input_size, "
                f"or leave {name} out of --format."
            )
        packages = " and ".join(module.replace("_", "-") for module in kind.needs)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for module in kind.needs:
                    importlib.import_module(module)
        except ModuleNotFoundError:
            raise InputError(
                f"The format {name} needs {packages}: pip install 'oneshot_tf[{kind.extra}]'."
            ) from None
        except Exception as error:  # for example a version that does not fit NumPy's
            raise InputError(
                f"The format {name} needs {packages}, which cannot be imported: {plain(error)}. "
                f"Install it again: pip install 'oneshot_tf[{kind.extra}]'."
            ) from None


def more_files() -> set[str]:
    """Returns the names of the files of all formats, built-in or not."""
    return {file for kind in FORMATS.values() for file in kind.files}


def write_formats(
    source: Source, folder: pathlib.Path, names: Iterable[str], given: Judged
) -> list[Measured]:
    """Writes formats beside a finished SavedModel, and runs every file in a fresh process.

    Args:
        source: The net, and its SavedModel in `folder`.
        folder: The folder to write to.
        names: Names in FORMATS.
        given: Images to run the files on, with the answers of the net.

    Returns:
        What was measured, for each format that has a runtime.

    Raises:
        InputError: A format cannot be written, or its answers differ too much from the net's.
    """
    rows = []
    with writing(tempfile.gettempdir()), tempfile.TemporaryDirectory() as scratch:
        names = list(names)
        for name in each(names, "Export", len(names), "formats"):
            kind = FORMATS[name]
            with writing(folder):
                kind.write(source, folder)
            paths = [folder / file for file in kind.files]
            if not kind.runtime:
                print(f"{name}: written, but not run, because no runtime is known.", flush=True)
                continue
            opened = folder if name == SAVED_MODEL else paths[0]
            if not opened.exists():
                raise InputError(
                    f"{name}: the converter wrote no {opened.name}. Leave {name} out of --format."
                )
            row, answers = measure(name, kind.runtime, opened, paths, given, pathlib.Path(scratch))
            # A resized pixel may be rounded the other way; see `fixed_size`.
            resized = 10.0 if source.input_size else 1.0
            check_answers(name, answers, given, kind.most and kind.most * resized)
            rows.append(row)
            print(f"{name}: a fresh process ran it on {len(given.images):,} images.", flush=True)
    return rows
