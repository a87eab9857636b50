"""The baselines that `retrain` trains beside the chosen architectures."""

from collections.abc import Sequence
from typing import Any

from oneshot_tf.cost import counts
from oneshot_tf.cost.baselines import Baseline, of_size, of_text
from oneshot_tf.runs.candidates import Candidate, ranked
from oneshot_tf.settings import RetrainSettings
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.space import Space
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError


def chosen_baseline(
    directory: Any, retrain: RetrainSettings, candidates: Sequence[Candidate]
) -> Baseline:
    """Returns the baseline of --parameters, or of the parameters of the best candidate.

    Args:
        directory: The `RunDirectory`.
        retrain: The settings. `select` names the baseline.
        candidates: The candidates of the search.

    Raises:
        InputError: There are neither --parameters nor candidates.
    """
    stack = directory.stack(retrain.num_cells, retrain.filters)
    num_classes, target = len(directory.facts()["class_names"]), retrain.parameters
    if not target and not candidates:
        raise InputError(
            f"--select={retrain.select} needs --parameters, because there are no candidates yet. "
            "Set it, or run python -m oneshot_tf.search first."
        )
    if not target:
        best = ranked(candidates)[0].architecture
        target = int(counts.parameters(directory.space(), [best], stack, num_classes)[0])
    baseline = of_size(retrain.select, target, stack, num_classes)
    found = baseline.parameters(stack, num_classes)
    print(f"{baseline} is a baseline of {found:,} parameters (asked for {target:,}).", flush=True)
    return baseline


def is_baseline(net: dict[str, Any]) -> bool:
    """Returns whether a net of a result.json is a baseline."""
    return of_text(net["architecture"]) is not None


def costs_of(
    space: Space,
    architecture: Architecture | Baseline,
    stack: Stack,
    num_classes: int,
    image_size: int,
) -> dict[str, int]:
    """Returns the `parameters` and `multiply_adds` of an architecture or a baseline."""
    if isinstance(architecture, Baseline):
        return {
            "parameters": architecture.parameters(stack, num_classes),
            "multiply_adds": architecture.multiply_adds(stack, num_classes, image_size),
        }
    found = counts.costs(space, [architecture], stack, num_classes, image_size)
    return dict(zip(("parameters", "multiply_adds"), (int(each[0]) for each in found)))
