"""Ranks candidate architectures with the weights of a trained one-shot model.

A strategy proposes architectures, the candidates. Each one is evaluated on the validation images
with the weights of the one-shot model; --evaluator offers other ways. RUN_DIR/candidates.csv has
one line per candidate. If the search stops, repeat the command to resume. To continue a finished
search, raise --num_candidates. With --share_work, start the same command several times.
Next step: python -m oneshot_tf.retrain --run_dir=DIR
"""

import contextlib
import dataclasses
from typing import Any

from oneshot_tf import settings
from oneshot_tf.analysis.live import live_page
from oneshot_tf.devices.distribution import check_alike, is_chief, make_strategy
from oneshot_tf.devices.threads import set_threads
from oneshot_tf.learning.summaries import Summaries
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate, print_next, print_top, ranked
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.opened import opened
from oneshot_tf.runs.results import read_results
from oneshot_tf.runs.search_record import (
    COSTS,
    SearchRecord,
    check_same_search,
    made_with,
    measure,
    note_cost,
    with_schedule,
)
from oneshot_tf.searching import (
    BUDGETS,
    EVALUATORS,
    RANKINGS,
    SearchJob,
    check_shareable,
    is_planned,
    learnt,
    share_work,
    take_back,
)
from oneshot_tf.settings import (
    LimitSettings,
    LocationSettings,
    Settings,
    SharingSettings,
    command_line,
    setting,
)
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.space import Space
from oneshot_tf.strategies import LEARNERS, PROPOSERS, LearntSettings, Listed, Proposer, Strategy
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import checksum
from oneshot_tf.system.locks import in_turn
from oneshot_tf.system.printable import command
from oneshot_tf.timing.limits import RunLimits


