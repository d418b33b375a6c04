"""The bag size that makes the risk least where noise protects the labels.

Label privacy adds noise to the sum of the responses in a bag, of a variance N that does not depend
on the bag's size k. It is noise of variance N/k on every single response, so in the risk s2 becomes
s2 + N/k: large bags hide a label with less noise, but say less. (Of unequal bags: s2 + N times the
mean of 1/size over bags.) Responses that would be clipped to a range are not in the risk.

Where such noise rules, the best k makes variance/k least: 1 for the bag loss, as many as there are
for the instance loss; `transition_rho` lies between. The bag loss and EasyLLP never gain by larger
bags. Nor does the best ridge penalty (`ridge_risk` rises with k), which no rho beats at any k where
features are uncorrelated and of one scale: in this model large bags are worth their price only
because they shrink a model that nothing else shrinks.

Derived here; Javanmard et al., ICLR 2024, were reported to have the case of much noise, with half
the scale: theirs hides that a response is counted as zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, log, sqrt
from typing import NamedTuple

import numpy as np

from fedsim.bag_theory.linear_risk import asymptotic_risk

SMALLEST_RHO = 1e-6
"""Where the search for the best rho begins, beside 0."""


class Optimum(NamedTuple):
    """The best of some choices.

    Args:
        bag_size: k.
        rho: of the interpolated loss.
        risk: there.
    """

    bag_size: int
    rho: float
    risk: float


def laplace_variance(epsilon: float, response_range: float) -> float:
    """Return N of the Laplace mechanism.

    Args:
        epsilon: of label privacy, where one response may be replaced by another.
        response_range: Delta, greatest minus least response that there can be.
    """
    return 2 * (response_range / epsilon) ** 2


def gaussian_variance(noise_multiplier: float, response_range: float) -> float:
    """Return N of the Gaussian mechanism.

    Args:
        noise_multiplier: standard deviation over the sensitivity of the sum, which is Delta.
        response_range: Delta, greatest minus least response that there can be.
    """
    return (noise_multiplier * response_range) ** 2


def optimal_rho(bag_size: float, *, ratio: float, signal: float, noise: float) -> float:
    """Return the rho from 0 to 1 with the least asymptotic risk; 0 for bags of 1.

    About k / ((k-1) psi r2/s2), where that is small. Takes the arguments of `asymptotic_risk`.
    """
    from scipy.optimize import minimize_scalar

    if bag_size == 1:
        return 0.0

    def risk(rho: float) -> float:
        found = asymptotic_risk(bag_size, rho, ratio=ratio, signal=signal, noise=noise)
        return float(found.total)

    inner = minimize_scalar(
        lambda log_rho: risk(np.exp(log_rho)), bounds=(log(SMALLEST_RHO), 0), method="bounded"
    )
    return min((0.0, float(np.exp(inner.x)), 1.0), key=risk)


def optimal_bag_size(
    sizes: Iterable[int],
    rho: float | None = None,
    *,
    ratio: float,
    signal: float,
    noise: float,
    sum_noise: float = 0.0,
) -> Optimum:
    """Return the size with the least asymptotic risk, the smallest of equals.

    Args:
        sizes: to choose from, at least one.
        rho: of the loss; None for the best one from 0 to 1, with each size its own.
        ratio: psi, examples per dimension, above 1.
        signal: r2, as in `asymptotic_risk`.
        noise: s2, without what protects the labels.
        sum_noise: N, variance of what protects them, on the sum of a bag.
    """
    choices = []
    for k in sorted(sizes):
        s2 = noise + sum_noise / k
        at = optimal_rho(k, ratio=ratio, signal=signal, noise=s2) if rho is None else rho
        risk = asymptotic_risk(k, at, ratio=ratio, signal=signal, noise=s2).total
        choices.append(Optimum(k, at, float(risk)))
    return min(choices, key=lambda choice: choice.risk)


def instance_bag_size(*, ratio: float, signal: float, noise: float, sum_noise: float) -> float:
    """Return the best size for the instance loss, a real number.

    Its risk is quadratic in 1/k, with the minimum at

        k* = 2 ((psi - 2) r2 + N) / ((2 psi - 3) r2 - s2);

    of whole sizes, one of its two neighbours is best. Infinite where every larger bag is better, 1
    where none is. Takes the arguments of `optimal_bag_size`.

    Raises:
        ValueError: if the risk is not convex in 1/k, which takes psi < 2 and little noise.
    """
    curvature = 2 * ((ratio - 2) * signal + sum_noise)
    slope = (2 * ratio - 3) * signal - noise
    if curvature <= 0:
        raise ValueError("the risk is not convex in 1/k; compare sizes with optimal_bag_size")
    return max(1.0, curvature / slope) if slope > 0 else inf


def transition_rho(ratio: float) -> float:
    """Return the rho above which, where noise rules, the risk falls as bags grow from 1.

    k counts as a real number: whole sizes beat 1 from a somewhat smaller rho on.

    Args:
        ratio: psi, examples per dimension, above 1.
    """
    v = 1 / (ratio - 1)
    b = 2 + 4 * v
    return (sqrt(b**2 + 4 * v**2 * (1 + 2 * v)) - b) / (2 * v * (1 + 2 * v))
