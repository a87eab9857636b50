"""Accuracies to compare candidates with: All On, and the mixture of what was learnt."""

from typing import Any

from oneshot_tf.evaluation.shared_weights import CandidateEvaluator
from oneshot_tf.strategies import Learnt, Proposer


def reference_scores(evaluator: CandidateEvaluator, proposer: Proposer) -> dict[str, Any]:
    """Scores All On and, after a training with logits, the mixture that it ended with.

    Args:
        evaluator: Scores with the shared weights.
        proposer: The proposer of the search.

    Returns:
        Facts for search.json: accuracies and the number of images.
    """
    all_on = evaluator([evaluator.space.all_on()])[0]
    facts = {"all_on_accuracy": all_on.accuracy, "num_images": all_on.num_images}
    images = f"on {all_on.num_images:,} validation images"
    print(f"All On, with the shared weights: {all_on.accuracy:.4f} {images}.", flush=True)
    mixture = proposer.mixture() if isinstance(proposer, Learnt) else None
    if mixture is not None:
        hits, _ = evaluator.outcomes_of(mixture)
        facts["mixture_accuracy"] = float(hits.mean())
        print(f"The learnt mixture: {facts['mixture_accuracy']:.4f} {images}.", flush=True)
    return facts
