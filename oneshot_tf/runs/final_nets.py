"""The retrained nets of a run, in the order in which `export` chooses them."""

import math
from typing import Any

from oneshot_tf.runs.baselines import is_baseline
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import ranked
from oneshot_tf.runs.results import read_results
from oneshot_tf.space.architecture import Architecture


def final_nets(directory: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns the nets that can be exported, the best one first, each after its result.

    Nets of the final training, which were scored on test images, go first. Their order is that of
    the candidates' ranks, because test accuracies must not decide the choice. Without such nets,
    the validation accuracy decides. All On and baselines are left out.

    Args:
        directory: The `RunDirectory`.

    Raises:
        InputError: A file is damaged or belongs to another run.
    """
    results = [r for r in read_results(directory) if r["retrain"]["select"] != "all_on"]
    final = [r for r in results if r["evaluated_on"] == "test"]
    candidates = CandidateFile(directory).read() if results else []
    ranks = {str(c.architecture): c.rank for c in ranked(candidates)}

    def order(result_and_net: tuple[dict, dict]) -> tuple:
        result, net = result_and_net
        text = str(Architecture.from_text(net["architecture"]))
        rank = ranks.get(text) or net["rank"] or math.inf
        size = (-result["retrain"]["filters"], -result["retrain"]["num_cells"])
        alike = rank, *size, -result["num_steps"], net["folder"][0]
        return alike if final else (-net["mean"], *alike)

    nets = [(r, n) for r in final or results for n in r["nets"] if not is_baseline(n)]
    return sorted(nets, key=order)
