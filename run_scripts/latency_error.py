"""Measures how far estimated latencies are from measured ones.

    python run_scripts/latency_error.py --run_dir=runs/mine
    python run_scripts/latency_error.py --run_dir=runs/mine --latency_of=tflite --nets=30

It measures the table of the run as `measure` does, then other random nets. For each, it compares
the latency with the estimate, and with a line through multiply-adds alone that is fitted to the
same nets as the estimate. Nothing else should run on the machine.
"""

import dataclasses

import numpy as np
from scipy.stats import spearmanr

from oneshot_tf import settings
from oneshot_tf.cost.counts import unit_costs, usage
from oneshot_tf.cost.estimates import fit
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.settings import LimitSettings, Settings, command_line, setting
from oneshot_tf.timing.measuring import Workshop, sampled
from oneshot_tf.timing.tables import Place


@dataclasses.dataclass(frozen=True)
class ErrorSettings(Settings):
    """Comparison."""

    nets: int = setting(30, "Number of nets to compare, besides those of the table.", least=3)
    filters: int = setting(0, "Number of filters. 0: the same as the one-shot model.", least=0)
    num_cells: int = setting(0, "Number of cells. 0: the same as the one-shot model.", least=0)


def main(run: settings.RunSettings, asked: ErrorSettings, limits: LimitSettings) -> None:
    """Measures the table and other nets, and prints the errors."""
    directory = RunDirectory(run.run_dir)
    place = Place(directory, directory.stack(asked.num_cells, asked.filters), limits)
    workshop = Workshop(place)
    table = place.read()
    if table is None:
        table = workshop.table()
        place.write(table)
    print(place.described(table), flush=True)
    space, cells = directory.space(), place.stack.num_cells
    fitted = [space.parse(net["architecture"]) for net in table["nets"]]
    others = sampled(space, len(fitted) + asked.nets)[len(fitted) :]
    measured = np.array(workshop.measured(others, table))
    facts = directory.facts()
    adds = unit_costs(space, place.stack, len(facts["class_names"]), facts["image_size"])[:, 1]
    values = np.array([net["value"] for net in table["nets"]])
    line = fit(adds[np.newaxis] / 1e6, usage(space, cells, fitted), values, table["num_fitted"])
    for name, estimate in (("estimate", place.estimate(table)), ("multiply-adds", line)):
        found = estimate.of(space, cells, others)
        errors = np.abs(found / measured - 1)
        print(
            f"{name}: Spearman {spearmanr(found, measured)[0]:.3f}, mean error "
            f"{errors.mean():.1%}, worst {errors.max():.1%} on {len(others)} nets of "
            f"{measured.min():.3f} to {measured.max():.3f} ms",
            flush=True,
        )


if __name__ == "__main__":
    command_line.run(main, settings.RunSettings, ErrorSettings, LimitSettings)
