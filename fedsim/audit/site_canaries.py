"""Canary sites whose updates are noised, at the server or by themselves.

Each canary sends the same in every round that it takes part in, along a direction of its own, far
longer than C; directions are at right angles, as random ones in a large model nearly are. What
clips, adds and noises them is the code that does so in the run, with the noise and the number of
rounds that its ledger has for the site that spends most, and for cohorts that are Poisson samples
the code that draws these. The attacker sees what is released in each round; the score of a canary
is the sum over rounds of the inner product with its direction.

Canaries are further sites. However many, each moves what is released by one sensitivity, and its
coin is one of its own: the divisor D is public and stays, and what others send changes nothing that
a site is promised. So others stay away, which hides the canaries least. A clip that adapts is held
at its first bound, as so many canaries would drive it: the promise is one for every bound.

Source: Andrew et al., "One-shot Empirical Privacy Estimation for Federated Learning", ICLR 2024,
for canaries that are directions. The differences: the bound is that of Steinke et al., there are
blanks beside the canaries, and no network is trained between the rounds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedsim.audit.bench import Bench
from fedsim.audit.benches import bench_of
from fedsim.audit.subject import Subject
from fedsim.audit.trial import Scores, Target, Trial, drawn_coins

SECONDS_OF_A_ROUND = 0.05
"""With a thousand canaries."""


def trial(subject: Subject, target: Target, tell: Callable[[int, int], None]) -> Trial:
    """Put canary sites into the rounds of one site and score each."""
    assert subject.scenario.privacy is not None
    bench = bench_of(subject, subject.scenario.privacy.mechanism)
    assert bench is not None
    coins = drawn_coins(subject, subject.options.num_canaries)
    num = len(target.rounds)
    scores = _scores(subject, bench, target, bench.units(coins))
    tell(num, num)
    story = f"{len(coins)} canary sites, put in by coins, sent the same in {num} rounds"
    if _sampled(target):
        story += ", in which the code that draws cohorts drew them"
    return Trial(scores, coins, f"{story}. What is released is that of the run's code and ledger.")


def _sampled(target: Target) -> bool:
    """Return whether nobody knows who takes part in a round."""
    return any(steps.sampling_rate < 1 for steps in target.rounds.values())


def seconds(subject: Subject, target: Target) -> float:
    """Return about how long that takes."""
    share = subject.options.num_canaries / 1000
    return 2 + SECONDS_OF_A_ROUND * len(target.rounds) * share**2


def _scores(subject: Subject, bench: Bench, target: Target, units: NDArray[np.float64]) -> Scores:
    """Return the inner products of what is released with directions, (canary,)."""
    cohort, num = subject.scenario.cohort, len(units)
    noise = max(steps.noise_multiplier for steps in target.rounds.values())
    scores: Scores = np.zeros(num)
    if not _sampled(target):
        scores += bench.released(noise, 1.0, len(target.rounds), units, one_run=1).sum(0)
        return scores
    for round in sorted(target.rounds):
        drawn = np.zeros_like(units)
        there = cohort.draw(num, round, subject.streams)
        drawn[there] = units[there]
        scores += bench.released(noise, 1.0, 1, drawn, one_run=1, round=round)[0]
    return scores
