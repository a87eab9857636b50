"""A surrogate: predicts the accuracy of architectures from those scored so far."""

from typing import Any

import numpy as np


class Surrogate:
    """Bayesian ridge regression on masks and products of two masks.

    A product tells that two paths are used together. The regression chooses its own
    regularisation (scikit-learn's `BayesianRidge`), and it knows how uncertain it is.

    Attributes:
        noise: The standard deviation of an accuracy around the regression, after `fit`.
    """

    def __init__(self) -> None:
        self.noise = 0.0
        self._model: Any = None

    @staticmethod
    def features(masks: np.ndarray) -> np.ndarray:
        """Returns the features of masks `[A, P]`: float64 `[A, P + P (P - 1) / 2]`."""
        masks = np.asarray(masks, np.float64)
        first, second = np.triu_indices(masks.shape[1], 1)
        return np.concatenate([masks, masks[:, first] * masks[:, second]], axis=1)

    def fit(self, masks: np.ndarray, accuracies: np.ndarray) -> "Surrogate":
        """Learns from the masks `[A, P]` and accuracies `[A]` of at least two architectures."""
        from sklearn.linear_model import BayesianRidge  # here, so that other programs start faster

        features = self.features(masks)
        self._mean, scale = features.mean(axis=0), features.std(axis=0)
        self._scale = np.where(scale > 0, scale, 1.0)
        self._model = BayesianRidge().fit((features - self._mean) / self._scale, accuracies)
        self.noise = float(self._model.alpha_) ** -0.5
        return self

    def predict(self, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the expected accuracies of masks `[A, P]` and their standard errors, `[A]` each.

        The standard errors are those of the regression. `noise` is not in them.
        """
        features = (self.features(masks) - self._mean) / self._scale
        mean, deviation = self._model.predict(features, return_std=True)
        return mean, np.sqrt(np.maximum(deviation**2 - self.noise**2, 0.0))