@dataclasses.dataclass(frozen=True)
class SearchSettings(Settings):
    """Search."""

    num_candidates: int = setting(20_000, "Number of candidates to evaluate.", least=1, common=True)
    budget: str = setting(
        "full",
        "How many validation images score a candidate. full: all of them, as in the paper. race: "
        "fewer for a candidate that is unlikely to be among the best --finalists.",
        choices=tuple(BUDGETS),
        common=True,
    )
    evaluator: str = setting(
        "shared",
        "What scores a candidate. shared: the weights of the one-shot model, as in the paper. "
        "stand_alone: the candidate is trained from scratch for --epochs, with the run's "
        "settings (multi-trial search). table: the accuracies in the file --table. stand_alone "
        "and table need no trained one-shot model.",
        choices=tuple(EVALUATORS),
        common=True,
    )
    epochs: float = setting(
        0.0,
        "For --evaluator=stand_alone: number of passes over the training images for each "
        "candidate.",
        least=0.0,
        most=100_000.0,
    )
    table: str = setting(
        "",
        "For --evaluator=table: CSV file with the columns architecture and accuracy, and a line "
        "for every architecture of the search space. The mean of columns accuracy_... counts.",
        affects_results=False,
    )
    rank_by: str = setting(
        "accuracy",
        "Measure that ranks candidates. accuracy: validation accuracy. kl: KL divergence between "
        "the predictions of a candidate and those of the one-shot model with nearly all paths on. "
        "It needs 64 training images and no labels (section 5 of the paper). Then the accuracy of "
        "the best --finalists is measured.",
        choices=tuple(RANKINGS),
        common=True,
    )
    finalists: int = setting(
        100,
        "For --budget=race and --rank_by=kl: number of best candidates to score on all validation "
        "images. With kl, 0 scores none, and no labels are read.",
        least=0,
    )
    race_confidence: float = setting(
        0.9,
        "For --budget=race: share of the true best --finalists that the race should keep, on "
        "average over races. A single race may keep fewer. A larger share costs more.",
        above=0.5,
        below=1.0,
    )
    max_memory_gb: float = setting(
        0.0,
        "Memory that evaluation may use for activations, in units of 10^9 bytes. 0: half of the "
        "free memory.",
        least=0.0,
    )
    seed: int = setting(
        0, "Random seed for sampling architectures.", least=0, most=2**31 - 1, common=True
    )
    limit_filters: int = setting(
        0,
        "Number of filters of the stand-alone models that limits are for, for example --filters of "
        "retrain. 0: the same as the one-shot model.",
        least=0,
        most=4096,
    )
    limit_num_cells: int = setting(
        0,
        "Number of cells of the stand-alone models that limits are for. 0: the same as the "
        "one-shot model.",
        least=0,
        most=64,
    )
    name: str = setting(
        "",
        "Name of this search. Its files are then in RUN_DIR/search/NAME, so several strategies can "
        "search one model. Empty: the files are in RUN_DIR.",
    )
    trained_in: str = setting(
        "",
        "Another run directory, for comparing two one-shot models. The search then evaluates only "
        "the architectures that retrain trained there. Empty: search as usual.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget == "race" and self.rank_by == "kl":
            raise InputError(
                "--budget=race ranks by accuracy. Leave out this flag or --rank_by=kl."
            )
        if self.budget == "race" and self.finalists < 1:
            raise InputError(f"--finalists must be at least 1 for a race; got {self.finalists}.")
        self._check_evaluator()

    def _check_evaluator(self) -> None:
        """Raises InputError for a setting that belongs to another evaluator."""
        for name, owner in (("epochs", "stand_alone"), ("table", "table")):
            given = bool(getattr(self, name))
            if given and self.evaluator != owner:
                raise InputError(
                    f"--{name} is for --evaluator={owner}; got --evaluator={self.evaluator}."
                )
            if not given and self.evaluator == owner:
                raise InputError(f"--evaluator={owner} needs --{name}. Give a value.")
        defaults = {"budget": "full", "rank_by": "accuracy", "trained_in": ""}
        for name, default in defaults.items():
            if self.evaluator != "shared" and getattr(self, name) != default:
                raise InputError(
                    f"--{name}={getattr(self, name)} needs shared weights. Leave it out, or use "
                    "--evaluator=shared."
                )


def main(
    run: settings.RunSettings,
    search: SearchSettings,
    strategy: Settings,
    location: LocationSettings,
    device: settings.DistributionSettings,
    limits: LimitSettings | None = None,
    sharing: SharingSettings | None = None,
) -> None:
    """Searches for the best candidates."""
    sharing = sharing or SharingSettings()
    sharing.check_distribution(device.distribution)
    directory = RunDirectory(run.run_dir, search.name)
    directory.config()  # refuses a folder without a run
    set_threads(directory.threads(device.threads))  # before TensorFlow starts
    devices = make_strategy(
        device.distribution, _ghosts(directory, search), (search, strategy, device)
    )
    # Several searches with names may work on one model at the same time.
    folder = directory.searched if search.name or sharing.share_work else None
    with opened(directory, devices, folder, sharing.share_work):
        if not sharing.share_work:
            take_back(directory, CandidateFile(directory))
        _search(directory, search, strategy, location, limits or LimitSettings(), sharing)


def _ghosts(directory: RunDirectory, search: SearchSettings) -> int:
    """Returns the ghost batches of a training step; 0 if the search trains nothing."""
    train = directory.group(settings.TrainSettings, "train")
    return train.batch_size // train.ghost_batch_size if search.evaluator == "stand_alone" else 0


def _search(
    directory: RunDirectory,
    search: SearchSettings,
    strategy: Any,
    location: LocationSettings,
    asked: LimitSettings,
    sharing: SharingSettings,
) -> None:
    file = CandidateFile(directory, writes=is_chief())
    race = directory.searched / "race.npz"
    check_alike(
        f"candidates in {directory.searched} (all workers must share --run_dir)",
        *(checksum(path) if path.exists() else None for path in (file.path, race)),
    )
    done: dict[Architecture, Candidate | None] = {c.architecture: c for c in file.read()}
    steps = directory.group(settings.OneShotSettings, "one_shot").train_steps
    new = not done and not race.exists() and not is_planned(directory)
    budget = min(search.num_candidates, directory.space().num_architectures)
    strategy = with_schedule(directory, strategy, budget, new)
    record = made_with(search, strategy, steps, asked)
    if not new:
        check_same_search(directory, record)  # before minutes are spent on measuring
    limits = _limits(directory, search, strategy, asked, sharing)
    if limits.checksum:
        record[COSTS] = limits.checksum
        if not new:
            check_same_search(directory, record)
    proposer = _proposer(directory, search, strategy, limits)
    wanted = proposer.limit if search.trained_in else min(search.num_candidates, proposer.limit)
    if not search.trained_in and wanted < search.num_candidates:
        print(f"--strategy={strategy.strategy} proposes at most {wanted:,} architectures here.")
    if sharing.share_work:
        check_shareable(search, proposer)
    worked = len(done) < wanted or _lacks_finalists(search, done) or is_planned(directory)
    if worked:
        job = SearchJob(
            directory=directory, location=location, settings=search, file=file, done=done,
            record=SearchRecord(directory, record, new), wanted=wanted, proposer=proposer,
        )  # fmt: skip
        with live_page(directory, "search", is_chief()):
            if sharing.share_work:
                worked = share_work(job, sharing.claim_seconds)
            else:
                EVALUATORS[search.evaluator](job)
    best = _finish(directory, file, [c for c in done.values() if c is not None], worked)
    if is_chief():
        limits.print_fronts(best)
    print_next(best, directory)


def _limits(
    directory: RunDirectory,
    search: SearchSettings,
    strategy: Any,
    asked: LimitSettings,
    sharing: SharingSettings,
) -> RunLimits:
    if search.trained_in and (asked.any() or strategy.strategy != "random"):
        raise InputError(
            "--trained_in evaluates given architectures, so --strategy and limits, for example "
            "--max_parameters, do not apply. Leave them out."
        )
    stack = directory.stack(search.limit_num_cells, search.limit_filters)
    # The first copy measures, and the others read what it measured.
    alone = asked.any() and sharing.share_work
    with in_turn(directory.searched, "measure costs") if alone else contextlib.nullcontext():
        return RunLimits(directory, asked, stack, use_measured=False)


def _proposer(
    directory: RunDirectory, search: SearchSettings, strategy: Any, limits: RunLimits
) -> Proposer:
    if search.trained_in:
        return Listed(_trained_in(search.trained_in, directory.space()))
    space = limits.apply(directory.space())
    if strategy.strategy == "learnt":
        return learnt(directory, space, search.seed)
    trained: Any = directory.strategy()
    if trained.strategy in LEARNERS and is_chief():
        print("This run learnt its architecture. --strategy=learnt searches what it learnt.")
    proposer = PROPOSERS[strategy.strategy].make(space, strategy, search.seed)
    if proposer.learns and (search.budget != "full" or search.rank_by != "accuracy"):
        raise InputError(
            f"--strategy={strategy.strategy} learns from accuracies on all validation images, so "
            f"it needs --budget=full and --rank_by=accuracy; got --budget={search.budget} and "
            f"--rank_by={search.rank_by}."
        )
    return proposer


def _lacks_finalists(search: SearchSettings, done: dict) -> bool:
    finalists = sum(candidate.num_images > 0 for candidate in done.values())
    return search.rank_by == "kl" and finalists < min(search.finalists, len(done))


def _finish(
    directory: RunDirectory, file: CandidateFile, candidates: list[Candidate], worked: bool
) -> list[Candidate]:
    """Ranks the candidates, writes them to the file, prints the best, and returns all of them."""
    best = ranked(candidates)
    if not file.holds(best):
        file.write(best)
    accuracies = [c.candidate_accuracy for c in best if c.num_images == best[0].num_images]
    if worked and is_chief() and accuracies and accuracies[0] is not None:
        summaries = Summaries(directory.path / "tensorboard")
        summaries.histogram(len(best), "candidate_accuracy", accuracies)
    if is_chief():
        note_cost(directory, best)
    print_top(best, measure(directory))
    return best


def _trained_in(path: str, space: Space) -> list[Architecture]:
    """Returns the architectures that `retrain` trained in another run, in the order of results."""
    other = RunDirectory(path)
    if other.space() != space:
        raise InputError(f"--trained_in must be a run with the same search space; got {path}.")
    texts = [net["architecture"] for result in read_results(other) for net in result["nets"]]
    if not texts:
        raise InputError(
            f"--trained_in={path} has no stand-alone models. Train some first: "
            f"{command('retrain', f'--run_dir={path}')}."
        )
    architectures = dict.fromkeys(Architecture.from_text(text) for text in texts)
    return [a for a in architectures if a != space.all_on()]  # All On is no candidate


if __name__ == "__main__":
    command_line.run(
        main,
        settings.RunSettings,
        SearchSettings,
        command_line.strategy({**PROPOSERS, "learnt": Strategy(LearntSettings, learnt)}, "random"),
        settings.LocationSettings,
        settings.DistributionSettings,
        LimitSettings,
        SharingSettings,
    )
