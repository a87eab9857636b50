"""Searches that several copies of the program do together, one block of candidates at a time.

All copies propose the same candidates, because the proposer does not learn. The first copy plans:
it divides the candidates into blocks, and writes the plan. Each copy then claims a block, scores
it, and writes its candidates to a file. The name of the file says which candidates it holds. When
all blocks are done, one copy puts them into candidates.csv and removes the folder of the claims.

Planning and putting together happen in turn: never in two copies at the same time.
"""

import contextlib
import functools
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

from oneshot_tf.devices.distribution import is_chief, of_all_workers
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Candidate, ranked
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.search_record import SearchRecord, check_same_search, note_cost
from oneshot_tf.searching.job import SearchJob
from oneshot_tf.searching.scorers import SCORERS, Scorer
from oneshot_tf.searching.stand_alone import FOLDER as TRAININGS
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.strategies import Proposer
from oneshot_tf.system.claims import Claim, Claims
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import (
    discard_folder,
    make_folder,
    remove_folder,
    remove_leftovers,
    writing,
)
from oneshot_tf.system.json_files import check_form, check_run, read_json, write_json
from oneshot_tf.system.locks import in_turn
from oneshot_tf.system.progress import Progress
from oneshot_tf.system.sharing import do_together

FOLDER = "claims"
_PLAN = "plan.json"
_FORM = {"candidates": int, "first": int, "block_size": int, "proposals": str}


def check_shareable(search: Any, proposer: Proposer) -> None:
    """Makes sure that copies can share a search.

    Args:
        search: The `SearchSettings`.
        proposer: The proposer of the search.

    Raises:
        InputError: Scores of some candidates depend on those of others, or take no time.
    """
    allowed = {"evaluator": tuple(SCORERS), "budget": ("full",), "rank_by": ("accuracy",)}
    for name, values in allowed.items():
        value = getattr(search, name)
        if value not in values:
            raise InputError(
                f"--share_work needs --{name}={' or '.join(values)}; got --{name}={value}. Leave "
                "out one of the two flags."
            )
    if proposer.learns:
        raise InputError(
            "--share_work needs a --strategy whose proposals do not depend on accuracies, for "
            "example random. Choose that one, or leave out --share_work."
        )


def is_planned(directory: RunDirectory) -> bool:
    """Returns whether copies have begun to share the search of a `RunDirectory`."""
    return (directory.searched / FOLDER / _PLAN).exists()


def take_back(directory: RunDirectory, file: CandidateFile) -> None:
    """Adds the blocks that copies finished to candidates.csv, and removes their folder.

    A search without --share_work calls it, so it continues where the copies stopped. The caller
    holds the lock of the search.

    Args:
        directory: The run.
        file: The file of candidates.

    Raises:
        InputError: candidates.csv cannot be read or written.
    """
    folder = directory.searched / FOLDER
    if is_chief() and folder.is_dir():
        known = file.read()
        done, new = {c.architecture for c in known}, {}
        for path in sorted(folder.glob("block_*.csv")):
            found = _read(directory, path)
            new.update({c.architecture: c for c in found if c.architecture not in done})
        if new:
            file.write([*known, *new.values()])
        discard_folder(folder)
    of_all_workers(0)  # the others wait until candidates.csv is complete


def share(job: SearchJob, seconds: float) -> bool:
    """Scores the candidates of a search together with other copies of the program.

    At the end, `job.done` holds all candidates, whoever scored them.

    Args:
        job: The search, which `check_shareable` accepts.
        seconds: Time until the claim of a copy that died expires.

    Returns:
        Whether this copy wrote candidates.csv.

    Raises:
        InputError: The copies have different settings, or one of the reasons why `EVALUATORS`
            raise it.
    """
    before = dict(job.done)
    for new in job.proposed():
        job.done |= dict.fromkeys(new)
    proposals = [a for a in job.done if a not in before]
    copy = _Copy(job, SCORERS[job.settings.evaluator](job), seconds)
    copy.scorer.load()
    with in_turn(job.directory.searched, "plan the search"):
        blocks = copy.join(proposals)
    written = copy.work(blocks)
    job.refresh()
    return written


