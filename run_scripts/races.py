"""Simulates races for several distributions of candidate accuracy.

    python run_scripts/races.py                                # takes minutes
    python run_scripts/races.py --candidates=1000 --keep=20 --confidence=0.98 --races=3

Draws true accuracies and image outcomes and lets `Race` decide. For each distribution, it prints
the share of the true best that the race measured on all images (mean, standard deviation and least
over races), and the share of all image evaluations that the race cost. Images differ in difficulty,
with a standard deviation of 1 on the scale of log odds. The probability that a candidate gives the
right class follows the same log odds, plus noise of standard deviation 1.5 on each image, plus a
value of standard deviation 0.5 that all images of the candidate share, since some models are more
confident than others.
"""

import argparse
import pathlib
import tempfile

import numpy as np

from oneshot_tf.evaluation.racing import Race

IMAGES, PART = 5000, 128

POPULATIONS = {
    "normal": lambda rng, z: 0.47 + 0.05 * z,
    "skewed": lambda rng, z: 0.47 + 0.05 * z - 0.012 * z**2 * (z < 0),
    "long tail": lambda rng, z: 0.15 + 0.04 * rng.gamma(1.0, size=len(z)),
    "two groups": lambda rng, z: np.where(rng.random(len(z)) < 0.05, 0.6, 0.2) + 0.03 * z,
    "half broken": lambda rng, z: np.where(
        rng.random(len(z)) < 0.5, 0.5 + 0.05 * z, 0.12 + 0.02 * z
    ),
    # Like figure 4 of the paper at low dropout rates: nearly all at the bottom, a few far above.
    "snout": lambda rng, z: np.where(
        rng.random(len(z)) < 0.01, rng.uniform(0.3, 0.9, len(z)), 0.12 + 0.01 * z
    ),
}


class Recorded:
    """An evaluator whose outcomes were drawn beforehand."""

    chunk_size = PART

    def __init__(self, hits, losses):
        self.hits, self.losses, self.num_images = hits, losses, hits.shape[1]

    def outcomes(self, names, parts):
        """Returns outcomes as `CandidateEvaluator.outcomes` does."""
        columns = slice(parts[0] * PART, (parts[-1] + 1) * PART)
        rows = [int(name) for name in names]
        return self.hits[rows, columns], self.losses[rows, columns]


def outcomes(kind: str, count: int, images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws whether each candidate classifies each image correctly, and its cross-entropies.

    Returns:
        Bool and float32, `[count, images]` each.
    """
    rng = np.random.default_rng(1000 + seed)
    accuracy = np.clip(POPULATIONS[kind](rng, rng.normal(size=count)), 0.01, 0.99)
    # The factor makes a candidate's mean over images about equal to its accuracy.
    skill = np.log(accuracy / (1.0 - accuracy)) * (1.0 + 1.0 / 2.9) ** 0.5
    odds = skill[:, None] + rng.normal(size=images)
    hits = rng.random([count, images]) < 1.0 / (1.0 + np.exp(-odds))
    odds += 1.5 * rng.normal(size=odds.shape) + 0.5 * rng.normal(size=[count, 1])
    return hits, np.logaddexp(0.0, -odds).astype(np.float32)


def share_kept(race, hits, keep: int) -> float:
    """Returns the share of the best `keep` that the race measured on all images.

    Candidates that tie for the last places count as equally good.
    """
    right, whole = hits.sum(axis=1), race.seen == hits.shape[1]
    least = np.sort(right)[-keep]
    above = right > least
    found = np.sum(above & whole)
    return float(found + min(np.sum((right == least) & whole), keep - above.sum())) / keep


def main():
    """Prints one line per distribution."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=2000, help="Candidates in a race.")
    parser.add_argument("--keep", type=int, default=100, help="Number of the best to keep.")
    parser.add_argument("--confidence", type=float, default=0.9, help="Confidence of a race.")
    parser.add_argument("--races", type=int, default=10, help="Races per distribution.")
    flags = parser.parse_args()
    print(flags)
    for kind in POPULATIONS:
        kept, cost = [], []
        for seed in range(flags.races):
            hits, losses = outcomes(kind, flags.candidates, IMAGES, seed)
            names = [str(i) for i in range(flags.candidates)]
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "race.npz"
                race = Race(path, Recorded(hits, losses), names, flags.keep, flags.confidence)
                race.run(lambda *_: None)
            kept.append(share_kept(race, hits, flags.keep))
            cost.append(race.cost)
        print(
            f"{kind:12s} kept {np.mean(kept):.3f} ± {np.std(kept):.3f} (least {min(kept):.2f}), "
            f"cost {np.mean(cost):.3f} ± {np.std(cost):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
