"""Known inputs through the code that makes sites private: is what comes out what the ledger says?

The code itself is called, see `fedsim.audit.bench`, with the numbers of the ledger. Four tests of
every kind of step that the ledger has, of which the last two are for what draws samples itself:

- one release: in each of many directions k units, whose gradient is ten times as long as the bound,
  or k blanks, by a fair coin. In its direction the sum moves by k C at most and the noise is
  sigma C, so no threshold on a single release may tell the two apart better than by k / sigma
  standard deviations. k is chosen so that this is about 3, where a wrong tenth shows best.
- whole training: the same with one canary in each direction, and as many steps as make it about as
  visible in their sum, for which noise has to be drawn anew in each.
- sampling, two tests: with the noise off, what is released shows which canaries were in a step: as
  many as q says, and drawn one by one, as Poisson sampling has it, no fixed number of them.

Thresholds are fixed by what the ledger says before anything is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from clients.dpsgd import DpSgd
from fedsim.audit.bench import Bench, ServerBench, TrainingBench
from fedsim.audit.bounds import Interval, clopper_pearson, separation
from fedsim.audit.claims import Claim
from fedsim.audit.finding import CONFIDENCE, Finding, Outcome, does_not_apply
from fedsim.audit.subject import Subject
from fedsim.flower.private_rounds import PrivateRounds
from fedsim.flower.private_training import dp_sgd
from fedsim.privacy import ClientLevel, ExampleLevel, Mechanism
from fedsim.privacy.balance import ALL_SITES
from fedsim.privacy.dp_sgd import Steps
from fedsim.privacy.ledger import Entry

NUM_DIRECTIONS = 250
"""In which one release is looked at."""
NUM_RELEASES = 40
NUM_CANARIES = 1000
"""In whole trainings."""
NUM_SAMPLES = 200
VISIBLE = 3.0
"""Standard deviations by which what was there is to be told from what was not."""
MOST_COPIES, MOST_STEPS = 300, 500
"""Of a unit, and of whole trainings; beyond a sigma of 100 or 7 less than that is visible."""
TOO_LONG = 10.0
"""How many times the bound a canary's gradient is long."""
TESTS_OF_A_CLAIM = 4
SECONDS_PER_CLAIM = 3.0
NOTE = (
    "Known inputs were put through the training code with the ledger's numbers. The epsilon beside "
    "a noise multiplier is that of the largest one which the test does not refute, if the noise is "
    "Gaussian, as the ledger says. Sizes of samples that vary 1 times as much as those of Poisson "
    "samples are such."
)


def run(subject: Subject, tell: Callable[[int, int], None]) -> Outcome:
    """Put everything that the ledger says of the run's mechanism to the test."""
    privacy = subject.scenario.privacy
    if privacy is None:
        return does_not_apply("the training of this run is not private")
    bench = _bench(subject, privacy.mechanism)
    if bench is None:
        return does_not_apply(f"there is no bench for {privacy.mechanism.kind} yet")
    found = _of_plan(subject)
    claims = [claim for claim in subject.claims if claim.unit == privacy.mechanism.unit]
    if not claims:
        return Outcome(found, ["The ledger has no release with noise: nobody is protected."])
    for number, claim in enumerate(claims):
        found += test(bench, claim, number, subject.delta, subject.error)
        tell(number + 1, len(claims))
    return Outcome(found, [NOTE], {"seed": subject.options.seed})


def _bench(subject: Subject, mechanism: Mechanism) -> Bench | None:
    if isinstance(mechanism, ClientLevel):
        return ServerBench(subject.streams, mechanism.mean, mechanism.clip_norm)
    if not isinstance(mechanism, ExampleLevel):
        return None
    mode = subject.workplace.gradient_mode

    def made(noise: float, rate: float, num_steps: int) -> DpSgd:
        return dp_sgd(mechanism, Steps(noise, rate, num_steps), mode)

    return TrainingBench(subject.streams, made)


def seconds(subject: Subject) -> float:
    """Return about how long `run` takes."""
    return 2 + SECONDS_PER_CLAIM * len(subject.claims)


def _of_plan(subject: Subject) -> list[Finding]:
    """Return how many releases of the ledger the scenario does not plan: none, if all is well."""
    planned = set(map(_bare, PrivateRounds.of(subject.scenario, subject.population).planned()))
    released = [entry for entry in subject.ledger if entry.event is not None]
    other = [entry for entry in released if _bare(entry) not in planned]
    alarm = ""
    if other:
        sites = ", ".join(dict.fromkeys(entry.site or ALL_SITES for entry in other))
        alarm = f"the ledger has {len(other)} rows that the scenario does not plan, of {sites}"
    return [Finding("rows not planned", "the ledger", len(other), claim=0, alarm=alarm)]