class _Copy:
    """One copy of a shared search.

    Args:
        job: The search.
        scorer: Scores candidates.
        seconds: Time until a claim expires.
    """

    def __init__(self, job: SearchJob, scorer: Scorer, seconds: float):
        self.job, self.scorer, self.seconds = job, scorer, seconds
        self.folder = job.directory.searched / FOLDER
        self._plan: dict[str, Any] = {}
        self._started = False

    def join(self, proposals: Sequence[Architecture]) -> dict[str, list[Architecture]]:
        """Reads the plan, or makes it. Returns the blocks by name; none if all work is done."""
        job, directory = self.job, self.job.directory
        job.refresh()  # another copy may have put its results together meanwhile
        todo = [a for a in proposals if a not in job.done]
        if not todo:
            discard_folder(self.folder)
            return {}
        planned, record = is_planned(directory), job.record
        if planned or job.done:
            check_same_search(directory, record.settings)
        known = planned or bool(job.done)
        job.record = SearchRecord(directory, record.settings, new=not known, writes=not planned)
        about = {
            "candidates": job.wanted,
            "first": len(job.done),
            "proposals": _digest(todo),
            "run_id": directory.run_id(),
        }
        if planned:
            self._plan = self._read_plan(about)
        else:
            self._start()
            self._plan = {**about, "block_size": self.scorer.block_size(todo)}
        job.begin()
        if not planned:
            write_json(make_folder(self.folder) / _PLAN, self._plan)
        size = self._plan["block_size"]
        blocks = [todo[first : first + size] for first in range(0, len(todo), size)]
        return {f"block_{i + 1:05d}_{_digest(block)}": block for i, block in enumerate(blocks)}

    def work(self, blocks: dict[str, list[Architecture]]) -> bool:
        """Scores blocks until all are done. Returns whether this copy put them together."""
        if not blocks:
            return False
        self._start()
        progress = Progress("search", len(blocks), "blocks")
        with Claims(self.folder, self.seconds) as claims:
            while True:
                do_together(
                    claims, list(blocks), functools.partial(self._do, blocks),
                    lambda name: self._path(name).exists(), self._is_over, progress,
                )  # fmt: skip
                with in_turn(self.job.directory.searched, "put the blocks together"):
                    if self._is_over():
                        return False
                    found = [c for name in blocks for c in self._result(name, blocks[name])]
                    if len(found) == sum(map(len, blocks.values())):
                        self._write(found)
                        return True

    def _start(self) -> None:
        if not self._started:
            self.scorer.start()
            self._started = True

    def _read_plan(self, about: dict[str, Any]) -> dict[str, Any]:
        """Returns the plan. Raises InputError if it is damaged, or of other candidates."""
        path = self.folder / _PLAN
        try:
            plan = read_json(path)
            check_run(path, plan, about["run_id"])
            check_form(path, plan, _FORM)
            if plan["block_size"] < 1:
                raise InputError(f"{path} is damaged: a block must have at least 1 candidate.")
        except InputError as error:
            raise InputError(
                f"{error} To plan anew, end all copies and remove {self.folder}. This loses the "
                "candidates in it."
            ) from None
        if plan["candidates"] != about["candidates"]:
            raise InputError(
                f"The copies of the search in {self.folder.parent} evaluate {plan['candidates']:,} "
                f"candidates; this one wants {about['candidates']:,}. Give --num_candidates="
                f"{plan['candidates']} until they are done."
            )
        if any(plan[name] != value for name, value in about.items()):
            raise InputError(
                f"{self.folder.parent / 'candidates.csv'} has changed since copies began to share "
                f"the search. Restore it, or end all copies and remove {self.folder}."
            )
        return plan

    def _is_over(self) -> bool:
        path = self.folder / _PLAN
        try:
            return read_json(path) != self._plan
        except InputError:
            if path.exists():
                raise
            return True

    def _do(self, blocks: dict[str, list[Architecture]], claim: Claim) -> None:
        block = blocks[claim.name]
        found = self.scorer.score(block, claim)
        CandidateFile(self.job.directory, path=self._path(claim.name)).write(found)
        if not claim.lost():  # otherwise another copy may be training there
            self.scorer.clean(block)

    def _path(self, name: str) -> pathlib.Path:
        return self.folder / f"{name}.csv"

    def _result(self, name: str, block: list[Architecture]) -> list[Candidate]:
        """Returns the candidates of a block; none if its file is damaged, and removes it."""
        found = _read(self.job.directory, self._path(name))
        if [c.architecture for c in found] == block:
            return found
        with writing(self._path(name)), contextlib.suppress(FileNotFoundError):
            self._path(name).unlink()
        return []

    def _write(self, found: list[Candidate]) -> None:
        """Writes candidates.csv and search.json, and removes the folder of the claims."""
        directory, file = self.job.directory, self.job.file
        for name in ("candidates.csv", "search.json"):
            remove_leftovers(directory.searched, name)
        self.job.refresh()
        best = ranked([*self.job.candidates(), *found])
        file.write(best)
        note_cost(directory, best)
        if self.job.settings.evaluator == "stand_alone":
            remove_folder(directory.searched / TRAININGS)
        discard_folder(self.folder)


def _read(directory: RunDirectory, path: pathlib.Path) -> list[Candidate]:
    """Returns the candidates of a block; none if the file is damaged."""
    try:
        return CandidateFile(directory, path=path).read()
    except InputError as error:
        print(f"{error} The block will be evaluated again.", flush=True)
        return []


def _digest(architectures: Sequence[Architecture]) -> str:
    text = "\n".join(map(str, architectures))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
