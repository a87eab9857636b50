"""Each search strategy is the published method: queues, generations, Q-values, predictions."""

import collections

import numpy as np
import pytest

import oneshot_tf as ost
from oneshot_tf.space.limited import LimitedSpace
from oneshot_tf.strategies import PROPOSERS, evolution, genetic, predictor, q_learning
from oneshot_tf.strategies.surrogate import Surrogate

SPACE = ost.bender2018()


def landscape(seed=0, noise=0.0):
    """An additive accuracy over the options of all decisions, and its optimum."""
    rng = np.random.default_rng(seed)
    values = [rng.random(d.num_options) for d in SPACE.decisions]
    most = sum(v.max() for v in values)
    optimum = SPACE.architecture(tuple(int(v.argmax()) for v in values))

    def score(architecture):
        genes = SPACE.genes(architecture)
        error = noise * np.random.default_rng([seed, *genes]).normal()
        return float(sum(v[g] for v, g in zip(values, genes)) / most + error)

    return score, optimum


def run(proposer, score, evaluations):
    """Runs a search as `SearchJob` does; returns the best accuracy after each evaluation."""
    known, best = {}, []
    while len(known) < evaluations:
        for architecture in (proposed := proposer.propose(64)):
            if architecture not in known and len(known) < evaluations:
                known[architecture] = score(architecture)
                best.append(max(known.values()))
        seen = [a for a in proposed if a in known]
        proposer.observe(seen, [known[a] for a in seen])
    return np.array(best)


def make(name, seed=0, space=SPACE, budget=300, **values):
    settings = PROPOSERS[name].settings(**values).for_budget(budget)
    return PROPOSERS[name].make(space, settings, seed)


@pytest.mark.parametrize("name", ["evolution", "tournament", "genetic", "predictor"])
def test_a_learner_beats_random_search_on_an_additive_landscape(name):
    """Twelve seeds, 300 evaluations: a sign test with p < 0.02. The predictor, slower, has two."""
    small = {"evolution": {"population": 50, "sample_size": 10},
             "tournament": {"population": 50, "sample_size": 10},
             "genetic": {}, "predictor": {"first_random": 50, "pool": 300}}[name]  # fmt: skip
    seeds, wins = range(12 if name != "predictor" else 2), 0
    for seed in seeds:
        score, _ = landscape(seed)
        found = run(make(name, seed, **small), score, 300)[-1]
        wins += found > run(make("random", seed), score, 300)[-1]
    assert wins >= len(seeds) - 2 if name != "predictor" else wins == len(seeds)


# ---------------------------------------------------------------------------- evolution


def evolve(ageing, cycles=200, brood=1, seed=0):
    score, _ = landscape(seed)
    search = evolution.Evolution(
        SPACE,
        population=20,
        sample_size=5,
        identity_rate=0.0,
        brood=brood,
        ageing=ageing,
        seed=seed,
    )
    history = []
    while len(history) < cycles:
        new = search.propose(64)
        scores = [score(a) for a in new]
        search.observe(new, scores)
        history += list(zip(map(SPACE.genes, new), scores))
    return search, history


@pytest.mark.parametrize("brood", [1, 8])
def test_with_ageing_the_population_is_the_youngest(brood):
    search, history = evolve(ageing=True, brood=brood)
    assert list(search.members) == history[-20:]


def test_the_best_dies_of_age_and_stays_without_ageing():
    aged, history = evolve(ageing=True)
    kept, history_kept = evolve(ageing=False)
    first = max(history[:20], key=lambda member: member[1])
    assert first not in aged.members
    best = max(history_kept, key=lambda member: member[1])
    assert best in kept.members and len(kept.members) == 20


