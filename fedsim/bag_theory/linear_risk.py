"""Risk of a linear model that learns from bags.

n examples x in d dimensions are Gaussian with any covariance Sigma, y = x'theta + e with e of mean
zero and variance s2 for all alike, r2 = theta' Sigma theta. They lie in random bags of k, of which
the mean response is known. The model minimises, over all examples,

    (1 - rho) bag loss + rho instance loss = bag loss + rho * spread of predictions within bags

with squared loss: rho = 0 is the bag loss, rho = 1 the instance loss. Its risk is the mean of
(x'theta_hat - x'theta)^2 over a fresh x: s2, which no model can avoid, is not in it. Functions
called asymptotic hold as n and d grow with n/d -> psi in (1, inf) and k stays.

A rotation turns every bag into one row for its mean, of weight 1, and k - 1 rows for what is within
it, of weight rho and response 0, all of the same distribution. So with v > 0 the root of

    (psi/k) [w + (k-1) u] = 1,    w = v/(1+v),  u = rho v/(1 + rho v)

and E = w (1-w) + (k-1) u (1-u), kappa = 1 - (psi/k) w:

    bias2 = r2 {kappa^2 + [kappa^2 w^2 + (k-1) (1-kappa)^2 u^2] / E},    variance = s2 w^2 / E

The equation for v is quadratic, so v needs no search. Bags of unequal sizes have the same risk with
k = n over the number of bags, where losses are weighted by examples.

Derived here, and checked by simulation; the paper (Javanmard et al., ICLR 2024) has a theorem in
another form, whose two variances at rho = 0 and rho = 1 were reported to be the ones below:

    rho = 0:  bias2 = 0,                                          variance = s2 / (psi/k - 1)
    rho = 1:  bias2 = r2 [(k-1)^2/k^2 + (k-1)/(k^2 (psi-1))],     variance = s2 / (k (psi-1))

>>> round(float(asymptotic_risk(4, 1.0, ratio=10, signal=1, noise=0.5).total), 4)
0.5972
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = float | NDArray[np.float64]
"""Numbers where numbers were given, else arrays."""


class Risk(NamedTuple):
    """Expected squared error of a model's predictions, in squared units of the response.

    Args:
        bias2: squared bias.
        variance: from the noise of the responses.
    """

    bias2: Values
    variance: Values

    @property
    def total(self) -> Values:
        """Bias and variance together."""
        return self.bias2 + self.variance


def asymptotic_risk(
    bag_size: ArrayLike, rho: ArrayLike, *, ratio: float, signal: float, noise: ArrayLike
) -> Risk:
    """Return the risk of the interpolated loss.

    At rho = 0 and psi <= k the bag means do not determine the model: both parts are infinite. That
    is not the limit of small rho, which is finite for psi < k (and is not the solution of least
    norm either): with c = (k - psi) / (k (psi - 1)) and q = (1 + c)^2 / ((k - 1) c) it has bias2 =
    r2 {(1 - psi/k)^2 (1 + q) + c (psi/k)^2} and variance = s2 q.

    Args:
        bag_size: k, at least 1; broadcasts with `rho` and `noise`.
        rho: at least 0; above 1 is allowed.
        ratio: psi, examples per dimension, above 1.
        signal: r2, variance of x'theta.
        noise: s2, variance of the responses about it.

    Raises:
        ValueError: if a number is not as said.
    """
    k, rho, s2 = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (bag_size, rho, noise)))
    _check(k, ratio, signal, s2)
    if not (np.isfinite(rho) & (rho >= 0)).all():
        raise ValueError("rho must be finite and not negative")
    undetermined = (rho == 0) & (ratio <= k)
    rho = np.where(undetermined, 1.0, rho)
    num, den = _root(k, rho, ratio)
    w, not_w = num / (den + num), den / (den + num)
    u, not_u = rho * num / (den + rho * num), den / (den + rho * num)
    e = w * not_w + (k - 1) * u * not_u
    fitted = ratio / k * w
    kappa = ratio / k * (k - 1) * u
    bias2 = signal * (kappa**2 + ((kappa * w) ** 2 + (k - 1) * (fitted * u) ** 2) / e)
    variance = s2 * w**2 / e
    return Risk(
        np.where(undetermined, np.inf, bias2)[()], np.where(undetermined, np.inf, variance)[()]
    )


def easy_llp_risk(bag_size: ArrayLike, *, ratio: float, signal: float, noise: ArrayLike) -> Risk:
    """Return the asymptotic risk of EasyLLP with squared loss and responses of mean zero.

    Its solution is k times that of the instance loss. Derived here, checked by simulation. Takes
    the arguments of `asymptotic_risk`.
    """
    k, s2 = np.broadcast_arrays(np.asarray(bag_size, np.float64), np.asarray(noise, np.float64))
    _check(k, ratio, signal, s2)
    return Risk(signal * (k - 1) / (ratio - 1), k * s2 / (ratio - 1))


def ridge_risk(bag_size: ArrayLike, *, ratio: float, signal: float, noise: ArrayLike) -> Values:
    """Return the asymptotic risk of the bag loss with the best ridge penalty, Sigma = identity.

    The yardstick of all others: with such features no rho does better. The bag means are n/k
    ordinary examples with the noise of single ones, so this is the risk of optimally tuned ridge
    regression (Dobriban and Wager, Annals of Statistics 2018) at k/psi dimensions per example.
    Takes the arguments of `asymptotic_risk`.
    """
    k, s2 = np.broadcast_arrays(np.asarray(bag_size, np.float64), np.asarray(noise, np.float64))
    _check(k, ratio, signal, s2)
    gamma = k / ratio
    h = signal * (1 - gamma) + gamma * s2
    root = np.hypot(h, 2 * gamma * np.sqrt(signal * s2))
    without_cancelling = 2 * gamma * signal * s2 / np.where(h > 0, root + h, 1.0)
    risk: Values = np.where(h > 0, without_cancelling, (root - h) / (2 * gamma))[()]
    return risk


def crossover_snr(bag_size: float, *, ratio: float) -> float:
    """Return the signal-to-noise ratio r2/s2 below which the instance loss beats the bag loss.

    Infinite where psi <= k. Derived here.

    >>> crossover_snr(4, ratio=10)
    1.0952380952380953

    Args:
        bag_size: k, above 1.
        ratio: psi, examples per dimension, above 1.

    Raises:
        ValueError: if a number is not as said; of bags of 1 the two losses are one.
    """
    k, psi = bag_size, ratio
    if not (k > 1 and psi > 1):
        raise ValueError(f"expected a bag size and a ratio above 1, got {k} and {psi}")
    if psi <= k:
        return float("inf")
    return k * ((k + 1) * psi - k) / ((psi - k) * ((k - 1) * psi - k + 2))


def finite_bag_risk(bag_size: int, *, num_examples: int, num_dimensions: int, noise: float) -> Risk:
    """Return the exact mean risk of the bag loss, rho = 0, for so many examples.

    Raises:
        ValueError: with m = n/k bags, unless m > d + 1; else the mean is infinite.
    """
    free = num_examples / bag_size - num_dimensions - 1
    if free <= 0:
        raise ValueError("expected more bags than dimensions and one")
    return Risk(0.0, noise * num_dimensions / free)


def finite_instance_risk(
    bag_size: int, *, num_examples: int, num_dimensions: int, signal: float, noise: float
) -> Risk:
    """Return the exact mean risk of the instance loss, rho = 1, for so many examples.

    By the first two moments of the matrix-variate beta distribution, with p = n (k-1)/k rows
    within bags, A = p (p-1) / (n (n-1)), C = p (p+2) / (n (n+2)), b = (C - A) / 3 and a = A + b.
    Derived here, checked by simulation.

    Raises:
        ValueError: unless n > d + 1.
    """
    n, d, k = num_examples, num_dimensions, bag_size
    free = n - d - 1
    if free <= 0:
        raise ValueError("expected more examples than dimensions and one")
    p = n * (k - 1) / k
    lower, upper = p * (p - 1) / (n * (n - 1)), p * (p + 2) / (n * (n + 2))
    b = (upper - lower) / 3
    bias2 = signal * (lower + 2 * b + b * (n * d - 2) / free)
    return Risk(bias2, noise / k * d / free)


def _root(k: Values, rho: Values, psi: float) -> tuple[Any, Any]:
    """Return numerator and denominator of v, the positive root of a v^2 + b v = k.

    The denominator alone may vanish, as rho does where psi < k. No digits cancel.
    """
    a = k * rho * (psi - 1)
    b = psi * (1 + (k - 1) * rho) - k * (1 + rho)
    s = np.hypot(b, 2 * np.sqrt(a * k))
    return np.where(b >= 0, 2 * k, s - b), np.where(b >= 0, b + s, 2 * a)


def _check(k: Values, psi: float, r2: float, s2: Values) -> None:
    if not (np.isfinite(k) & (k >= 1)).all():
        raise ValueError("bag sizes must be finite and at least 1")
    if not 1 < psi < np.inf:
        raise ValueError(f"expected more examples than dimensions, a ratio above 1, got {psi:g}")
    if not 0 <= r2 < np.inf or not (np.isfinite(s2) & (s2 >= 0)).all():
        raise ValueError("signal and noise must be finite and not negative")
