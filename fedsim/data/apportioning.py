"""From shares of classes to whole examples at sites: rounding, topping up, dealing out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def apportion(shares: FloatArray, num_examples: IntArray) -> IntArray:
    """Round shares of each class to whole examples, (site, class).

    Each count is the exact share rounded down or up. What is left of a class goes to the sites
    that are furthest behind their due over the classes so far (largest remainders with carry), so
    a site's total stays close to its due too. A share of 0 gets nothing.
    """
    due = np.round(shares * num_examples, 9)  # 2.9999999999 is 3: no remainder from float noise
    counts = np.floor(due).astype(np.int64)
    behind = np.zeros(len(shares))
    for label, total in enumerate(num_examples):
        remainders = due[:, label] - counts[:, label]
        behind += remainders
        order = np.lexsort((-behind, remainders == 0))
        raised = order[: total - counts[:, label].sum()]
        counts[raised, label] += 1
        behind[raised] -= 1
    return counts


def fill(counts: IntArray, shares: FloatArray, least: int, rng: np.random.Generator) -> IntArray:
    """Return counts, (site, class), with at least `least` examples at every site.

    Each example that is missing somewhere comes from the site that is largest at that moment; its
    class is drawn in proportion to what that site has of it times the share of the receiving site
    in it, or to the former alone if they have no class in common.

    Guarantees: the number of examples per class is unchanged; a site with `least` examples or
    more is not brought below it, given `counts.sum() >= least * len(counts)`.
    """
    counts = counts.copy()
    sizes = counts.sum(axis=1)
    for site in np.flatnonzero(sizes < least):
        while sizes[site] < least:
            donor = int(sizes.argmax())
            wanted = counts[donor] * shares[site]
            weights = wanted if wanted.sum() > 0 else counts[donor]
            label = rng.choice(len(weights), p=weights / weights.sum())
            counts[donor, label] -= 1
            counts[site, label] += 1
            sizes[donor] -= 1
            sizes[site] += 1
    return counts


def as_trained(shares: FloatArray, counts: IntArray, filled: IntArray) -> FloatArray:
    """Return the shares for the other splits, given what happened to the training split.

    Examples that `fill` moved count into the shares, and a site without training examples of a
    class has no share in it. A class without any training examples keeps its shares.
    """
    num_examples = filled.sum(axis=0)
    moved = (filled - counts) / np.maximum(num_examples, 1)
    trained = np.where(filled > 0, np.maximum(shares + moved, 0), 0)
    return np.where(num_examples > 0, trained / np.maximum(trained.sum(axis=0), 1e-300), shares)


def deal(labels: IntArray, counts: IntArray, rng: np.random.Generator) -> list[IntArray]:
    """Return for each site the sorted indices of `counts[site, class]` random examples per class.

    Guarantees: with column sums equal to the class counts of `labels`, each index appears once.
    """
    parts: list[list[IntArray]] = [[] for _ in counts]
    for label in range(counts.shape[1]):
        indices = rng.permutation(np.flatnonzero(labels == label))
        for part, piece in zip(
            parts, np.split(indices, counts[:, label].cumsum()[:-1]), strict=True
        ):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]
