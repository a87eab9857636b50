"""The candidates of a file as a table, and the rules that its lines must obey."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from oneshot_tf.cost import counts
from oneshot_tf.runs.candidates import Candidate, order_key
from oneshot_tf.space.space import Space
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.json_files import check_run, read_json

COLUMNS = ("rank", "candidate_accuracy", "cross_entropy", "num_images", "divergence",
           "parameters", "multiply_adds", "architecture")  # fmt: skip
ORIGIN = ("order", "parent")  # earlier versions did not write these columns
AGAIN = "Remove this line, and search will evaluate the candidate again."
_ROUNDING = 0.501e-6  # accuracies are rounded to six decimals


@dataclasses.dataclass(frozen=True)
class Table:
    """Candidates as columns of N values, so that each rule checks all of them at once.

    Args:
        where: Returns a name for a row, given its index: a line of a file, or an architecture.
        candidate_accuracy, cross_entropy, divergence: As in `Candidate`, with NaN for None.
        rank, num_images, parameters, multiply_adds, architecture, order, parent: As in `Candidate`.
    """

    where: Callable[[int], str]
    rank: np.ndarray
    candidate_accuracy: np.ndarray
    cross_entropy: np.ndarray
    num_images: np.ndarray
    divergence: np.ndarray
    parameters: np.ndarray
    multiply_adds: np.ndarray
    architecture: np.ndarray
    order: np.ndarray
    parent: np.ndarray

    @classmethod
    def of(cls, candidates: list[Candidate]) -> "Table":
        """Returns the table of candidates that are not in a file."""
        columns = {}
        for name in (*COLUMNS, *ORIGIN):
            values = [getattr(c, name) for c in candidates]
            dtype = object if name == "architecture" else float  # None becomes NaN
            columns[name] = np.array(values, dtype)
        return cls(lambda row: str(candidates[row].architecture), **columns)

    def candidates(self) -> list[Candidate]:
        """Returns the candidates, in order."""
        known = {
            name: [None if math.isnan(value) else value for value in getattr(self, name).tolist()]
            for name in ("candidate_accuracy", "cross_entropy", "divergence")
        }
        rest = (self.num_images, self.parameters, self.multiply_adds, self.rank)
        origin = (self.order.tolist(), self.parent.tolist())
        return [
            Candidate(*values)
            for values in zip(
                self.architecture, known["candidate_accuracy"], known["cross_entropy"],
                *(column.tolist() for column in rest), known["divergence"], *origin,
            )
        ]  # fmt: skip

    def refuse(self, wrong: np.ndarray, words: str, *values: Any, fix: str = AGAIN) -> None:
        """Raises InputError for the first row that breaks a rule.

        Args:
            wrong: Bool `[N]`, true for the rows that break the rule.
            words: The error message, with a `{}` for each of `values`.
            *values: Texts and numbers, or arrays `[N]` with a value for each row.
            fix: The fix to suggest.
        """
        if wrong.any():
            row = int(np.argmax(wrong))
            said = [v[row] if isinstance(v, np.ndarray) else v for v in values]
            raise InputError(f"{self.where(row)}: {words.format(*said)} {fix}")


@dataclasses.dataclass(frozen=True)
class Run:
    """Facts of a run that its candidates must agree with.

    Args:
        space, stack: Search space and stack of the one-shot model.
        num_classes, image_size: Number of classes, and height and width of the images.
        num_images: Number of validation images.
        search: "full", "kl", "race" or "table". None if search.json is lost or of an early
            version.
    """

    space: Space
    stack: Stack
    num_classes: int
    image_size: int
    num_images: int
    search: str | None

    @classmethod
    def of(cls, directory: Any) -> "Run":
        """Reads the facts from the files of a `RunDirectory`.

        Raises:
            InputError: search.json is damaged, or belongs to another run or to other images.
        """
        facts, path = directory.facts(), directory.searched / "search.json"
        num_images, kind = facts["fingerprint"]["validation"][0], None
        if path.exists():
            search = read_json(path)
            check_run(path, search, directory.run_id())
            if search.get("num_images", num_images) != num_images:
                raise InputError(
                    f"{path} is damaged: `num_images` must be {num_images}, the number of "
                    f"validation images; got {search['num_images']}. Restore the original file."
                )
            kind = search.get("budget")
            kind = "kl" if kind == "full" and search.get("rank_by") == "kl" else kind
            kind = "table" if search.get("evaluator") == "table" else kind
        classes, size = len(facts["class_names"]), facts["image_size"]
        kind = kind if kind in ("full", "kl", "race", "table") else None
        return cls(directory.space(), directory.stack(), classes, size, num_images, kind)


def check_all(table: Table, candidates: list[Candidate], run: Run) -> None:
    """Applies all rules to the lines of a file.

    Args:
        table: The lines of the file, as a table.
        candidates: The same lines, as candidates.
        run: The run in whose directory the file is.

    Raises:
        InputError: A line breaks a rule. The message names the first one.
    """
    check_measured(table)
    _check_once(table)
    _check_empty(table, run)
    _check_images(table, run)
    _check_shares(table)
    _check_costs(table, run)
    _check_ranks(table, candidates)
    _check_origins(table)


def check_measured(table: Table) -> None:
    """Raises InputError for numbers that no measurement can give."""
    images, accuracy = table.num_images, table.candidate_accuracy
    for name in ("num_images", "parameters", "multiply_adds", "rank", *ORIGIN):
        values = getattr(table, name)
        table.refuse(values < 0, "`{}` must be at least 0; got {:.0f}.", name, values)
    for name, values in (("candidate_accuracy", accuracy), ("cross_entropy", table.cross_entropy)):
        table.refuse(
            (images > 0) & ~((values >= 0) & np.isfinite(values)),
            "`{}` must be a finite number of at least 0, because `num_images` is {:.0f}; got {}.",
            name, images, values,
        )  # fmt: skip
        table.refuse(values < 0, "`{}` must be at least 0; got {}.", name, values)
    table.refuse(accuracy > 1, "`candidate_accuracy` must be at most 1; got {}.", accuracy)
    infinite = np.isinf(table.divergence)
    table.refuse(infinite, "`divergence` must be finite; got {}.", table.divergence)


def _check_once(table: Table):
    """Raises InputError if an architecture has more than one line."""
    if len(set(table.architecture)) == len(table.architecture):
        return
    first: dict[Any, Any] = {}
    again = [first.setdefault(a, row) != row for row, a in enumerate(table.architecture)]
    words, fix = "{} has two lines.", "Remove one of the two lines."
    table.refuse(np.array(again), words, table.architecture, fix=fix)


def _check_empty(table: Table, run: Run):
    """Raises InputError for a value that no images can give."""
    images = table.num_images
    known = table.candidate_accuracy
    if run.search == "table":
        table.refuse(np.isnan(known), "`candidate_accuracy` is missing, but the table has it.")
        known = np.full(len(images), np.nan)
    for name, values in (("candidate_accuracy", known), ("cross_entropy", table.cross_entropy)):
        table.refuse(
            (images == 0) & ~np.isnan(values),
            "`{}` must be empty, because `num_images` is 0; got {}.", name, values,
        )  # fmt: skip


def _check_images(table: Table, run: Run):
    """Raises InputError for a number of images that the run's kind of search cannot give.

    Most searches score every candidate on all validation images, some on fewer or none.
    """
    images, whole = table.num_images, run.num_images
    wrong, right = {
        "full": (images != whole, f"{whole}"),
        "kl": ((images != whole) & (images != 0), f"0 or {whole}"),
        "table": (images != 0, "0"),
        "race": ((images < 1) | (images > whole), f"from 1 to {whole}"),
        None: (images > whole, f"at most {whole}"),
    }[run.search]
    words = "`num_images` must be {}, because the run has {} validation images; got {}."
    table.refuse(wrong, words, right, whole, images)


def _check_shares(table: Table):
    """Raises InputError unless each accuracy is a whole number of images over `num_images`."""
    accuracy, images = table.candidate_accuracy, table.num_images
    share = np.rint(accuracy * images) / np.maximum(images, 1)
    table.refuse(
        (images > 0) & (np.abs(share - accuracy) > _ROUNDING),
        "`candidate_accuracy` must be a multiple of 1/{}, because `num_images` is {}; got {:.6f}.",
        images, images, accuracy,
    )  # fmt: skip


def _check_costs(table: Table, run: Run):
    """Raises InputError unless parameters and multiply-adds follow from the architecture."""
    net = (run.space, table.architecture, run.stack, run.num_classes, run.image_size)
    words = "`{}` must be {}, which follows from the architecture; got {}."
    for name, right in zip(("parameters", "multiply_adds"), counts.costs(*net)):
        found = getattr(table, name)
        table.refuse(found != right, words, name, right, found)


def _check_ranks(table: Table, candidates: list[Candidate]):
    """Raises InputError unless ranks rise from better to worse candidates.

    Gaps are allowed, because a user may remove a line. Empty ranks are allowed too, because all
    candidates have them until a search is done. Search rewrites the ranks.
    """
    order = [row for row in np.argsort(table.rank, kind="stable").tolist() if table.rank[row]]
    fix = "Leave all ranks empty, and search will write them again."
    ranks, keys = table.rank[order], [order_key(candidates[row]) for row in order]
    wrong, before = np.zeros(len(candidates), bool), np.zeros(len(candidates), int)
    wrong[order[1:]] = ranks[1:] == ranks[:-1]
    table.refuse(wrong, "`rank` is {}, the same as in another line.", table.rank, fix=fix)
    wrong[order[1:]] = [better > worse for better, worse in itertools.pairwise(keys)]
    before[order[1:]] = ranks[:-1]
    words = "`rank` is {}, but the candidate of rank {} is not better than this one."
    table.refuse(wrong, words, table.rank, before, fix=fix)


def _check_origins(table: Table):
    """Each proposal has its own order, and its parent comes before it.

    Gaps are allowed, as in ranks.
    """
    order, parent = table.order, table.parent
    table.refuse(
        (parent > 0) & (parent >= order),
        "`parent` must be less than `order`, {}; got {}.", order, parent,
    )  # fmt: skip
    again = np.ones(len(order), bool)
    again[np.unique(order, return_index=True)[1]] = False
    table.refuse(again & (order > 0), "`order` is {}, as in another line.", order)
