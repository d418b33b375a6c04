"""Predictions of an instance loss, with its shrinkage towards the class prior taken back.

In random bags of size k the instance loss is least at p* + (p - p*) / k, with p* the prior: ranking
is kept, but the most probable class is nearly always the most frequent one. So what a model says,
f, is read as p* + k (f - p*), kept within what probabilities can be. Prior and bag size are what
the sites' bags tell; labels have no part in it. Of a real number the mean takes the place of p*.

>>> said = {"test": {"a": (np.log([[0.4, 0.6], [0.5, 0.5]]), np.array([1, 0]))}}
>>> ((scores, _),) = unshrunk(said, np.array([0.4, 0.6]), 4.0)["test"].values()
>>> [[round(float(p), 3) for p in row] for row in np.exp(scores)]
[[0.4, 0.6], [0.8, 0.2]]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedsim.data.population import Population
from fedsim.flower.scoring import Predictions

UNSHRUNK = "unshrunk"
SMALLEST = 1e-6
"""Probability below which none is taken, so that every loss stays finite."""


def told(population: Population) -> tuple[NDArray[np.float64], float]:
    """Return what sites that all know bags alone tell of p* and of the mean bag size.

    Returns:
        The class prior, (class,), or the mean of a real number, (1,); and the size.
    """
    bags = [population.bags(site, "train")[0] for site in range(len(population))]
    num = sum(len(b.of_example) for b in bags)
    mean = np.sum([b.sizes @ b.responses for b in bags], axis=0) / num
    if population.targets is None:
        kept = np.maximum(mean, 0)
        mean = kept / kept.sum()
    return mean, num / sum(len(b.sizes) for b in bags)


def unshrunk(predictions: Predictions, prior: NDArray[np.float64], size: float) -> Predictions:
    """Return predictions with the shrinkage of bags of a size taken back.

    Args:
        predictions: split -> site -> log-probabilities, or numbers, and labels.
        prior: p*, (class,), or the mean of a real number, (1,).
        size: k.
    """

    def widened(scores: NDArray[np.float32]) -> NDArray[np.float32]:
        said = scores.astype(np.float64)
        if len(prior) == 1:
            return (prior + size * (said - prior)).astype(np.float32)
        p = np.maximum(prior + size * (np.exp(said) - prior), SMALLEST)
        log_p: NDArray[np.float64] = np.log(p / p.sum(axis=1, keepdims=True))
        return log_p.astype(np.float32)

    return {
        split: {site: (widened(scores), labels) for site, (scores, labels) in by_site.items()}
        for split, by_site in predictions.items()
    }
