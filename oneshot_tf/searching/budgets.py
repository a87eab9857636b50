"""The ways to spend a search's budget: full scores, a race, or ranking by divergence."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from oneshot_tf.devices.distribution import is_chief
from oneshot_tf.evaluation.racing import Race
from oneshot_tf.searching.job import SearchJob
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.progress import Progress, pieces

_RACE_IMAGES = 128  # smaller chunks are slower, larger ones stop later


def evaluate_all(job: SearchJob) -> None:
    """Scores every candidate on all validation images, as the paper does (section 3.3)."""
    evaluator, divergence = job.evaluator(), job.divergence()
    job.begin()
    progress = job.progress("search", ("image evaluations", evaluator.num_images))
    for new in job.proposed():
        for chunk in pieces(new, job.together):
            job.add(chunk, *full_scores(evaluator, divergence, chunk))
            rate = progress.rate(len(job.done)) * evaluator.num_images
            speed = f"{rate:,.0f} architecture-images/s, " if rate else ""
            job.report(progress, speed)


def full_scores(
    evaluator: Callable[[Any], Any], divergence: Callable[[Any], Any], chunk: Sequence[Architecture]
) -> tuple[list, list, list, list]:
    """Returns the columns of `SearchJob.described` for architectures: scores on all images.

    Args:
        evaluator: A `CandidateEvaluator`.
        divergence: A `DivergenceEvaluator`.
        chunk: The architectures.
    """
    scores = evaluator(chunk)
    return (
        [score.accuracy for score in scores],
        [score.cross_entropy for score in scores],
        [score.num_images for score in scores],
        divergence(chunk).tolist(),
    )


def rank_by_divergence(job: SearchJob) -> None:
    """Ranks all candidates by divergence, without labels. Then scores the best (section 5)."""
    divergence = job.divergence()
    job.begin()
    progress = job.progress("search by divergence")
    for new in job.proposed():
        for chunk in pieces(new, job.together):
            none = [None] * len(chunk)
            job.add(chunk, none, none, [0] * len(chunk), divergence(chunk).tolist())
            job.report(progress)
    if job.settings.finalists:
        _score_finalists(job)


def _score_finalists(job: SearchJob) -> None:
    order = sorted(job.candidates(), key=lambda c: (c.divergence, str(c.architecture)))
    todo = [c for c in order[: job.settings.finalists] if not c.num_images]
    evaluator = job.evaluator()
    progress = Progress("finalists", len(todo), "candidates")
    for chunk in pieces(todo, job.together):
        for c, score in zip(chunk, evaluator([c.architecture for c in chunk])):
            job.keep(
                dataclasses.replace(
                    c,
                    candidate_accuracy=score.accuracy,
                    cross_entropy=score.cross_entropy,
                    num_images=score.num_images,
                )
            )
        job.file.write(job.candidates())
        progress.update(progress.done + len(chunk))


def race(job: SearchJob) -> None:
    """Scores candidates in a race. Those that can hardly be among the finalists stop early."""
    evaluator = job.evaluator(largest_chunk=_RACE_IMAGES)
    job.begin()
    job.done.clear()  # race.npz holds all candidates, in the order proposed
    for new in job.proposed():
        job.done |= dict.fromkeys(new)
    architectures = list(job.done)
    race = Race(
        job.directory.searched / "race.npz",
        evaluator,
        architectures,
        job.settings.finalists,
        job.settings.race_confidence,
        writes=is_chief(),
        together=job.together,
        run_id=job.directory.run_id(),
    )
    _run(race)
    scored = job.described(
        architectures,
        (race.num_right / race.seen).tolist(),
        (race.entropy / race.seen).tolist(),
        race.seen.tolist(),
    )
    for candidate in scored:
        job.keep(candidate)


def _run(race: Race) -> None:
    """Runs a race to its end and prints its progress and its cost."""
    rounds: dict[int, Progress] = {}

    def report(number: int, count: int, todo: int, done: int) -> None:
        title = f"race, round {number + 1} of {count}, {int(race.running.sum()):,} running"
        progress = rounds.setdefault(number, Progress(title, todo, "candidates"))
        progress.update(done, f"{race.cost:.1%} of a full search")

    started, before = time.monotonic(), int(race.seen.sum())
    race.run(report)
    images = int(race.seen.sum()) - before
    print(
        f"Race: {race.cost:.1%} of the image evaluations of a full search; now "
        f"{images / max(time.monotonic() - started, 1e-9):,.0f} architecture-images/s.",
        flush=True,
    )
