"""What the theory advises for a scenario, from levels of signal and noise that its user assumes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from fedsim.bag_theory.bag_size import Optimum, optimal_bag_size, optimal_rho
from fedsim.bag_theory.linear_risk import Values, asymptotic_risk, ridge_risk

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Bag sizes that are shown; the best is sought among all from the first to the last."""

Departure = Literal["network", "loss", "classes", "draw", "redrawn", "clipped", "sites"]
_SAYS: dict[Departure, str] = {
    "network": "the network is not linear",
    "loss": "the loss is not the squared one of bags, of instances or between them",
    "classes": "responses are of classes: outputs pass a softmax, noise depends on features",
    "draw": "bags are not random",
    "redrawn": "examples lie in more than one bag",
    "clipped": "responses are clipped to a range, which brings bias",
    "sites": "sites may differ, and local steps need not end at the minimum for all of them",
}


@dataclass(frozen=True)
class Row:
    """Asymptotic risk at one bag size; beyond the noise, in squared units of the response.

    Args:
        bag_size: k.
        noise: of the responses, that of the mechanism included, as for single examples.
        bias2: squared bias at the scenario's rho; None where bags do not determine the model.
        variance: there.
        risk: both together.
        best_rho: from 0 to 1.
        best_risk: there.
        ridge_risk: of the bag loss with the best ridge penalty.
    """

    bag_size: int
    noise: float
    bias2: float | None
    variance: float | None
    risk: float | None
    best_rho: float
    best_risk: float
    ridge_risk: float


@dataclass(frozen=True)
class Advice:
    """The risk over bag sizes, and what follows.

    Args:
        rho: of the scenario's loss; None where the best is taken for each size.
        rows: by bag size, the scenario's own and the best among them; none where the theory says
            nothing.
        best_size: with the least risk at the scenario's rho; None without rows.
        sentences: in words.
        departures: why the theory is not of this scenario.
    """

    rho: float | None
    rows: list[Row]
    best_size: int | None
    sentences: list[str]
    departures: list[str]


def bag_size_advice(
    *,
    num_examples: int,
    num_dimensions: int,
    signal: float,
    noise: float,
    own_size: int,
    rho: float | None,
    sum_noise: float = 0.0,
    sizes: Iterable[int] = SIZES,
    departures: Sequence[Departure] = (),
) -> Advice:
    """Return which bag size the theory advises. It is told nothing of any response.

    Args:
        num_examples: n, in bags, of all sites together.
        num_dimensions: d, of a linear model's features.
        signal: r2, assumed variance of the responses that a linear model explains.
        noise: s2, assumed variance that it does not, without what protects labels.
        own_size: of the scenario's bags; where they are unequal, about n over their number.
        rho: 0 for the bag loss, 1 for the instance loss; None for the best one with each size.
        sum_noise: N, variance of the noise that protects labels, on the sum of a bag.
        sizes: to show.
        departures: what of the scenario is not as the theory has it.

    Raises:
        ValueError: if signal or noise is negative, or not finite.
    """
    if not all(0 <= level < inf for level in (signal, noise, sum_noise)):
        raise ValueError("signal and noise must be finite and not negative")
    reasons = [_SAYS[departure] for departure in get_args(Departure) if departure in departures]
    setting = (
        f"{num_examples:,} examples in {num_dimensions:,} dimensions; signal {signal:g} and noise "
        f"{noise:g} are assumed"
    )
    if num_examples <= num_dimensions:
        silent = "the theory needs more examples than dimensions (assume fewer if fewer matter)"
        return Advice(rho, [], None, [setting, silent], reasons)
    known = {"ratio": num_examples / num_dimensions, "signal": signal}
    shown = {*(size for size in sizes if size <= num_examples), own_size, 1}
    choices = {*shown, *range(1, min(num_examples, max(SIZES)) + 1)}
    joint, best = (
        optimal_bag_size(choices, at, noise=noise, sum_noise=sum_noise, **known)
        for at in (None, rho)
    )
    rows = {
        size: _row(size, rho, noise=noise + sum_noise / size, **known)
        for size in sorted({*shown, best.bag_size, joint.bag_size})
    }
    sentences = [setting, _comparison(best, rows[own_size], rho)]
    if rho is not None:
        sentences.append(
            f"with the best rho from 0 to 1 for each size: bags of {joint.bag_size}, "
            f"rho = {joint.rho:.2g}, {joint.risk:.3g}"
        )
    sentences += [
        f"bags of 1 with the best ridge penalty instead: {rows[1].ridge_risk:.3g}",
        _nothing_learned(signal, best),
    ]
    if best.bag_size == max(choices) < num_examples:
        sentences.append(f"bags of more than {best.bag_size} were not looked at")
    return Advice(rho, list(rows.values()), best.bag_size, sentences, reasons)


def _row(bag_size: int, rho: float | None, **known: float) -> Row:
    """Return what holds at a bag size; `known` is what `asymptotic_risk` takes by name."""
    best = optimal_rho(bag_size, **known)
    ours, least = (
        asymptotic_risk(bag_size, at, **known) for at in (best if rho is None else rho, best)
    )
    return Row(
        bag_size=bag_size,
        noise=known["noise"],
        bias2=_finite(ours.bias2),
        variance=_finite(ours.variance),
        risk=_finite(ours.total),
        best_rho=best,
        best_risk=float(least.total),
        ridge_risk=float(ridge_risk(bag_size, **known)),
    )


def _comparison(best: Optimum, own: Row, rho: float | None) -> str:
    loss = "the best rho for each size" if rho is None else f"rho = {rho:g}"
    here = "they do not determine the model" if own.risk is None else f"it is {own.risk:.3g}"
    if own.bag_size == best.bag_size:
        return f"with {loss} the risk is least in bags of {best.bag_size}, as here: {best.risk:.3g}"
    return (
        f"with {loss} the risk is least in bags of {best.bag_size}: {best.risk:.3g}; "
        f"in bags of {own.bag_size}, as here, {here}"
    )


def _nothing_learned(signal: float, best: Optimum) -> str:
    """Return what the mean as the only prediction has for a risk."""
    verdict = ": nothing is learned in bags of any size" if best.risk >= signal else ""
    return f"the mean as the only prediction: {signal:.3g}{verdict}"


def _finite(risk: Values) -> float | None:
    return float(risk) if risk < inf else None
