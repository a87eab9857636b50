"""Writes an export: the SavedModel, the other formats, and the table that compares them."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from oneshot_tf.serving.folder import TABLE
from oneshot_tf.serving.formats import FORMATS, SAVED_MODEL, more_files, write_formats
from oneshot_tf.serving.measuring import HOW, Judged, Measured, brought_to, judged
from oneshot_tf.serving.saved_model import write_saved_model
from oneshot_tf.serving.source import Source
from oneshot_tf.serving.warmup import FOLDER
from oneshot_tf.system.files import remove_folder, writing
from oneshot_tf.system.json_files import write_json

_CALIBRATION = 200  # training images that measure the ranges of activations


@dataclasses.dataclass(frozen=True)
class Asked:
    """What to export, and to where.

    Args:
        target: The folder to write.
        formats: Names in `formats.FORMATS`.
        input_size: Height and width of the images that the files take. None: the size of the
            training.
        facts: More entries for architecture.json. "evaluated_on", "test" or "validation", says on
            which images the net was scored. The formats are scored on the same split.
        dataset: The images. None for a SavedModel alone.
        judge: Called with the folder of the finished export before it replaces an older one. It
            may raise an error to keep the older one.
    """

    target: pathlib.Path
    formats: tuple[str, ...]
    input_size: tuple[int, int] | None
    facts: dict[str, Any]
    dataset: Any = None
    judge: Callable[[pathlib.Path], None] | None = None


def write_export(net: Any, preprocessing: Any, asked: Asked, compare: Callable[..., Any]) -> None:
    """Writes an export, and prints what was checked and measured.

    Args:
        net: The `Standalone`.
        preprocessing: Its `Preprocessing`.
        asked: What to export.
        compare: `check.check_in_fresh_process`.

    Raises:
        InputError: The export cannot be written, or a file does not give the answers of the net.
            An older export stays as it was.
    """

    def check(folder: pathlib.Path):
        count, worst = compare(folder, net, preprocessing, asked.input_size)
        print(
            f"A fresh process loads the SavedModel. On {count} test patterns of several sizes, as "
            "pixels, JPEG and PNG, one by one and as a batch, its probabilities differ from the "
            f"model's by at most {worst:.1e}.",
            flush=True,
        )
        if asked.dataset is not None:
            _add_formats(net, preprocessing, asked, folder)
        if asked.judge is not None:
            asked.judge(folder)

    before = _found(asked.target)
    facts = {**asked.facts, "formats": list(asked.formats)}
    write_saved_model(
        net, preprocessing, asked.target, facts, check, asked.input_size, more=more_files()
    )
    gone = sorted(before - _found(asked.target))
    if gone:
        print(f"The older export had {', '.join(gone)} too. This one replaces it.", flush=True)


def _found(folder: pathlib.Path) -> set[str]:
    """Returns the formats that a folder holds."""
    return {name for name, kind in FORMATS.items() if (folder / kind.files[0]).exists()}


def _add_formats(net: Any, preprocessing: Any, asked: Asked, folder: pathlib.Path) -> None:
    """Writes and measures the formats beside a SavedModel. Removes it if nobody asked for it."""
    split, size = asked.facts["evaluated_on"], asked.input_size
    images = asked.dataset.load_test() if split == "test" else asked.dataset.validation
    given = judged(net, preprocessing, images, size)
    calibration = None
    if any(FORMATS[name].calibrates for name in asked.formats):
        train = asked.dataset.train
        some = np.linspace(0, len(train) - 1, min(_CALIBRATION, len(train))).round().astype(int)
        calibration = train.take(some).in_memory().images
        calibration = calibration if size is None else brought_to(calibration, size)
    source = Source(net, preprocessing, folder, size, calibration)
    rows = write_formats(source, folder, asked.formats, given)
    if SAVED_MODEL not in asked.formats:
        with writing(folder):
            for name in (*FORMATS[SAVED_MODEL].files, FOLDER):
                path = folder / name
                remove_folder(path) if path.is_dir() else path.unlink(missing_ok=True)
    if rows:
        said = described(given, len(images), split, preprocessing.image_size)
        table = {
            "run_id": asked.facts.get("run_id"),
            "net": asked.facts.get("net"),
            "images": said,
            "how": HOW,
            "formats": [dataclasses.asdict(row) for row in rows],
        }
        write_json(folder / TABLE, table)
        print_table(rows, said)


def described(given: Judged, count: int, split: str, size: int) -> str:
    """Returns a sentence about the images on which the formats were compared."""
    used = f"{len(given.images):,} {split} images"
    if len(given.images) < count:
        used = f"{len(given.images):,} of the {count:,} {split} images, evenly spread"
    height, width = given.images.shape[1:3]
    if (height, width) == (size, size):
        return f"Accuracy and differences are on {used} of {size}x{size}."
    return (
        f"Accuracy and differences are on {used}. They were brought from {size}x{size} to "
        f"{height}x{width}, and the files bring them back."
    )


def print_table(rows: list[Measured], said: str) -> None:
    """Prints what was measured of the formats."""
    head = ("format", "bytes", "accuracy", "max diff", "same class", "ms, 1", "ms, 32", "runtime")
    cells = [head, *map(cells_of, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        parts = [
            text.ljust(width) if i in (0, len(row) - 1) else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths))
        ]
        print("  ".join(parts).rstrip())
    print(said)
    print(HOW, flush=True)


def cells_of(row: Measured) -> tuple[str, ...]:
    """Returns the texts of a row of the table."""
    return (
        row.format, f"{row.bytes:,}", f"{row.accuracy:.4f}", f"{row.largest_difference:.1e}",
        f"{row.same_classes:.4f}", f"{row.one_ms:.3f}", f"{row.batch_ms:.3f}", row.runtime,
    )  # fmt: skip
