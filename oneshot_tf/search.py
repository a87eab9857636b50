"""Ranks candidate architectures with the weights of a trained one-shot model.

Samples architectures, evaluates each on the validation images, and writes
RUN_DIR/candidates.csv. Started again it goes on where it stopped; with a larger
--num_candidates it adds to what is there. Next:
python -m oneshot_tf.retrain --run_dir=DIR.
"""

import contextlib
import dataclasses
import time

import tensorflow as tf

from oneshot_tf import settings
from oneshot_tf.cost import counts
from oneshot_tf.devices.distribution import (
    check_alike,
    is_chief,
    make_strategy,
    num_workers,
    of_all_workers,
    watching,
)
from oneshot_tf.devices.threads import set_threads
from oneshot_tf.evaluation.forward import NotFinite
from oneshot_tf.evaluation.kl_divergence import divergence_evaluator
from oneshot_tf.evaluation.racing import Race
from oneshot_tf.evaluation.shared_weights import CandidateEvaluator
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.learning.summaries import Summaries
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate, print_top, ranked
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.results import read_results
from oneshot_tf.runs.search_record import begin_search, check_same_search, made_with
from oneshot_tf.settings import Settings, command_line, setting
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.strategies import Listed, RandomSearch
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import checksum, read_json, write_json
from oneshot_tf.system.printable import command
from oneshot_tf.system.progress import Progress, pieces

_TOGETHER = 4  # candidates at a time, a replica, where several processes take part
_ASK = 64  # architectures proposed at a time
_RACE_IMAGES = 128  # smaller parts are slower, larger ones stop later


