"""What a plan says of bag sizes: the table is the theory's, the sentences are the table's."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from fedsim.bag_theory.advice import SIZES, Advice, Departure, bag_size_advice
from fedsim.bag_theory.bag_size import laplace_variance
from fedsim.bag_theory.linear_risk import asymptotic_risk, ridge_risk
from fedsim.cli.plan_bags import about_bags

PROTECTED = {
    "num_examples": 1600,
    "num_dimensions": 80,
    "signal": 1.0,
    "noise": 0.5,
    "own_size": 5,
    "rho": 1.0,
    "sum_noise": laplace_variance(1.0, 9.4092),
}


def advised(**changes: Any) -> Advice:
    return bag_size_advice(**{**PROTECTED, **changes})


def test_the_table_holds_the_usual_sizes_the_own_and_the_best() -> None:
    found = advised()
    assert found.best_size == 11
    assert [row.bag_size for row in found.rows] == sorted({*SIZES, 5, 11})
    risks = {row.bag_size: row.risk for row in found.rows}
    assert min(risks, key=lambda size: risks[size] or 0) == 11


def test_a_row_is_what_the_theory_says_of_its_size() -> None:
    row = next(row for row in advised(rho=0.3).rows if row.bag_size == 8)
    noise = 0.5 + PROTECTED["sum_noise"] / 8
    expected = asymptotic_risk(8, 0.3, ratio=20, signal=1, noise=noise)
    assert row.noise == noise
    assert (row.bias2, row.variance, row.risk) == (*expected, expected.total)
    assert row.ridge_risk == ridge_risk(8, ratio=20, signal=1, noise=noise)
    at_best = asymptotic_risk(8, row.best_rho, ratio=20, signal=1, noise=noise)
    assert row.best_risk == at_best.total < expected.total


def test_the_sentences_compare_the_own_size_with_the_best() -> None:
    assert advised().sentences == [
        "1,600 examples in 80 dimensions; signal 1 and noise 0.5 are assumed",
        "with rho = 1 the risk is least in bags of 11: 0.91; in bags of 5, as here, it is 1.03",
        "with the best rho from 0 to 1 for each size: bags of 11, rho = 1, 0.91",
        "bags of 1 with the best ridge penalty instead: 0.899",
        "the mean as the only prediction: 1",
    ]
    assert "in bags of 11, as here: 0.91" in advised(own_size=11).sentences[1]


def test_without_a_rho_the_best_of_each_size_is_taken() -> None:
    found = advised(rho=None)
    assert all(row.risk == row.best_risk for row in found.rows)
    assert found.sentences[1].startswith("with the best rho for each size the risk is least")
    assert len(found.sentences) == 4


def test_bags_that_do_not_determine_a_model_are_named_so() -> None:
    found = advised(rho=0.0, own_size=32)
    row = next(row for row in found.rows if row.bag_size == 32)
    assert (row.bias2, row.variance, row.risk) == (None, None, None)
    assert "in bags of 32, as here, they do not determine the model" in found.sentences[1]
    assert found.best_size == 1


def test_noise_that_leaves_nothing_to_learn_is_said() -> None:
    assert advised(rho=0.0).sentences[-1].endswith("nothing is learned in bags of any size")
    assert not any("nothing" in sentence for sentence in advised().sentences)


def test_a_best_size_at_the_end_of_the_search_is_said() -> None:
    found = advised(sum_noise=1e9)
    assert found.best_size == SIZES[-1]
    assert found.sentences[-1] == "bags of more than 128 were not looked at"


def test_no_bag_is_larger_than_all_examples() -> None:
    found = advised(num_examples=20, num_dimensions=4, sum_noise=1e9)
    assert found.rows[-1].bag_size == found.best_size == 20
    assert "not looked at" not in found.sentences[-1]


def test_more_dimensions_than_examples_are_beyond_the_theory() -> None:
    found = advised(num_dimensions=1600)
    assert (found.rows, found.best_size) == ([], None)
    assert found.sentences == [
        "1,600 examples in 1,600 dimensions; signal 1 and noise 0.5 are assumed",
        "the theory needs more examples than dimensions (assume fewer if fewer matter)",
    ]


def test_every_departure_has_a_sentence_of_its_own() -> None:
    names = get_args(Departure)
    assert len(set(advised(departures=names).departures)) == len(names)
    assert advised(departures=["classes"]).departures == [
        "responses are of classes: outputs pass a softmax, noise depends on features"
    ]
    assert advised().departures == []


def test_assumptions_that_cannot_be_are_refused() -> None:
    for wrong in ({"noise": -0.1}, {"signal": float("nan")}, {"sum_noise": float("inf")}):
        with pytest.raises(ValueError, match="finite and not negative"):
            advised(**wrong)


def test_it_is_printed_as_a_table_below_the_sentences() -> None:
    found = advised(departures=["network"], own_size=32, rho=0.0)
    (text,) = about_bags(found).values()
    lines = [line.strip() for line in text.splitlines()]
    assert lines[1 : 1 + len(found.sentences)] == found.sentences
    header = lines.index(
        next(line for line in lines if line.split()[:3] == ["bag", "size", "noise"])
    )
    cells = [line.split() for line in lines[header + 1 : header + 1 + len(found.rows)]]
    assert [int(row[0]) for row in cells] == [row.bag_size for row in found.rows]
    assert cells[0] == ["1", "178", "0", "9.35", "9.35", "0", "9.35", "0.899"]
    assert cells[-3][:5] == ["32", "6.03", "unbounded", "unbounded", "unbounded"]
    assert lines[-1] == "not of this scenario: the network is not linear"
