"""One-run auditing: one training with canaries, of which an attacker guesses who was there.

Of m canaries, units of what the mechanism hides, each is there by a fair coin. One that is not is a
blank, which the mechanism turns into nothing: neighbours of the ledger (replace-special) differ in
one coin. Where they are put in, and how an attacker scores them, is another matter for sites that
train privately (`fedsim.audit.training_canaries`) and for noise on their updates
(`fedsim.audit.site_canaries`). The best and the worst scores are guessed to be of canaries that
were there or not. So many right guesses are improbable under a small epsilon: the bound.

Source: Steinke, Nasr and Jagielski, NeurIPS 2023 (arXiv:2305.08846), algorithm 1 and theorem 5.2.
The difference: the numbers of guesses are fixed beforehand, all canaries and a tenth of them, and
share the error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from fedsim.audit import site_canaries, training_canaries
from fedsim.audit.benches import bench_of
from fedsim.audit.bounds import clopper_pearson, one_run_epsilon
from fedsim.audit.finding import CONFIDENCE, Finding, Outcome, does_not_apply
from fedsim.audit.subject import Subject
from fedsim.audit.trial import Coins, Scores, Target, TooFewCanaries, Trial, target_of
from fedsim.privacy.directed_rounding import rounded_down, rounded_up
from fedsim.privacy.dp_sgd import DpSgdMechanism

SHARES = (1.0, 0.1)
"""Of the canaries that are guessed, the clearest first."""
Tell = Callable[[int, int], None]


class Way(Protocol):
    """How canaries are put in and scored."""

    def trial(self, subject: Subject, target: Target, tell: Tell) -> Trial:
        """Put canaries in by coins and score each."""

    def seconds(self, subject: Subject, target: Target) -> float:
        """Return about how long that takes."""


def run(subject: Subject, tell: Tell) -> Outcome:
    """Put canaries into what is released and bound epsilon from below by guessing who was there."""
    if why := _obstacle(subject):
        return does_not_apply(why)
    target = target_of(subject)
    try:
        trial = _way(subject).trial(subject, target, tell)
    except TooFewCanaries as error:
        return does_not_apply(str(error))
    num = len(trial.coins)
    found = [_finding(subject, target, trial.scores, trial.coins, share) for share in SHARES]
    most, alarming = (
        max(_ceilings(subject, num, error)) for error in (1 - CONFIDENCE, subject.error)
    )
    can = "can" if alarming > target.epsilon else "cannot"
    shown, said = rounded_up(most, ".2f"), rounded_up(target.epsilon, ".4g")
    note = (
        f"{trial.story} So many cannot show more than epsilon {shown}, and at the level of alarms, "
        f"which is stricter, than {rounded_up(alarming, '.2f')}: the ledger's {said} {can} raise "
        "an alarm. A small bound proves no privacy: a better attack may find more."
    )
    return Outcome(found, [note], {"seed": subject.options.seed, "canaries": num})


def seconds(subject: Subject) -> float:
    """Return about how long `run` takes."""
    if _obstacle(subject):
        return 0.0
    return _way(subject).seconds(subject, target_of(subject))


def _obstacle(subject: Subject) -> str:
    """Return why no canary can be put in, empty if they can."""
    privacy = subject.scenario.privacy
    if privacy is None:
        return "the training of this run is not private"
    if not isinstance(privacy.mechanism, DpSgdMechanism) and not bench_of(
        subject, privacy.mechanism
    ):
        return f"there is no bench for {privacy.mechanism.kind}"
    if not any(claim.unit == privacy.mechanism.unit for claim in subject.claims):
        return subject.why_no_claim
    return ""


def _way(subject: Subject) -> Way:
    """Return how canaries are put in and scored."""
    assert subject.scenario.privacy is not None
    trains = isinstance(subject.scenario.privacy.mechanism, DpSgdMechanism)
    return training_canaries if trains else site_canaries


def guessed(scores: Scores, coins: Coins, num: int) -> int:
    """Return how many of so many guesses are right: half of "there", half of "not there".

    Args:
        scores: (canary,), higher where a canary seems to have been there.
        coins: (canary,), whether it was.
        num: of guesses.
    """
    order = np.argsort(scores, kind="stable")
    absent, there = order[: num // 2], order[len(order) - (num - num // 2) :]
    return int((~coins[absent]).sum() + coins[there].sum())


def _finding(
    subject: Subject, target: Target, scores: Scores, coins: Coins, share: float
) -> Finding:
    num, delta = len(coins), subject.delta
    guesses = round(share * num)
    correct = guessed(scores, coins, guesses)
    seen, sure = (
        one_run_epsilon(correct, guesses, num, delta, error / len(SHARES))
        for error in (1 - CONFIDENCE, subject.error)
    )
    alarm = ""
    if sure > target.epsilon:
        alarm = (
            f"{target.name}: {correct} of {guesses} guesses which canary was there are right, "
            f"which shows epsilon {rounded_down(sure, '.3f')} at least, not "
            f"{rounded_up(target.epsilon, '.3f')}"
        )
    share_right = clopper_pearson(correct, guesses, 1 - CONFIDENCE)
    return Finding(
        f"right of {guesses} guesses",
        target.name,
        share_right.value,
        share_right.low,
        share_right.high,
        1 / (1 + math.exp(-target.epsilon)),
        seen,
        one_run_epsilon(guesses, guesses, num, delta, (1 - CONFIDENCE) / len(SHARES)),
        alarm,
    )


def _ceilings(subject: Subject, num: int, error: float) -> list[float]:
    """Return what can be shown at most with each number of guesses."""
    guesses = [round(share * num) for share in SHARES]
    return [one_run_epsilon(r, r, num, subject.delta, error / len(SHARES)) for r in guesses]