def _bare(entry: Entry) -> Entry:
    """Return an entry without what another version may word otherwise."""
    return replace(entry, purpose="", mechanism=None)


def test(bench: Bench, claim: Claim, number: int, delta: float, error: float) -> list[Finding]:
    """Return what came of putting one kind of step to the test.

    Args:
        bench: where.
        claim: what the ledger says.
        number: of the claim, for the random streams.
        delta: at which epsilon is given.
        error: probability of a false alarm, of all the tests here together.
    """
    error /= TESTS_OF_A_CLAIM
    tests = {"one release": _one_release, "whole training": _whole_training}
    noises = [
        _noise(f"noise, {name}", claim, delta, error, *counted(bench, claim, number))
        for name, counted in tests.items()
    ]
    return [*noises, *(_sampling(bench, claim, number, error) if bench.samples else ())]


Counts = tuple[int, int, int, int]
"""Hits, present, false alarms, absent."""


def _one_release(bench: Bench, claim: Claim, number: int) -> tuple[Counts, float]:
    """Return counts, and the standard deviations between both cases times sigma."""
    copies = min(MOST_COPIES, math.ceil(VISIBLE * claim.noise_multiplier))
    coins = _coins(bench, NUM_DIRECTIONS, claim=number, case=1)
    units = np.repeat(np.diag(np.where(coins, TOO_LONG, 0.0)), copies, axis=0)
    sums = bench.released(claim.noise_multiplier, 1.0, NUM_RELEASES, units, claim=number, case=1)
    return _counts(sums > copies / 2, coins), copies


def _whole_training(bench: Bench, claim: Claim, number: int) -> tuple[Counts, float]:
    """Return counts, and the standard deviations between both cases times sigma."""
    num_steps = min(MOST_STEPS, math.ceil((VISIBLE * claim.noise_multiplier) ** 2))
    coins = _coins(bench, NUM_CANARIES, claim=number, case=2)
    units = np.diag(np.where(coins, TOO_LONG, 0.0))
    released = bench.released(claim.noise_multiplier, 1.0, num_steps, units, claim=number, case=2)
    sums = released.sum(0, keepdims=True)
    return _counts(sums > num_steps / 2, coins), math.sqrt(num_steps)


def _coins(bench: Bench, num: int, **keys: int) -> NDArray[np.bool_]:
    coins: NDArray[np.bool_] = bench.streams.numpy("audit_coins", **keys).random(num) < 0.5
    return coins


def _counts(guesses: NDArray[np.bool_], coins: NDArray[np.bool_]) -> Counts:
    """Return how often guesses, (trial, direction), say "there", where it was and not."""
    there, absent = guesses[:, coins], guesses[:, ~coins]
    return int(there.sum()), there.size, int(absent.sum()), absent.size


def _noise(
    figure: str, claim: Claim, delta: float, error: float, counts: Counts, sigmas: float
) -> Finding:
    """Return the noise multiplier that the counts tell, with what it makes of epsilon.

    Args:
        figure: what it is.
        claim: what the ledger says.
        delta: at which epsilon is given.
        error: probability of a false alarm.
        counts: of a test.
        sigmas: between both cases, times sigma.
    """
    seen = _multiplier(separation(*counts, 1 - CONFIDENCE), sigmas)
    # two-sided, as Clopper-Pearson intervals are; the alarm needs one side alone
    sure = _multiplier(separation(*counts, 2 * error), sigmas)
    said = claim.noise_multiplier
    least = 0.0 if math.isinf(seen.high) else claim.epsilon(delta, seen.high)
    alarm = note = ""
    if sure.high < said:
        alarm = (
            f"{claim.who}: the ledger says noise {said:g}, but no more than {sure.high:.3g} is "
            f"there: too little noise, or no clipping; epsilon is {_at_least(claim, delta, sure)} "
            f"at least, not {claim.epsilon(delta):.3f}"
        )
    elif sure.low > said:
        note = "more noise than the ledger says"
    return Finding(
        figure, claim.who, seen.value, seen.low, seen.high, said, least, alarm=alarm, note=note
    )


def _at_least(claim: Claim, delta: float, noise: Interval) -> str:
    return f"{claim.epsilon(delta, noise.high):.3f}"


def _multiplier(apart: Interval, sigmas: float) -> Interval:
    ends = [sigmas / mu if mu > 0 else math.inf for mu in (apart.value, apart.high, apart.low)]
    return Interval(*ends)


def _sampling(bench: Bench, claim: Claim, number: int, error: float) -> list[Finding]:
    """Return how often units are in a step, and how much the size of samples varies."""
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
