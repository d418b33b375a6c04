"""Known inputs through the code that makes sites private: is what comes out what the ledger says?

The code itself is called, see `fedsim.audit.bench`, with the numbers of the ledger. Five tests of
every kind of step that the ledger has:

- one release: in each of many directions k units, whose gradient is ten times as long as the bound,
  or k blanks, by a fair coin. In its direction the sum moves by k C at most and the noise is
  sigma C, so no threshold on a single release may tell the two apart better than by k / sigma
  standard deviations. k is chosen so that this is about 3, where a wrong tenth shows best.
- whole training: the same with one canary in each direction, and as many steps as make it about as
  visible in their sum.
- drawn anew: what one of these steps releases and the next does not is noise alone, and would not
  be there if both had the same.
- two more for what a mechanism has beside clip and noise, see the benches: samples that sites draw,
  noise that rounds share, shares of noise in a sum.

Thresholds are fixed by what the ledger says before anything is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedsim.audit.bench import Bench
from fedsim.audit.benches import bench_of
from fedsim.audit.bounds import Interval, separation, standard_deviation
from fedsim.audit.claims import Claim
from fedsim.audit.finding import CONFIDENCE, Finding, Outcome, does_not_apply
from fedsim.audit.subject import Subject
from fedsim.flower.private_rounds import PrivateRounds
from fedsim.privacy.balance import ALL_SITES
from fedsim.privacy.directed_rounding import rounded_down, rounded_up
from fedsim.privacy.ledger import Entry

NUM_DIRECTIONS = 250
"""In which one release is looked at."""
NUM_RELEASES = 40
NUM_CANARIES = 1000
"""In whole trainings."""
VISIBLE = 3.0
"""Standard deviations by which what was there is to be told from what was not."""
MOST_COPIES = 300
"""Of a unit; beyond a sigma of 100 less than that is visible."""
TESTS_OF_A_CLAIM = 5
SECONDS_PER_CLAIM = 3.0
NOTE = (
    "Known inputs were put through the run's code with the ledger's numbers. Noise is in units of "
    "the sensitivity. The epsilon beside a noise multiplier is that of the largest one which the "
    "test does not refute, if the noise is Gaussian, as the ledger says."
)


def run(subject: Subject, tell: Callable[[int, int], None]) -> Outcome:
    """Put everything that the ledger says of the run's mechanism to the test."""
    privacy = subject.scenario.privacy
    if privacy is None:
        return does_not_apply("the training of this run is not private")
    bench = bench_of(subject, privacy.mechanism)
    if bench is None:
        return does_not_apply(f"there is no bench for {privacy.mechanism.kind}")
    found = _of_plan(subject)
    claims = [claim for claim in subject.claims if claim.unit == privacy.mechanism.unit]
    if not claims:
        return Outcome(found, [f"Nothing to test: {subject.why_no_claim}."])
    for number, claim in enumerate(claims):
        found += test(bench, claim, number, subject.delta, subject.error)
        tell(number + 1, len(claims))
    return Outcome(found, [NOTE], {"seed": subject.options.seed})


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
    training, coins = _whole_training(bench, claim, number)
    num_steps, sums = len(training), training.sum(0, keepdims=True)
    counts = _counts(sums > num_steps * bench.middle, coins)
    return [
        _noise("noise, one release", claim, delta, error, *_one_release(bench, claim, number)),
        _noise("noise, whole training", claim, delta, error, counts, math.sqrt(num_steps)),
        *_drawn_anew(training, claim, error),
        *bench.others(claim, number, error),
    ]


Counts = tuple[int, int, int, int]
"""Hits, present, false alarms, absent."""


def _one_release(bench: Bench, claim: Claim, number: int) -> tuple[Counts, float]:
    """Return counts, and the standard deviations between both cases times sigma."""
    copies = min(MOST_COPIES, math.ceil(VISIBLE * claim.noise_multiplier))
    coins = _coins(bench, NUM_DIRECTIONS, claim=number, case=1)
    units = np.repeat(bench.units(coins), copies, axis=0)
    num = min(NUM_RELEASES, bench.most_steps)
    sums = bench.released(claim.noise_multiplier, 1.0, num, units, claim=number, case=1)
    return _counts(sums > copies * bench.middle, coins), copies


def _whole_training(
    bench: Bench, claim: Claim, number: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return what the steps of a training release, (step, direction), and which canary is there."""
    num_steps = min(bench.most_steps, math.ceil((VISIBLE * claim.noise_multiplier) ** 2))
    coins = _coins(bench, NUM_CANARIES, claim=number, case=2)
    units, noise = bench.units(coins), claim.noise_multiplier
    return bench.released(noise, 1.0, num_steps, units, claim=number, case=2), coins


def _drawn_anew(released: NDArray[np.float64], claim: Claim, error: float) -> list[Finding]:
    """Return the noise in what one step releases and the next does not, of the same units.

    Args:
        released: (step, direction).
        claim: what the ledger says.
        error: probability of a false alarm.
    """
    num_pairs = len(released) // 2
    if not num_pairs:
        return []
    pairs = released[: 2 * num_pairs].reshape(num_pairs, 2, -1)
    differences = (pairs[:, 0] - pairs[:, 1]) / math.sqrt(2)
    seen = standard_deviation(differences, 1 - CONFIDENCE)
    said, alarm = claim.noise_multiplier, ""
    if (sure := standard_deviation(differences, 2 * error)).high < said:
        alarm = (
            f"{claim.who}: noise of {rounded_up(sure.high, '.3g')} at most is drawn anew in each "
            f"step, the ledger says {said:g}"
        )
    return [
        Finding("noise, drawn anew", claim.who, seen.value, seen.low, seen.high, said, alarm=alarm)
    ]


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
            f"{claim.who}: the ledger says noise {said:g}, but no more than "
            f"{rounded_up(sure.high, '.3g')} is there: too little noise, or no clipping; epsilon "
            f"is {_at_least(claim, delta, sure)} at least, not "
            f"{rounded_up(claim.epsilon(delta), '.3f')}"
        )
    elif sure.low > said:
        note = "more noise than the ledger says"
    _, present, _, absent = counts
    sharpest = _multiplier(separation(present, present, 0, absent, 1 - CONFIDENCE), sigmas)
    ceiling = claim.epsilon(delta, sharpest.high)
    ends = (seen.value, seen.low, seen.high)
    return Finding(figure, claim.who, *ends, said, least, ceiling, alarm=alarm, note=note)


def _at_least(claim: Claim, delta: float, noise: Interval) -> str:
    return rounded_down(claim.epsilon(delta, noise.high), ".3f")


def _multiplier(apart: Interval, sigmas: float) -> Interval:
    ends = [sigmas / mu if mu > 0 else math.inf for mu in (apart.value, apart.high, apart.low)]
    return Interval(*ends)
