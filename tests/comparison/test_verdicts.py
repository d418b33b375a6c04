"""Verdicts and the sentences they come with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedsim.comparison.paired import Paired
from fedsim.comparison.verdicts import Question, Reach, judge

ASKED = Question("fedld", "fedavg", "AUROC", " (alpha = 0.1)", True, 0.02, 0.05)
ENOUGH = Reach(0.015, 8, 0.8)
TOO_FEW = Reach(0.0512, 31, 0.8)


def pairs(low: float, high: float, num: int = 10, p_exact: float | None = 0.002) -> Paired:
    return Paired(num, (low + high) / 2, 0.01, low, high, 0.01, p_exact, num, 0, 0)


def test_better() -> None:
    assert judge(ASKED, pairs(0.012, 0.05), 0.004, ENOUGH) == (
        "better",
        "fedld is better than fedavg in AUROC (alpha = 0.1): +0.031 [+0.012, +0.050], 10 paired "
        "seeds, adjusted p = 0.004. Whether it reaches the 0.02 of interest is open.",
    )


def test_better_by_what_is_of_interest() -> None:
    assert judge(ASKED, pairs(0.03, 0.05), 0.0001, ENOUGH) == (
        "better",
        "fedld is better than fedavg in AUROC (alpha = 0.1): +0.040 [+0.030, +0.050], 10 paired "
        "seeds, adjusted p < 0.001. That is at least the 0.02 of interest.",
    )


def test_worse() -> None:
    verdict, sentence = judge(ASKED, pairs(-0.05, -0.03), 0.001, ENOUGH)
    assert verdict == "worse"
    assert sentence.startswith("fedld is worse than fedavg in AUROC (alpha = 0.1): -0.040")


def test_of_a_loss_less_is_better() -> None:
    asked = replace(ASKED, metric="loss", higher_is_better=False, smallest_difference=None)
    assert judge(asked, pairs(-0.05, -0.03), 0.001, Reach(None, None, 0.8)) == (
        "better",
        "fedld is better than fedavg in loss (alpha = 0.1): -0.040 [-0.050, -0.030], 10 paired "
        "seeds, adjusted p = 0.001.",
    )


def test_equivalent() -> None:
    assert judge(ASKED, pairs(-0.008, 0.014), 0.3, ENOUGH) == (
        "equivalent",
        "fedld and fedavg differ in AUROC (alpha = 0.1) by less than the 0.02 of interest: +0.003 "
        "[-0.008, +0.014], 10 paired seeds, adjusted p = 0.300.",
    )


def test_a_difference_that_is_shown_and_too_small_to_matter_is_equivalent() -> None:
    verdict, sentence = judge(ASKED, pairs(0.004, 0.012), 0.01, ENOUGH)
    assert verdict == "equivalent"
    assert sentence.endswith("adjusted p = 0.010. Within that, fedld is better.")


def test_not_shown_and_what_is_excluded() -> None:
    assert judge(ASKED, pairs(-0.01, 0.03), 0.2, ENOUGH) == (
        "not shown",
        "No difference in AUROC between fedld and fedavg could be shown (alpha = 0.1): +0.010 "
        "[-0.010, +0.030], 10 paired seeds, adjusted p = 0.200; gains above 0.03 and losses above "
        "0.01 are excluded.",
    )


def test_not_shown_alike_in_both_directions() -> None:
    (_, sentence) = judge(ASKED, pairs(-0.03, 0.03), 0.9, ENOUGH)
    assert sentence.endswith("; differences above 0.03 are excluded.")


def test_gains_of_a_loss_are_below_zero() -> None:
    asked = replace(ASKED, higher_is_better=False)
    (_, sentence) = judge(asked, pairs(-0.01, 0.03), 0.2, ENOUGH)
    assert sentence.endswith("; gains above 0.01 and losses above 0.03 are excluded.")


def test_below_power_the_answer_is_refused() -> None:
    (_, sentence) = judge(ASKED, pairs(-0.05, 0.05), 0.9, TOO_FEW)
    assert sentence.endswith(
        "differences above 0.05 are excluded. The seeds are too few for the question: with 80 % "
        "power they show differences from 0.051 on; 0.02 takes about 31 seeds."
    )
    (_, sentence) = judge(ASKED, pairs(-0.05, 0.05), 0.9, replace(TOO_FEW, seeds_needed=None))
    assert sentence.endswith("0.02 takes more seeds than a study can have.")


def test_few_seeds_rest_on_normal_differences() -> None:
    (verdict, sentence) = judge(ASKED, pairs(0.03, 0.05, 5, 0.0625), 0.01, ENOUGH)
    assert verdict == "better"
    assert sentence.endswith(
        "This rests on normally distributed differences: with 5 paired seeds no exact test can "
        "reject."
    )


def test_an_exact_test_that_does_not_agree_is_told() -> None:
    (_, sentence) = judge(ASKED, pairs(0.03, 0.05, 10, 0.08), 0.01, ENOUGH)
    assert sentence.endswith(
        "The exact sign-flip test, which does not assume normal differences, does not confirm it "
        "(p = 0.080)."
    )


def test_holm_may_be_sharper_than_the_interval() -> None:
    (verdict, sentence) = judge(ASKED, pairs(-0.001, 0.05), 0.04, ENOUGH)
    assert verdict == "better"
    assert sentence.endswith(
        "The simultaneous interval, less sharp than the test, still holds zero."
    )


@pytest.mark.parametrize(("num", "text"), [(0, "0 paired seeds"), (1, "1 paired seed")])
def test_below_two_pairs_nothing_is_said(num: int, text: str) -> None:
    mean = 0.1 if num else None
    lone = Paired(num, mean, None, None, None, None, None, num, 0, 0)
    assert judge(ASKED, lone, None, Reach(None, None, 0.8)) == (
        "not shown",
        f"Nothing can be said of fedld against fedavg in AUROC (alpha = 0.1): {text} with a value "
        "of both; it takes at least two.",
    )
