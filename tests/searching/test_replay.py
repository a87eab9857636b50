"""A search that learns resumes as if it had not stopped: observations are replayed."""

from types import SimpleNamespace

import numpy as np
import pytest

import oneshot_tf as ost
from oneshot_tf.runs.candidates import Candidate
from oneshot_tf.searching import BUDGETS, RANKINGS, SearchJob
from oneshot_tf.strategies import PROPOSERS, Listed, Proposer

SPACE = ost.bender2018(num_blocks=2)
DIRECTORY = SimpleNamespace(
    group=lambda *_: SimpleNamespace(ghost_batch_size=32), space=lambda: SPACE,
    stack=lambda: None, facts=lambda: {"class_names": [], "image_size": 8},
)  # fmt: skip


class Climber(Proposer):
    """Proposes neighbours of the best architecture that it has observed."""

    limit = 1_000

    def __init__(self, seed=0):
        self.rng, self.seen, self.history = np.random.default_rng(seed), {}, []

    def propose(self, count):
        best = sorted(self.seen, key=lambda a: (-self.seen[a], str(a)))[:3]
        self.rng = np.random.default_rng([len(self.seen), *map(len, map(str, best))])
        new = dict.fromkeys(SPACE.sample(self.rng) for _ in range(4 * count))
        return [a for a in new if a not in self.seen][:count]

    def observe(self, architectures, accuracies):
        self.history.append(list(map(str, architectures)))
        self.seen.update(zip(architectures, accuracies))


def accuracy(architecture):
    return len(str(architecture)) % 17 / 17


def search(done, wanted, stop_after=None, proposer=None):
    """Runs a job's loop on made-up accuracies; returns its proposer."""
    proposer = proposer or Climber()
    job = SearchJob(
        directory=DIRECTORY, location=None, settings=None, record=None,
        file=SimpleNamespace(path="candidates.csv"), done=done, wanted=wanted, proposer=proposer,
    )  # fmt: skip
    for new in job.proposed():
        for architecture in new:
            if stop_after is not None and len(done) >= stop_after:
                return proposer
            order = job.orders[architecture]
            values = architecture, accuracy(architecture), 1.0, 10, 1, 1
            done[architecture] = Candidate(*values, order=order)
    return proposer


@pytest.mark.parametrize("stops", [[10], [64], [70, 71, 128]])
def test_a_resumed_search_proposes_and_observes_the_same(stops):
    whole, parts = {}, {}
    expected = search(whole, 200)
    for stop in stops:
        search(parts, 200, stop)
        assert len(parts) == stop
    found = search(parts, 200)
    assert list(parts) == list(whole)
    assert found.history == expected.history


def test_a_continued_search_proposes_what_a_longer_one_does():
    whole, parts = {}, {}
    search(whole, 150)
    search(parts, 90)
    search(parts, 150)
    assert list(parts) == list(whole)


@pytest.mark.parametrize("name", PROPOSERS)
def test_every_strategy_resumes_by_replay(name):
    """Killed after 11, 37 and 70 of 90 candidates, and with a line removed by hand."""
    values = {"evolution": {"population": 20}, "tournament": {"population": 20, "sample_size": 5},
              "predictor": {"first_random": 30, "pool": 40, "batch": 8},
              "genetic": {"generation_size": 20, "mutations": 8, "crossovers": 8}}  # fmt: skip
    values = {**values.get(name, {}), **({"sample_size": 5} if name == "evolution" else {})}

    def proposer():
        settings = PROPOSERS[name].settings(**values).for_budget(90)
        return PROPOSERS[name].make(SPACE, settings, 3)

    whole, parts = {}, {}
    search(whole, 90, proposer=proposer())
    assert len(whole) == 90
    for stop in (11, 37, 70, None):
        search(parts, 90, stop, proposer())
    assert list(parts) == list(whole)
    for removed in (list(whole)[40], list(whole)[83]):
        del parts[removed]
    # Fewer are wanted now, but a learner must see all that it has seen before.
    search(parts, 89, proposer=proposer())
    assert set(parts) == set(whole) or not proposer().learns
    assert [parts[a].order for a in whole if a in parts][:40] == list(range(1, 41))


def test_given_architectures_keep_their_orders():
    """A list that has grown at its front must not reuse an order."""
    given = ost.RandomSearch(SPACE, seed=0).propose(6)
    done = {}
    search(done, 3, proposer=Listed(given[3:]))
    search(done, 6, proposer=Listed(given))
    assert sorted(c.order for c in done.values()) == list(range(1, 7))


def test_candidates_that_a_learner_did_not_propose_are_named():
    done = dict.fromkeys([SPACE.sample(np.random.default_rng(99))])
    done = {a: Candidate(a, 0.5, 1.0, 10, 1, 1) for a in done}
    settings = PROPOSERS["evolution"].settings(population=20, sample_size=5)
    with pytest.raises(ost.InputError, match="1 candidates in .* were not proposed by this search"):
        search(done, 30, proposer=PROPOSERS["evolution"].make(SPACE, settings, 3))


def test_a_strategy_that_repeats_itself_ends(capsys):
    class Stubborn(Climber):
        limit = 50

        def propose(self, count):
            return [SPACE.sample(np.random.default_rng(0))] * count

    done = {}
    search(done, 5, proposer=Stubborn())
    said = capsys.readouterr().out
    assert len(done) == 1 and "repeated itself 10,0" in said and "1 of 5 candidates" in said


def test_a_strategy_without_proposals_says_so(capsys):
    entry = PROPOSERS["genetic"]
    settings = entry.settings(generation_size=4, generations=2, mutations=2, crossovers=2)
    search({}, 30, proposer=entry.make(SPACE, settings, 0))
    said = capsys.readouterr().out
    assert "found nothing new. The search ends with 8 of 30 candidates." in said


def test_every_way_to_spend_a_budget_is_named():
    assert set(BUDGETS) == {"full", "race"} and set(RANKINGS) == {"accuracy", "kl"}
    called = []
    job = SimpleNamespace(settings=SimpleNamespace(budget="full"))
    budgets = dict(BUDGETS)
    try:
        BUDGETS["full"] = called.append
        RANKINGS["accuracy"](job)
    finally:
        BUDGETS.update(budgets)
    assert called == [job]
