"""Candidates for an aggregation rule of our own: functions (K, p, knob) -> c.

Let P = diag(p) and P^(1/2) K P^(1/2) = E diag(s) E^T, s ascending. The mean of the updates has the
coefficient mu_j = sqrt(s_j) sum_i sqrt(p_i) e_ij along the principal direction j, and the sites
spread around it there by tau_j^2 = s_j - mu_j^2. A filter keeps h_j of every mu_j:

    c = P^(1/2) E diag(h) E^T P^(1/2) 1,

so h = 1 is the mean, and the aggregate vanishes with it. See `Candidate` for what comes on top.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from torch import Tensor

from strategies import principal_gradient
from strategies.gram import combine, gram

Rule = Callable[[Tensor, Tensor, float], Tensor]
Filter = Callable[["Spectrum", float], Tensor]
NONE = (0.0,)


@dataclass(frozen=True)
class Spectrum:
    """What a filter looks at.

    Args:
        s: eigenvalues, (direction,), ascending, non-negative.
        E: eigenvectors, (site, direction).
        mu: coefficients of the mean, (direction,).
        p: shares, (site,).
        norms: of the updates, (site,).
    """

    s: Tensor
    E: Tensor
    mu: Tensor
    p: Tensor
    norms: Tensor


def mean(K: Tensor, p: Tensor, knob: float) -> Tensor:
    """Return p: FedAvg."""
    return p


def fedld(K: Tensor, p: Tensor, knob: float) -> Tensor:
    """Return FedLD's coefficients with sites weighted by size; the knob is the fraction kept."""
    return principal_gradient.coefficients(K, p, max(1, int(knob * len(p))))


def filtered(h: Filter) -> Rule:
    """Return the rule that filters the mean."""

    def rule(K: Tensor, p: Tensor, knob: float) -> Tensor:
        root = p.sqrt()
        s, E = torch.linalg.eigh(root[:, None] * K * root)
        s = s.clamp(min=0)
        if s[-1] == 0:
            return p
        shape = E.T @ root
        spectrum = Spectrum(s, E, s.sqrt() * shape, p, K.diagonal().sqrt())
        c: Tensor = root * (E @ (h(spectrum, knob) * shape))
        return c

    return rule


def truncation(at: Spectrum, knob: float) -> Tensor:
    """Keep the leading fraction of the directions."""
    h = torch.zeros_like(at.s)
    h[-max(1, int(knob * len(h))) :] = 1
    return h


def agreement(at: Spectrum, knob: float) -> Tensor:
    """Keep as much of a direction as sites agree on it; the knob softens the signs."""
    signs = at.E / (at.E.abs() + knob)
    votes = at.p * at.norms
    return (votes @ signs).abs() / votes.sum()


def power(at: Spectrum, knob: float) -> Tensor:
    """Keep a power of a direction's share of the spectrum."""
    return (at.s / at.s[-1]).pow(knob)


def snr(at: Spectrum, knob: float) -> Tensor:
    """Shrink by noise over signal (positive-part James-Stein); the knob scales the noise."""
    rho = (at.p**2).sum() / (1 - (at.p**2).sum()).clamp(min=1e-12)
    spread = (at.s - at.mu**2).clamp(min=0)
    noise = knob * rho * spread / (at.mu**2).clamp(min=1e-300)
    return (1 - noise).clamp(min=0)


@dataclass(frozen=True)
class Candidate:
    """A rule with what goes around it.

    Args:
        rule: coefficients from K, p and the knob.
        knobs: values that tuning draws from.
        norm: length of the aggregate: the rule's, that of the mean, or FedExP's extrapolation.
        pooled: share of the whole model's Gram matrix in that of a layer, each over its trace:
            0 for layers alone, 1 for one vector of coefficients.
        memory: share of the last aggregate, which joins the updates as one more row.
    """

    rule: Rule
    knobs: tuple[float, ...] = NONE
    norm: Literal["own", "mean", "fedexp"] = "own"
    pooled: float = 0.0
    memory: float = 0.0

    def coefficients(self, K: Tensor, p: Tensor, knob: float) -> Tensor:
        """Return c at its final length."""
        c = self.rule(K, p, knob)
        square = float(c @ K @ c)
        if self.norm == "own" or square <= 1e-14 * float(K.diagonal().amax()):
            return c
        if self.norm == "mean":
            return c * sqrt(float(p @ K @ p) / square)
        return c * max(1.0, float(p @ K.diagonal()) / (2 * square))

    def aggregate(
        self, updates: Mapping[str, Tensor], p: Tensor, last: Mapping[str, Tensor], knob: float
    ) -> dict[str, Tensor]:
        """Return the aggregate update.

        Args:
            updates: by parameter, (site, *shape), float64.
            p: shares, (site,), float64.
            last: the last aggregate by parameter; empty in the first round.
            knob: of the rule.
        """
        if self.memory and last:
            updates = {n: torch.cat([stack, last[n][None]]) for n, stack in updates.items()}
            p = torch.cat([(1 - self.memory) * p, p.new_tensor([self.memory])])
        layers = {name: gram(stack) for name, stack in updates.items()}
        model = torch.stack([*layers.values()]).sum(dim=0)
        return {
            name: combine(updates[name], self.coefficients(self._pooled(K, model), p, knob))
            for name, K in layers.items()
        }

    def _pooled(self, K: Tensor, model: Tensor) -> Tensor:
        trace, whole = K.trace(), model.trace()
        if not self.pooled or trace == 0:
            return K
        return (1 - self.pooled) * K + self.pooled * model * (trace / whole)


FRACTIONS, SOFT, POWERS, NOISES = (0.4, 0.6, 0.8), (0.0, 0.1, 0.3), (0.25, 0.5, 1.0), (0.3, 1.0)

CANDIDATES = {
    "FedAvg": Candidate(mean),
    "FedExP": Candidate(mean, norm="fedexp", pooled=1.0),
    "FedLD by size": Candidate(fedld, FRACTIONS),
    "truncation": Candidate(filtered(truncation), FRACTIONS),
    "agreement": Candidate(filtered(agreement), SOFT),
    "power": Candidate(filtered(power), POWERS),
    "SNR": Candidate(filtered(snr), NOISES),
    "agreement, norm of the mean": Candidate(filtered(agreement), SOFT, norm="mean"),
    "power, norm of the mean": Candidate(filtered(power), POWERS, norm="mean"),
    "truncation + FedExP": Candidate(filtered(truncation), FRACTIONS, norm="fedexp"),
    "agreement + FedExP": Candidate(filtered(agreement), SOFT, norm="fedexp"),
    "power + FedExP": Candidate(filtered(power), POWERS, norm="fedexp"),
    "agreement + FedExP, pooled": Candidate(filtered(agreement), SOFT, "fedexp", pooled=1.0),
    "agreement + FedExP, half pooled": Candidate(filtered(agreement), SOFT, "fedexp", pooled=0.5),
    "agreement with memory": Candidate(filtered(agreement), SOFT, memory=0.5),
    "FedAvg with memory": Candidate(mean, memory=0.5),
}
"""Name -> candidate; FedAvg, the reference, first."""
