"""Limits on exported files: their own length and latency decide, not estimates."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from oneshot_tf.serving.formats import FORMATS, SAVED_MODEL
from oneshot_tf.settings import LimitSettings
from oneshot_tf.settings.limits import RUNTIMES
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import total_bytes, writing
from oneshot_tf.timing.clock import Order, timed


class BeyondLimit(InputError):
    """An exported file is larger or slower than its limit."""


@dataclasses.dataclass(frozen=True)
class Judge:
    """Measures the files of an export, and compares them with the limits.

    Args:
        limits: The limits.
        shape: Height and width of the images that the files take.
    """

    limits: LimitSettings
    shape: tuple[int, int]

    def check_formats(self, formats: list[str]) -> None:
        """Makes sure that the export will have the files that the limits are for.

        Raises:
            InputError: A format is missing, or the times come from another device.
        """
        limits = self.limits
        for flag, most, name, chooser in (
            ("--max_file_kb", limits.max_file_kb, limits.file_format, "--file_format"),
            ("--max_latency_ms", limits.max_latency_ms, RUNTIMES[limits.latency_of],
             "--latency_of"),
        ):  # fmt: skip
            if most and name not in formats:
                raise InputError(
                    f"{flag}={most:.12g} is for {name}, which is not in "
                    f"--format={','.join(formats)}. Add it there, or change {chooser}."
                )
        if limits.latency_table:
            raise InputError(
                "--latency_table does not apply to export, which measures the exported file on "
                "this device. Leave it out."
            )

    def check_counts(self, facts: Mapping[str, Any]) -> None:
        """Compares counted costs with the limits, before anything is written.

        Args:
            facts: Its "parameters" and "multiply_adds".

        Raises:
            BeyondLimit: A cost is beyond its limit.
        """
        for cost, words in (("parameters", "parameters"), ("multiply_adds", "multiply-adds")):
            most = getattr(self.limits, f"max_{cost}")
            if most and facts[cost] > most:
                raise BeyondLimit(
                    f"The model has {facts[cost]:,} {words}; --max_{cost} is {most:,}."
                )

    def __call__(self, folder: pathlib.Path) -> None:
        """Measures an export, and prints what it found.

        Raises:
            BeyondLimit: A file is beyond a limit.
        """
        limits = self.limits
        if limits.max_file_kb:
            kb = self._length(folder) / 1000
            what = f"The {limits.file_format} file has {kb:,.1f} kB"
            self._compare(what, kb, "--max_file_kb", limits.max_file_kb)
        if limits.max_latency_ms:
            milliseconds = self._latency(folder)
            images = f"{limits.latency_batch} image{'s' * (limits.latency_batch > 1)}"
            what = f"{limits.latency_of} takes {milliseconds:.3f} ms for {images}"
            self._compare(what, milliseconds, "--max_latency_ms", limits.max_latency_ms)

    def _compare(self, what: str, value: float, flag: str, most: float) -> None:
        if value > most:
            raise BeyondLimit(f"{what}; {flag} is {most:.12g}.")
        print(f"{what}, which is within {flag}={most:.12g}.", flush=True)

    def _length(self, folder: pathlib.Path) -> int:
        return total_bytes(folder / name for name in FORMATS[self.limits.file_format].files)

    def _latency(self, folder: pathlib.Path) -> float:
        name = RUNTIMES[self.limits.latency_of]
        opened = folder if name == SAVED_MODEL else folder / FORMATS[name].files[0]
        order = Order(
            threads=self.limits.latency_threads,
            batch=self.limits.latency_batch,
            shape=self.shape,
            files=[(FORMATS[name].runtime, str(opened.resolve()))],
        )
        with writing(tempfile.gettempdir()), tempfile.TemporaryDirectory() as scratch:
            return timed(order, pathlib.Path(scratch)).nets[0]