def test_a_child_is_a_neighbour_of_the_best_of_a_sample():
    search, history = evolve(ageing=True, cycles=20)
    scores = dict(history)
    chosen = collections.Counter()
    for _ in range(300):
        (child,) = search.propose(1)
        parent = SPACE.genes(search.parent(child))
        genes = SPACE.genes(child)
        (where,) = np.flatnonzero(np.not_equal(parent, genes))
        assert genes[where] in SPACE.decisions[where].neighbours[parent[where]]
        chosen[sum(scores[parent] < other for other in scores.values())] += 1
    # The chance that the best of 5 draws of 20, with replacement, has rank i.
    expected = [300 * ((20 - i) ** 5 - (19 - i) ** 5) / 20**5 for i in range(3)]
    for rank, number in enumerate(expected):
        assert abs(chosen[rank] - number) < 4.5 * number**0.5


def test_a_copy_costs_nothing_and_is_young_again():
    search = evolution.Evolution(SPACE, population=4, sample_size=4, identity_rate=0.99, seed=1)
    new = search.propose(64)
    search.observe(new, [0.1, 0.2, 0.3, 0.4])
    (copy, *_) = search.propose(1)
    search.observe([copy], [0.4])
    assert copy in new and search.members[-1][0] == SPACE.genes(copy)


def test_a_population_must_hold_its_sample():
    with pytest.raises(ost.InputError, match="--population must be at least --sample_size=25"):
        evolution.EvolutionSettings(population=10)


# ---------------------------------------------------------------------------- genetic


def test_generations_have_the_published_children():
    settings = genetic.GeneticSettings(
        generation_size=20, generations=3, parents=4, mutations=8, crossovers=8
    )
    search = genetic.Genetic(SPACE, settings, seed=0)
    score, _ = landscape()
    everyone = []
    for generation in range(3):
        new = search.propose(64)
        assert len(new) == 20 and search.propose(64) == []  # not before these are scored
        children = [a for a in new if search.parent(a) is not None]
        assert len(children) == (0 if generation == 0 else 16)
        parents = sorted(everyone, key=score, reverse=True)[:4]
        for child in children[8:]:
            genes = [SPACE.genes(p) for p in parents]
            assert all(g in column for g, column in zip(SPACE.genes(child), zip(*genes)))
        assert all(search.parent(child) in parents for child in children)
        everyone += new
        search.observe(new, [score(a) for a in new])
    assert len(set(everyone)) == 60 and search.propose(64) == []
    assert search.limit == 60


def test_children_that_limits_forbid_are_replaced_by_random_ones():
    allowed = set(ost.RandomSearch(SPACE, seed=5).propose(120))
    settings = genetic.GeneticSettings(
        generation_size=10, generations=3, parents=2, mutations=5, crossovers=5
    )

    class Few(LimitedSpace):
        def sample(self, rng):
            return sorted(allowed)[int(rng.integers(len(allowed)))]

    search = genetic.Genetic(Few(SPACE, lambda some: [a in allowed for a in some]), settings)
    for _ in range(3):
        new = search.propose(64)
        assert len(new) == 10 and set(new) <= allowed
        search.observe(new, [0.5] * 10)
    assert search.short > 10


def test_a_generation_must_hold_its_children():
    with pytest.raises(ost.InputError, match="--generation_size must be at least"):
        genetic.GeneticSettings(generation_size=10)
    with pytest.raises(ost.InputError, match="--generations must be at least 1"):
        genetic.GeneticSettings(generations=0)


# ---------------------------------------------------------------------------- Q-learning


def test_updates_are_those_by_hand():
    """One block has two decisions, of 3 and 28 options; rate 0.1, discount 0.9."""
    space = ost.bender2018(num_blocks=1)
    settings = q_learning.QLearningSettings(episodes=1, q_learning_rate=0.1, discount=0.9)
    agent = q_learning.QLearning(space, settings)
    agent.update((2, 5), 0.8)
    assert agent.tables[1][2, 5] == pytest.approx(0.5 + 0.1 * (0.8 - 0.5))  # 0.53
    assert agent.tables[0][0, 2] == pytest.approx(0.5 + 0.1 * (0.9 * 0.53 - 0.5))  # back from it
    agent.update((2, 6), 0.2)
    assert agent.tables[1][2, 6] == pytest.approx(0.47)
    second = 0.4977 + 0.1 * (0.9 * 0.53 - 0.4977)  # the maximum is still that of option 5
    assert agent.tables[0][0, 2] == pytest.approx(second)
    assert np.delete(agent.tables[1].ravel(), [2 * 28 + 5, 2 * 28 + 6]).tolist() == [0.5] * 82