@dataclasses.dataclass(frozen=True)
class SearchSettings(Settings):
    """Which candidates, how many."""

    num_candidates: int = setting(20_000, "Candidates in candidates.csv when done.", least=1)
    budget: str = setting(
        "full",
        "full (every candidate on all validation images, as in the paper) or race (candidates "
        "that can't be among the best --finalists any more stop early).",
        choices=("full", "race"),
    )
    rank_by: str = setting(
        "accuracy",
        "accuracy, or kl: first by how much a candidate's predictions differ from those with "
        "nearly all paths on, for 64 training images without their labels (section 5); then "
        "the best --finalists by accuracy.",
        choices=("accuracy", "kl"),
    )
    finalists: int = setting(
        100,
        "With --budget=race or --rank_by=kl: how many of the best are wanted, and measured on "
        "all validation images; 0 with kl: none, no labels are read.",
        least=0,
    )
    race_confidence: float = setting(
        0.9,
        "With --budget=race: what share of the true best --finalists is expected to be measured "
        "on all images in the end. The race estimates it from the candidates themselves; it is "
        "an average over races, not a promise for one. More costs more.",
        above=0.5,
        below=1.0,
    )
    max_memory_gb: float = setting(
        0.0,
        "Memory that activations may take, in 10^9 bytes; 0: half of what is free.",
        least=0.0,
    )
    seed: int = setting(0, "Of the sampled architectures.", least=0, most=2**31 - 1)
    skip_twins: bool = setting(
        True,
        "Evaluate one of several architectures that are the same stand-alone net, which differ in "
        "the order of blocks that do not read each other.",
    )
    trained_in: str = setting(
        "",
        "Another run directory: evaluate the architectures that were trained alone there, and no "
        "others, to compare one-shot models.",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.budget == "race" and self.rank_by == "kl":
            raise InputError("--budget=race races by accuracy; give it or --rank_by=kl, not both.")
        if self.budget == "race" and self.finalists < 1:
            raise InputError(f"--finalists={self.finalists}; a race needs at least 1.")


def main(run, search, location, devices) -> None:
    """Searches; each argument is the object of `settings` of that kind."""
    directory = RunDirectory(run.run_dir)
    directory.config()  # says so where there is no run
    set_threads(directory.threads(devices.threads))  # before TensorFlow starts
    strategy = make_strategy(devices.distribution, 0, (search, devices))
    alone = contextlib.nullcontext()
    with directory.locked() if is_chief(strategy) else alone, watching(strategy), strategy.scope():
        _search(directory, search, location)


def _search(directory, search, location):
    space = directory.space()
    file = CandidateFile(directory, writes=is_chief())
    race = directory.path / "race.npz"
    check_alike(
        f"candidates in {directory.path} (--run_dir is a folder that all of them share)",
        *(checksum(path) if path.exists() else None for path in (file.path, race)),
    )
    done = {c.architecture: c for c in file.read()}
    steps = directory.group(settings.OneShotSettings, "one_shot").train_steps
    listed = _trained_in(search.trained_in, space) if search.trained_in else None
    new = not done and not race.exists()
    if not new:
        check_same_search(directory, made_with(search, steps))
    most = space.num_distinct if search.skip_twins else space.num_architectures
    wanted = len(listed) if listed else min(search.num_candidates, most)
    if not listed and wanted < search.num_candidates:
        print(f"The whole space has {wanted:,} architectures: all of them are candidates.")
    finalists = sum(c.num_images > 0 for c in done.values())
    unfinished = len(done) < wanted or (
        search.rank_by == "kl" and finalists < min(search.finalists, len(done))
    )
    if unfinished:
        supernet, step = restore_supernet(directory)
        if new and is_chief():
            begin_search(directory, made_with(search, steps))
        dataset = directory.load_data(location)
        proposer = Listed(listed) if listed else RandomSearch(space, search.seed, search.skip_twins)
        work = _Search(directory, supernet, dataset, search, file, done, wanted, proposer)
        ways = {"race": work.race, "kl": work.rank_by_divergence, "accuracy": work.evaluate_all}
        try:
            ways["race" if search.budget == "race" else search.rank_by]()
        except NotFinite as error:
            checkpoint = Checkpoints(directory.path / "checkpoints").path(step)
            raise InputError(f"{checkpoint} can't be searched. {error}") from None
    best = ranked(done.values())
    if not file.holds(best):
        file.write(best)
    accuracies = [c.candidate_accuracy for c in best if c.num_images == best[0].num_images]
    if unfinished and is_chief() and accuracies and accuracies[0] is not None:
        summaries = Summaries(directory.path / "tensorboard")
        summaries.histogram(len(best), "candidate_accuracy", accuracies)
    print_top(best, directory.path)


def restore_supernet(directory) -> tuple[Supernet, int]:
    """The one-shot model of a run with its final weights, and its number of steps.

    Raises:
        InputError: it isn't trained to the end, or its checkpoint can't be read.
    """
    model = directory.group(settings.ModelSettings, "model")
    steps = directory.group(settings.OneShotSettings, "one_shot").train_steps
    device = directory.group(settings.DeviceSettings, "device")
    checkpoints = Checkpoints(directory.path / "checkpoints", owner=directory.run_id())
    reached = max(checkpoints.steps(), default=0)
    path = directory.path
    train = command("train", f"--flagfile={path / 'flags.txt'}", f"--run_dir={path}")
    if reached < steps:
        raise InputError(
            f"The one-shot model in {directory.path} has a checkpoint of step {reached:,} of "
            f"{steps:,}; train it to the end: {train}."
        )
    if reached > steps:
        raise InputError(
            f"{checkpoints.path(reached)} is of a step beyond --train_steps={steps} of "
            f"{directory.path}, so it is not of this run. Remove it."
        )
    space, classes = directory.space(), len(directory.facts()["class_names"])
    size = int(counts.parameters(space, [space.all_on()], model.stack(), classes)[0])
    try:
        checkpoints.check_size(steps, size)
        supernet = Supernet(space, model.stack(), classes, dtype=device.dtype)
        checkpoints.restore_step(steps, supernet.variables)
    except InputError as error:
        raise InputError(
            f"{error} Train again, it goes on from the checkpoint before: {train}."
        ) from None
    return supernet, steps


def _trained_in(path, space) -> list[Architecture]:
    """What `retrain` trained in another run, in the order of its results."""
    other = RunDirectory(path)
    if other.space() != space:
        raise InputError(f"--trained_in={path} has another search space.")
    texts = [net["architecture"] for result in read_results(other) for net in result["nets"]]
    if not texts:
        raise InputError(
            f"--trained_in={path} has no stand-alone nets: "
            f"{command('retrain', f'--run_dir={path}')}."
        )
    return list(dict.fromkeys(Architecture.from_text(text) for text in texts))


class _Search:
    """Adds candidates to `done` and to the file until there are `wanted`."""

    def __init__(self, directory, supernet, dataset, search, file, done, wanted, proposer):
        self.directory, self.supernet, self.dataset = directory, supernet, dataset
        self.settings, self.file, self.done, self.wanted = search, file, done, wanted
        self.space = supernet.space
        self.ghost_batch_size = directory.group(settings.TrainSettings, "train").ghost_batch_size
        self.proposer = proposer
        # Several processes measure the same candidates at a time.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self.together = _TOGETHER * replicas if num_workers() > 1 else None

    def _begin(self):
        """Called when all is known to be well: until then, nothing on disk changes."""
        if is_chief():
            self.directory.note_provenance("search")
        unranked = [dataclasses.replace(c, rank=0) if c.rank else c for c in self.done.values()]
        if not self.file.holds(unranked):
            self.file.write(unranked)

    def evaluate_all(self):
        """Every candidate on all validation images, as in the paper."""
        evaluator, divergence = self._evaluator(), self._divergence()
        self._begin()
        progress = Progress("search", self.wanted, "candidates")
        images = evaluator.num_images
        best = max((c.candidate_accuracy for c in self.done.values()), default=0.0)
        for new in self._proposed():
            for chunk in pieces(new, self.together):
                scores = evaluator(chunk)
                accuracies = [score.accuracy for score in scores]
                entropies = [score.cross_entropy for score in scores]
                divergences = divergence(chunk).tolist()
                self._add(chunk, accuracies, entropies, [images] * len(chunk), divergences)
                best = max(best, *accuracies)
                rate = progress.rate(len(self.done)) * images
                speed = f"{rate:,.0f} architecture-images/s, " if rate else ""
                progress.update(len(self.done), f"{speed}best {best:.4f}")
            self.proposer.observe(new, [self.done[a].candidate_accuracy for a in new])

    def rank_by_divergence(self):
        """All candidates by divergence, without labels; then the best of them by accuracy."""
        divergence = self._divergence()
        self._begin()
        progress = Progress("search by divergence", self.wanted, "candidates")
        for new in self._proposed():
            for chunk in pieces(new, self.together):
                none = [None] * len(chunk)
                self._add(chunk, none, none, [0] * len(chunk), divergence(chunk).tolist())
                progress.update(len(self.done))
        if not self.settings.finalists:
            return
        order = sorted(self.done.values(), key=lambda c: (c.divergence, str(c.architecture)))
        best = order[: self.settings.finalists]
        todo = [c for c in best if not c.num_images]
        evaluator = self._evaluator()
        progress = Progress("finalists", len(todo), "candidates")
        for chunk in pieces(todo, self.together):
            for c, score in zip(chunk, evaluator([c.architecture for c in chunk])):
                self.done[c.architecture] = dataclasses.replace(
                    c,
                    candidate_accuracy=score.accuracy,
                    cross_entropy=score.cross_entropy,
                    num_images=score.num_images,
                )
            self.file.write(self.done.values())
            progress.update(progress.done + len(chunk))

    def race(self):
        """Candidates that can hardly be among the best stop early."""
        evaluator = self._evaluator(largest_part=_RACE_IMAGES)
        self._begin()
        self.done.clear()  # the race's own file knows all of them, in the order proposed
        for new in self._proposed():
            self.done |= dict.fromkeys(new)
        architectures = list(self.done)
        race = Race(
            self.directory.path / "race.npz",
            evaluator,
            architectures,
            self.settings.finalists,
            self.settings.race_confidence,
            is_chief(),
            self.together,
            self.directory.run_id(),
        )
        rounds = {}

        def report(number, count, todo, done):
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
        self.done.update(
            self._candidates(
                architectures,
                (race.num_right / race.seen).tolist(),
                (race.entropy / race.seen).tolist(),
                race.seen.tolist(),
            )
        )

    def _proposed(self):
        """New architectures, some at a time, until there are enough."""
        while len(self.done) < self.wanted:
            proposed = self.proposer.propose(_ASK)
            if not proposed:
                return
            yield [a for a in proposed if a not in self.done][: self.wanted - len(self.done)]

    def _add(self, *columns):
        """Writes new candidates down."""
        for architecture, candidate in self._candidates(*columns).items():
            self.done[architecture] = candidate
            self.file.append(candidate)

    def _candidates(self, architectures, accuracies, entropies, images, divergences=None):
        image_size, classes = self.dataset.image_size, self.supernet.num_classes
        costs = counts.costs(self.space, architectures, self.supernet.stack, classes, image_size)
        columns = zip(
            architectures,
            accuracies,
            entropies,
            images,
            *(each.tolist() for each in costs),
            divergences or [None] * len(architectures),
        )
        return {a: Candidate(a, *values, divergence=value) for a, *values, value in columns}

    def _divergence(self):
        return divergence_evaluator(
            self.supernet, self.dataset, self.ghost_batch_size, self.settings.seed
        )

    def _evaluator(self, largest_part=None):
        memory = self.settings.max_memory_gb or None
        path = self.directory.path / "search.json"
        # Another process may not have written it yet.
        before = read_json(path) if is_chief() or path.exists() else {}
        # Another size may round differently, and a race couldn't go on.
        part_size = before.get("part_size")
        evaluator = CandidateEvaluator(
            self.supernet,
            self.dataset.validation,
            self.dataset.normalize,
            self.ghost_batch_size,
            memory,
            part_size if type(part_size) is int and part_size > 0 else largest_part,
        )
        sizes = of_all_workers(evaluator.part_size)
        if len(set(sizes)) > 1:
            raise InputError(
                f"The processes of TF_CONFIG have memory for {sizes} images a call; give all of "
                "them the same --max_memory_gb, such that it fits everywhere."
            )
        if self.done and part_size not in (None, evaluator.part_size):
            raise InputError(
                f"The search in {self.directory.path} was begun with {part_size} images a call, "
                f"now {evaluator.part_size} fit into memory; give a larger --max_memory_gb, or "
                "move candidates.csv and race.npz away to start anew."
            )
        all_on = evaluator([self.space.all_on()])[0]
        facts = {"all_on_accuracy": all_on.accuracy, "num_images": all_on.num_images}
        if is_chief():
            write_json(path, {**before, **facts, "part_size": evaluator.part_size})
        print(
            f"All On, with the shared weights: {all_on.accuracy:.4f} on {all_on.num_images:,} "
            "validation images.",
            flush=True,
        )
        return evaluator


if __name__ == "__main__":
    command_line.run(
        main,
        settings.RunSettings,
        SearchSettings,
        settings.LocationSettings,
        settings.DistributionSettings,
    )
