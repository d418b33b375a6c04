"""Are units drawn one by one, as often as the ledger says?

With the noise off, what is released shows which canaries were in a step: as many as q says, and as
variable in number as Poisson samples are (batches of a fixed size vary not at all).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from fedsim.audit.bench import TOO_LONG, Bench
from fedsim.audit.bounds import clopper_pearson
from fedsim.audit.finding import CONFIDENCE, Finding

if TYPE_CHECKING:
    from fedsim.audit.claims import Claim

NUM_SAMPLES = 200


def test(bench: Bench, claim: Claim, number: int, error: float) -> list[Finding]:
    """Return how often units are in a step, and how much the size of samples varies.

    Args:
        bench: which draws them.
        claim: what the ledger says.
        number: of the claim, for the random streams.
        error: probability of a false alarm, of each of both.
    """
    rate = claim.sampling_rate
    units = np.eye(NUM_SAMPLES) * TOO_LONG
    released = bench.released(0.0, rate, NUM_SAMPLES, units, claim=number, case=3)
    sizes = (released > 0.5).sum(1)
    total, trials = int(sizes.sum()), NUM_SAMPLES**2
    seen = clopper_pearson(total, trials, 1 - CONFIDENCE)
    alarm = ""
    if clopper_pearson(total, trials, 2 * error).low > rate:
        alarm = f"{claim.who}: units are in a step with {seen.value:.4g}, the ledger says {rate:g}"
    found = [
        Finding("sampling rate", claim.who, seen.value, seen.low, seen.high, rate, alarm=alarm)
    ]
    if rate < 1:
        found.append(_spread(claim, sizes, error))
    return found


def _spread(claim: Claim, sizes: NDArray[Any], error: float) -> Finding:
    """Return the variance of the size of samples over that of Poisson samples."""
    rate, num = claim.sampling_rate, len(sizes)
    squares = float(((sizes - NUM_SAMPLES * rate) ** 2).sum() / (NUM_SAMPLES * rate * (1 - rate)))
    low, high = (squares / chi2.ppf(1 - tail, num) for tail in _tails(1 - CONFIDENCE))
    alarm = ""
    if not chi2.ppf(error / 2, num) <= squares <= chi2.ppf(1 - error / 2, num):
        alarm = (
            f"{claim.who}: sizes of samples vary {squares / num:.3g} times as much as those of "
            "Poisson samples, for which the ledger accounts"
        )
    return Finding(
        "variance of sample sizes",
        claim.who,
        squares / num,
        float(low),
        float(high),
        1.0,
        alarm=alarm,
    )


def _tails(error: float) -> tuple[float, float]:
    return error / 2, 1 - error / 2
