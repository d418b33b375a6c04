"""What a comparison may be said to have shown, as a word and as a sentence.

    equivalent  the interval lies inside plus or minus the smallest difference of interest
    better      else, the adjusted p-value is at or below alpha, in the method's favour
    worse       likewise, in the reference's favour
    not shown   else; the sentence says which differences the interval excludes, and what these
                seeds can show at all

The interval is simultaneous: each of m comparisons gets one of confidence 1 - alpha / m, so that
with probability 1 - alpha all of them hold together (Bonferroni). Holm's test of the same family is
a little sharper: near the limit a difference may be shown whose interval still touches zero.
Equivalence by an interval inside the limits is two one-sided tests (Schuirmann 1987) at half the
level of the interval.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedsim.comparison.paired import Paired
from fedsim.comparison.power import smallest_exact_p

BETTER, WORSE, EQUIVALENT, NOT_SHOWN = "better", "worse", "equivalent", "not shown"
VERDICTS = (BETTER, WORSE, EQUIVALENT, NOT_SHOWN)
NOT_TESTED = "not tested"
"""Stands in place of a verdict where the study planned no test."""


@dataclass(frozen=True)
class Question:
    """What is compared, in words.

    Args:
        method: that is looked at.
        reference: that it is compared to.
        metric: its title.
        where: the setting as it ends a clause, "" if there is one alone.
        higher_is_better: direction of the metric.
        smallest_difference: of interest; None without one.
        alpha: family-wise level.
    """

    method: str
    reference: str
    metric: str
    where: str
    higher_is_better: bool
    smallest_difference: float | None
    alpha: float


@dataclass(frozen=True)
class Reach:
    """What the seeds can show, from the spread that they have.

    Args:
        detectable: smallest difference that is shown with the wanted power; None if unknown.
        seeds_needed: for the smallest difference of interest; None if unknown or too many.
        power: wanted.
    """

    detectable: float | None
    seeds_needed: int | None
    power: float


@dataclass(frozen=True)
class Finding:
    """What two or more pairs say about a question.

    Args:
        question: that was asked.
        num_pairs: seeds.
        mean: of the differences, method minus reference.
        low: lower end of its simultaneous interval.
        high: its upper end.
        p_adjusted: of the test, after Holm's correction.
        p_exact: of the exact sign-flip test, not corrected; None if there are too many pairs.
        reach: what so many seeds can show.
    """

    question: Question
    num_pairs: int
    mean: float
    low: float
    high: float
    p_adjusted: float
    p_exact: float | None
    reach: Reach

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
        limit = self.question.smallest_difference
        if limit is not None and -limit < self.low and self.high < limit:
            return EQUIVALENT
        return self._direction if self._significant else NOT_SHOWN

    @property
    def sentence(self) -> str:
        """What the numbers support, in one to three sentences."""
        if self.verdict == EQUIVALENT:
            return self._equivalent()
        return self._not_shown() if self.verdict == NOT_SHOWN else self._shown()

    @property
    def _significant(self) -> bool:
        return self.p_adjusted <= self.question.alpha

    @property
    def _direction(self) -> str:
        return BETTER if (self.mean > 0) == self.question.higher_is_better else WORSE

    @property
    def _numbers(self) -> str:
        interval = f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{interval}, {seeds_text(self.num_pairs)}, adjusted {p_text(self.p_adjusted)}"

    def _shown(self) -> str:
        asked = self.question
        text = (
            f"{asked.method} is {self.verdict} than {asked.reference} in {asked.metric}"
            f"{asked.where}: {self._numbers}."
        )
        limit = asked.smallest_difference
        if self.low <= 0 <= self.high:
            text += " The simultaneous interval, less sharp than the test, still holds zero."
        elif limit is not None and min(abs(self.low), abs(self.high)) >= limit:
            text += f" That is at least the {size(limit)} of interest."
        elif limit is not None:
            text += f" Whether it reaches the {size(limit)} of interest is open."
        return text + self._check()

    def _check(self) -> str:
        """Return what the exact test adds where it does not agree by itself."""
        if self.p_exact is None or self.p_exact <= self.question.alpha:
            return ""
        if smallest_exact_p(self.num_pairs) > self.question.alpha:
            return (
                " This rests on normally distributed differences: with "
                f"{seeds_text(self.num_pairs)} no exact test can reject."
            )
        return (
            " The exact sign-flip test, which does not assume normal differences, does not confirm "
            f"it ({p_text(self.p_exact)})."
        )

    def _equivalent(self) -> str:
        asked = self.question
        text = (
            f"{asked.method} and {asked.reference} differ in {asked.metric}{asked.where} by less "
            f"than the {size(asked.smallest_difference or 0.0)} of interest: {self._numbers}."
        )
        if self._significant and self.mean:
            text += f" Within that, {asked.method} is {self._direction}."
        return text

    def _not_shown(self) -> str:
        asked = self.question
        return (
            f"No difference in {asked.metric} between {asked.method} and {asked.reference} could "
            f"be shown{asked.where}: {self._numbers}; {self._excluded()}.{self._lack()}"
        )

    def _excluded(self) -> str:
        up, down = self.high, -self.low
        gain, loss = (up, down) if self.question.higher_is_better else (down, up)
        if size(loss) == size(gain):
            return f"differences above {size(gain)} are excluded"
        return f"gains above {size(gain)} and losses above {size(loss)} are excluded"

    def _lack(self) -> str:
        """Return what the seeds lack to show the smallest difference of interest."""
        limit, reach = self.question.smallest_difference, self.reach
        if limit is None or reach.detectable is None or reach.detectable <= limit:
            return ""
        needed = "more seeds than a study can have"
        if reach.seeds_needed is not None:
            needed = f"about {reach.seeds_needed} seeds"
        return (
            f" The seeds are too few for the question: with {100 * reach.power:.0f} % power they "
            f"show differences from {size(reach.detectable)} on; {size(limit)} takes {needed}."
        )


def judge(
    question: Question, found: Paired, p_adjusted: float | None, reach: Reach
) -> tuple[str, str]:
    """Return verdict and sentence.

    Args:
        question: that was asked.
        found: with the simultaneous interval.
        p_adjusted: of the test, after Holm's correction; None below two pairs.
        reach: what so many seeds can show.
    """
    if found.mean is None or found.low is None or found.high is None or p_adjusted is None:
        return NOT_SHOWN, (
            f"Nothing can be said of {question.method} against {question.reference} in "
            f"{question.metric}{question.where}: {seeds_text(found.num_pairs)} with a value of "
            "both; it takes at least two."
        )
    finding = Finding(
        question,
        found.num_pairs,
        found.mean,
        found.low,
        found.high,
        p_adjusted,
        found.p_exact,
        reach,
    )
    return finding.verdict, finding.sentence


def describe(question: Question, found: Paired) -> tuple[str, str]:
    """Return what stands in place of a verdict, and a sentence that claims nothing.

    Args:
        question: that was not asked beforehand.
        found: with an interval that is not corrected.
    """
    numbers = seeds_text(found.num_pairs)
    if found.mean is not None and found.low is not None and found.high is not None:
        numbers = f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {numbers}"
    return NOT_TESTED, (
        f"{question.method} minus {question.reference} in {question.metric}{question.where}: "
        f"{numbers}. Not among the planned comparisons: no test, and an interval of its own."
    )


def p_text(p: float) -> str:
    """Return a p-value for people.

    >>> p_text(0.0123), p_text(0.00001)
    ('p = 0.012', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def seeds_text(num: int) -> str:
    """Return a number of pairs for people."""
    return f"{num} paired seed{'s' * (num != 1)}"


def size(value: float) -> str:
    """Return a size for people; as many digits as it takes not to be zero, at least three.

    >>> size(0.02), size(0.0314), size(0.00004)
    ('0.02', '0.031', '4e-05')
    """
    rounded = f"{value:.3f}".rstrip("0").rstrip(".")
    return rounded if float(rounded) or not value else f"{value:.1g}"
