"""Which rank each method has on average, and which mean ranks differ.

A block is one seed in one setting in which every method has a value; rank 1 is best, equal values
share their ranks. Friedman's test asks whether any mean rank differs; if so, two methods differ
whose mean ranks are further apart than Nemenyi's critical difference.

Source: Demsar, JMLR 2006, section 3.2.2. Its rule of thumb is kept: more than 10 blocks and more
than 5 methods, or no critical difference. There a block is a data set; here blocks share their data
set, so the ranks speak of these settings, not of data in general.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MORE_BLOCKS_THAN, MORE_METHODS_THAN = 10, 5


@dataclass(frozen=True)
class Ranking:
    """Mean ranks, and what may be read from them.

    Args:
        mean_ranks: (method,); empty without a block.
        num_blocks: that they are over.
        p: of Friedman's test, None where it is not made.
        critical_difference: None where no difference may be claimed from ranks.
        note: why, for people.
    """

    mean_ranks: tuple[float, ...]
    num_blocks: int
    p: float | None
    critical_difference: float | None
    note: str


def rank(values: NDArray[np.float64], *, higher_is_better: bool, alpha: float) -> Ranking:
    """Return the ranking of some methods.

    Args:
        values: (block, method); blocks with nan are left out.
        higher_is_better: the direction.
        alpha: level of Friedman's test and of the critical difference.
    """
    from scipy.stats import friedmanchisquare, rankdata

    whole = values[~np.isnan(values).any(axis=1)]
    num_blocks, num_methods = whole.shape
    if not num_blocks or num_methods < 2:
        return Ranking((), num_blocks, None, None, "There is nothing to rank.")
    ranks = rankdata(-whole if higher_is_better else whole, axis=1)
    means = tuple(float(mean) for mean in ranks.mean(axis=0))
    if num_blocks <= MORE_BLOCKS_THAN or num_methods <= MORE_METHODS_THAN:
        return Ranking(
            means,
            num_blocks,
            None,
            None,
            f"Mean ranks over {num_blocks} blocks (seed and setting) of {num_methods} methods, "
            "without a critical difference: that takes more than "
            f"{MORE_BLOCKS_THAN} blocks and {MORE_METHODS_THAN} methods (Demsar 2006).",
        )
    same = bool((ranks == ranks[:, :1]).all())
    p = 1.0 if same else float(friedmanchisquare(*whole.T).pvalue)
    if p > alpha:
        return Ranking(
            means,
            num_blocks,
            p,
            None,
            f"Mean ranks over {num_blocks} blocks (seed and setting) do not differ by Friedman's "
            f"test (p = {p:.3f}), so there is no critical difference.",
        )
    return Ranking(
        means,
        num_blocks,
        p,
        critical_difference(num_methods, num_blocks, alpha),
        f"Mean ranks over {num_blocks} blocks (seed and setting) differ by Friedman's test; two "
        "methods differ if their mean ranks are further apart than the critical difference "
        "(Nemenyi's test, Demsar 2006). Blocks share their data set: this speaks of these settings "
        "alone.",
    )


def critical_difference(num_methods: int, num_blocks: int, alpha: float) -> float:
    """Return Nemenyi's critical difference of mean ranks (Demsar 2006, section 3.2.2)."""
    from scipy.stats import studentized_range

    q = float(studentized_range.isf(alpha, num_methods, np.inf)) / 2**0.5
    return float(q * (num_methods * (num_methods + 1) / (6 * num_blocks)) ** 0.5)