def test_epsilon_follows_the_published_schedule():
    agent = q_learning.QLearning(SPACE, q_learning.QLearningSettings(episodes=2700))
    counts = collections.Counter(agent.epsilon(i) for i in range(2700))
    assert counts == {**dict.fromkeys((0.9, 0.8, 0.7), 100), 1.0: 1500,
                      **dict.fromkeys((0.6, 0.5, 0.4, 0.3, 0.2, 0.1), 150)}  # fmt: skip
    assert agent.epsilon(10**6) == 0.1
    short = q_learning.QLearning(SPACE, q_learning.QLearningSettings().for_budget(27))
    counts = collections.Counter(short.epsilon(i) for i in range(27))
    assert counts[1.0] == 15 and len(counts) == 10


def test_a_repeat_does_not_lower_epsilon():
    agent = q_learning.QLearning(SPACE, q_learning.QLearningSettings(episodes=4, replays=0))
    architecture = SPACE.sample(np.random.default_rng(0))
    agent.observe([architecture] * 5, [0.5] * 5)
    assert agent.epsilon(1) == 1.0 and len(agent.propose(64)) == 1  # only the second is random


def test_a_greedy_agent_finds_the_best_of_an_exhausted_space():
    space = ost.bender2018(num_blocks=1)
    rng = np.random.default_rng(0)
    settings = q_learning.QLearningSettings(episodes=1, q_learning_rate=0.3, replays=0)
    agent = q_learning.QLearning(space, settings)
    scores = {}
    for inputs in range(3):
        for operations in range(28):
            scores[inputs, operations] = float(rng.random())
    for _ in range(100):
        for genes, score in scores.items():
            agent.update(genes, score)
    assert space.genes(agent.greedy()) == max(scores, key=scores.get)


# ---------------------------------------------------------------------------- the predictor


def test_the_surrogate_is_exact_on_additive_accuracies_and_knows_what_it_does_not_know():
    space = ost.bender2018(num_blocks=2)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=space.num_paths)
    masks = space.masks(ost.RandomSearch(space, seed=0).propose(400))
    scores = masks @ weights
    surrogate = Surrogate().fit(masks[:300], scores[:300])
    mean, error = surrogate.predict(masks[300:])
    assert np.corrcoef(mean, scores[300:])[0, 1] > 0.999
    few = Surrogate().fit(masks[:20], scores[:20] + rng.normal(0, 0.1, 20))
    assert few.predict(masks[300:])[1].mean() > 10 * error.mean()


def test_expected_improvement_against_an_integral():
    rng = np.random.default_rng(0)
    draws = rng.normal(0.3, 0.2, 400_000)
    expected = np.maximum(draws - 0.5, 0).mean()
    value = predictor.expected_improvement(np.array([0.3]), np.array([0.2]), 0.5, rng)
    assert value[0] == pytest.approx(expected, rel=0.02)


def test_the_predictor_keeps_its_share_of_random_proposals():
    score, _ = landscape()
    search = make("predictor", first_random=30, pool=100, batch=20, random_share=0.5)
    random = total = 0
    for _ in range(8):
        new = search.propose(64)
        search.observe(new, [score(a) for a in new])
        if total or len(new) == 20:
            total += len(new)
            random += sum(search.parent(a) is None for a in new)
    assert total >= 120 and random >= 0.3 * total  # the pool has random ones, too
