"""The limits that a user sets on the stand-alone models of a run."""

import dataclasses
import functools
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

from oneshot_tf.cost.estimates import Estimate
from oneshot_tf.cost.limits import Limit, Limits, counted_limits
from oneshot_tf.devices.distribution import num_workers
from oneshot_tf.runs.candidates import Candidate, pareto_front, print_front, spread
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.settings import LimitSettings
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import user_path, writing
from oneshot_tf.system.json_files import json_checksum
from oneshot_tf.system.printable import command
from oneshot_tf.system.processes import fresh_environment
from oneshot_tf.timing.other_device import read_csv
from oneshot_tf.timing.tables import Place

_MOST_MEASURED = 20  # candidates on a front


class RunLimits(Limits):
    """Limits on the stand-alone models of a run and a stack.

    The first use of a limit on latency or on the length of a file measures a table, which takes
    minutes.

    Args:
        directory: The run.
        settings: The limits.
        stack: The stack of the models.
        use_measured: Whether the measured costs of single nets count. A search must propose the
            same nets whenever it resumes, so it uses the estimates alone.
        cost: "latency_ms" or "file_bytes" for a cost that is needed without a limit too.

    Raises:
        InputError: A table cannot be measured or used.
    """

    def __init__(
        self,
        directory: RunDirectory,
        settings: LimitSettings,
        stack: Stack,
        use_measured: bool = True,
        cost: str = "",
    ):
        self.use_measured = use_measured
        facts, self.space = directory.facts(), directory.space()
        limits = counted_limits(
            self.space, stack, len(facts["class_names"]), facts["image_size"],
            settings.max_parameters, settings.max_multiply_adds,
        )  # fmt: skip
        self._estimates: dict[Place, Estimate] = {}
        self._checksums: list[str] = []
        where = "on another device" if settings.latency_table else f"in {settings.latency_of}"
        file, latency = f"a {settings.file_format} file", f"a latency {where}"
        wanted = [
            ("file_bytes", "--max_file_kb", settings.max_file_kb, 1000, f"{file} of {{:,.1f}} kB"),
            ("latency_ms", "--max_latency_ms", settings.max_latency_ms, 1,
             f"{latency} of {{:.3g}} ms"),
        ]  # fmt: skip
        for name, flag, most, scale, words in wanted:
            if most or name == cost:
                place = Place(directory, stack, settings, of_files=name == "file_bytes")
                self._open(place)
                if most:
                    costs = functools.partial(self._costs, place, scale)
                    limits.append(Limit(flag, most, costs, words))
        super().__init__(limits, stack.filters)

    def _open(self, place: Place) -> None:
        table = _table(place)
        print(place.described(table), flush=True)
        self._estimates[place] = place.estimate(table)
        fitted = {name: table[name] for name in ("unit_milliseconds", "nets", "num_fitted")}
        self._checksums.append(json_checksum(fitted))

    def _costs(self, place: Place, scale: float, architectures: Sequence[Architecture]) -> Any:
        estimate = self._estimates[place]
        if not self.use_measured:
            estimate = dataclasses.replace(estimate, known={})
        return estimate.at_most(self.space, place.stack.num_cells, architectures) / scale

    @property
    def checksum(self) -> str:
        """A checksum of the tables that the estimates come from; empty if there is none."""
        return "".join(self._checksums)

    def measure(self, architectures: Sequence[Architecture]) -> None:
        """Measures architectures, if there is a limit on latency or on the length of files.

        From then on, `within` compares measured values. Nothing is measured if the times come from
        another device.
        """
        for place, estimate in self._estimates.items():
            new = [a for a in dict.fromkeys(architectures) if a not in estimate.known]
            if new and not _is_foreign(place):
                _measure(place, new)
                table = place.read()
                assert table is not None
                self._estimates[place] = place.estimate(table)

    def costed(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Returns candidates with their latency and length of file: measured, else at most."""
        found = list(candidates)
        architectures = [candidate.architecture for candidate in found]
        for place in self._estimates:
            values = self._costs(place, 1, architectures).tolist() if found else []
            found = [dataclasses.replace(c, **{place.cost: v}) for c, v in zip(found, values)]
        return found

    def unknown(self, architectures: Iterable[Architecture]) -> list[Architecture]:
        """Returns the architectures that `measure` would measure."""
        lists = [e.known for place, e in self._estimates.items() if not _is_foreign(place)]
        return [a for a in architectures if any(a not in known for known in lists)]

    def fronts(self, candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
        """Measures the candidates on the Pareto front of accuracy against each measured cost.

        If a front is long, it measures 20 of its candidates, evenly spread.

        Returns:
            The fronts by the name of the cost. Only measured candidates are on them.
        """
        self.use_measured = True  # nothing is proposed any more
        fronts, candidates = {}, list(candidates)
        for place in self._estimates:
            self.measure([
                c.architecture
                for c in spread(pareto_front(self.costed(candidates), place.cost), _MOST_MEASURED)
            ])  # fmt: skip
            known = [c for c in candidates if c.architecture in self._estimates[place].known]
            front = pareto_front(self.costed(known), place.cost)
            fronts[place.cost] = [c for c, ok in zip(front, self._fits(front)) if ok]
        return fronts

    def print_fronts(self, candidates: Iterable[Candidate]) -> None:
        """Prints `fronts`."""
        fronts = self.fronts(candidates)
        for place in self._estimates:
            words = f"measured {place.words}"
            front = fronts[place.cost]
            print_front(front, words, [place.shown(getattr(c, place.cost)) for c in front])

    def _fits(self, candidates: Sequence[Candidate]) -> list[bool]:
        return self.within([c.architecture for c in candidates])

    def measured(self, architecture: Architecture) -> dict[str, float]:
        """Returns what was measured of an architecture: "file_bytes" and "latency_ms"."""
        pairs = ((p.cost, e.known.get(architecture)) for p, e in self._estimates.items())
        return {cost: value for cost, value in pairs if value is not None}


def _is_foreign(place: Place) -> bool:
    """Returns whether the times come from another device."""
    return bool(place.limits.latency_table and not place.of_files)


def _table(place: Place) -> dict[str, Any]:
    """Returns the table of a place. Measures it if it does not exist."""
    if _is_foreign(place):
        return read_csv(user_path(place.limits.latency_table), place)
    table = place.read()
    if table is None:
        _measure(place, [])
        table = place.read()
    if table is None:
        raise InputError(f"{place.path} was not written. Repeat the command.")
    return table


def _flags(place: Place) -> list[str]:
    limits, stack = place.limits, place.stack
    return [
        f"--run_dir={place.directory.path}",
        f"--cost={'file' if place.of_files else 'latency'}",
        f"--filters={stack.filters}",
        f"--num_cells={stack.num_cells}",
        f"--file_format={limits.file_format}",
        f"--latency_of={limits.latency_of}",
        f"--latency_batch={limits.latency_batch}",
        f"--latency_threads={limits.latency_threads}",
    ]


def _measure(place: Place, architectures: Sequence[Architecture]) -> None:
    """Runs `measure` in a process of its own, with its own threads and without a GPU."""
    flags = _flags(place)
    if num_workers() > 1:
        raise InputError(
            f"With several workers, {place.path} must be measured first, on one of them: "
            f"{command('measure', *flags)}."
        )
    with writing(tempfile.gettempdir()), tempfile.TemporaryDirectory() as scratch:
        listed = pathlib.Path(scratch) / "architectures.txt"
        listed.write_text("".join(f"{a}\n" for a in architectures), encoding="utf-8")
        if architectures:
            flags.append(f"--architectures={listed}")
        sys.stdout.flush()
        command_line = [sys.executable, "-m", "oneshot_tf.measure", *flags]
        done = subprocess.run(command_line, env=fresh_environment())
    if done.returncode:
        what = "length of files" if place.of_files else "latency"
        raise InputError(f"The {what} could not be measured; see the line above.")
