"""What sites know must be enough for the objective, the metric that selects, and all else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from fedsim.errors import ScenarioError
from fedsim.scenario import Scenario, from_data, open_population
from fedsim.scenario.messages import UnmetError

Make = Callable[..., Scenario]
BAGS = {"kind": "bags", "bag_size": 4}
SOME = {"kind": "labels", "sites": ["site-00"]}
OBJECTIVE = {"kind": "bag"}
BY_BAGS = {"metrics": ["auroc", "bag_loss"], "select_by": "bag_loss", "loss_decomposition": False}


def made(
    make: Make,
    *supervision: dict[str, Any],
    objective: dict[str, Any] = OBJECTIVE,
    evaluation: dict[str, Any] = BY_BAGS,
    population: dict[str, Any] | None = None,
    **more: Any,
) -> Scenario:
    return make(
        population={"num_sites": 3, "supervision": list(supervision), **(population or {})},
        client={"epochs": 1, "batch_size": 16, "objective": objective},
        evaluation=evaluation,
        **more,
    )


def test_bags_labels_and_both_are_fine(tiny: Make) -> None:
    assert made(tiny, BAGS)
    assert made(tiny, SOME, BAGS)
    auroc = {"loss_decomposition": False}
    assert made(tiny, SOME, BAGS, evaluation=auroc).evaluation.select_by == "auroc"
    assert made(tiny, SOME, {"kind": "unlabelled"}, objective={"kind": "llp_vat"})


def test_delta_of_noise_on_labels_is_below_one_over_the_labels_of_a_site(tiny: Make) -> None:
    def noisy(delta: float, **more: Any) -> Scenario:
        noise = {"kind": "gaussian", "epsilon": 1.0, "delta": delta}
        return made(tiny, SOME, {**BAGS, **more, "label_privacy": noise})

    sizes = [
        sum(len(held[split]) for split in ("train", "validation"))
        for held in open_population(noisy(1e-4)).indices[1:]
    ]
    where = r"supervision\.1\.label_privacy\.delta\n  a site has "
    with pytest.raises(UnmetError, match=where + f"{max(sizes)} labels"):
        open_population(noisy(1 / max(sizes)))
    with pytest.raises(ScenarioError, match="delta"):
        noisy(1e-10)
    assert open_population(noisy(0.9 / max(sizes)))


BROKEN: list[tuple[tuple[dict[str, Any], ...], dict[str, Any], str]] = [
    (
        (BAGS,),
        {"objective": {"kind": "cross_entropy"}},
        r"client\.objective\.kind\n  cross_entropy learns from labels, and site-00 has bags alone",
    ),
    (
        (SOME, {"kind": "unlabelled"}),
        {},
        r"client\.objective\.kind\n  bag learns from bags or labels, and site-01 has no labels",
    ),
    (
        (BAGS,),
        {"evaluation": {"loss_decomposition": False}},
        r"evaluation\.select_by\n  no site has labels, so none can tell the auroc",
    ),
    (
        ({"kind": "unlabelled"},),
        {"objective": {"kind": "llp_vat"}},
        r"population\.supervision\n  no site knows anything",
    ),
    (
        (BAGS,),
        {"evaluation": {**BY_BAGS, "loss_decomposition": True}},
        r"evaluation\.loss_decomposition\n  it needs the labels of every site, and site-00",
    ),
    (
        ({**BAGS, "sites": ["site-9"]},),
        {},
        r"population\.supervision\.0\.sites\.0\n  there is no site 'site-9'",
    ),
    (
        (SOME, {**BAGS, "sites": ["site-00"]}),
        {},
        r"population\.supervision\.1\.sites\.0\n  'site-00' is in entry 0 already",
    ),
    ((BAGS, {"kind": "labels"}), {}, r"population\.supervision\.1\.sites\n  'rest' is in entry 0"),
    (
        ({**BAGS, "draw": {"kind": "grouped", "column": "study"}},),
        {},
        r"population\.supervision\.0\.draw\.column\n  the data have no column 'study'",
    ),
    (
        (BAGS,),
        {"population": {"adversaries": [{"kind": "label_flip", "sites": ["site-01"]}]}},
        r"population\.adversaries\.0\n  it needs the labels of every site",
    ),
    ((BAGS,), {"strategy": {"kind": "q_fed_avg"}}, r"strategy\n  it needs the labels"),
    (
        (SOME, {"kind": "unlabelled"}),
        {"objective": {"kind": "llp_vat"}, "baselines": ["pooled"]},
        r"baselines\.0\n  pooled trains as a site does, and site-01 knows nothing",
    ),
    (({**BAGS, "bag_size": [8, 4]},), {}, r"expected the smaller size first"),
    (({**BAGS, "bag_size": 0},), {}, r"population\.supervision\.0"),
]


@pytest.mark.parametrize(("supervision", "more", "message"), BROKEN)
def test_what_cannot_be_is_refused(
    tiny: Make, supervision: tuple[dict[str, Any], ...], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        made(tiny, *supervision, **more)
    assert re.search(message, str(caught.value)), caught.value


REGRESSION = {
    "source": {"kind": "synthetic", "anatomy": "fundus", "image_size": 16, "num_examples": 120},
    "task": "regression",
    "target": "lesion_area",
}
BY_NUMBERS = {**BY_BAGS, "metrics": ["rmse", "bag_loss"]}
SQUARED = {"kind": "bag", "criterion": "squared"}
NOISE = {"kind": "laplace", "epsilon": 1.0}
WITHIN = {"low": 0, "high": 15}


def of_numbers(make: Make, *supervision: dict[str, Any], **more: Any) -> Scenario:
    asked = {"objective": SQUARED, "evaluation": BY_NUMBERS, **more}
    return made(make, *supervision, data=REGRESSION, **asked)


@pytest.mark.parametrize("kind", ["bag", "instance", "interpolated_bag"])
def test_bags_of_a_regression_tell_the_mean_by_default(tiny: Make, kind: str) -> None:
    found = of_numbers(tiny, SOME, BAGS, objective={**SQUARED, "kind": kind})
    assert found.population.supervision[1].response == "mean"
    assert from_data(found.resolved(), "again") == found
    noisy = {**BAGS, "response": "mean", "label_privacy": NOISE, "truncation": WITHIN}
    assert of_numbers(tiny, noisy, objective={**SQUARED, "kind": kind}, baselines=["unshrunk"])
    assert made(tiny, BAGS).population.supervision[0].response == "proportions"


@pytest.mark.parametrize(
    ("supervision", "more", "message"),
    [
        (
            (BAGS,),
            {"objective": {"kind": "bag"}},
            r"client\.objective\n  bag with criterion cross_entropy learns classes.*squared",
        ),
        ((BAGS,), {"objective": {"kind": "easy_llp"}}, r"objective\n  easy_llp learns classes"),
        (
            (BAGS,),
            {"objective": {"kind": "squared_error"}},
            r"objective\.kind\n  squared_error learns from labels, and site-00 has bags alone: use "
            r"one of bag, instance, interpolated_bag, with criterion: squared",
        ),
        (
            (SOME, {"kind": "unlabelled"}),
            {},
            r"bag learns from bags or labels, and site-01 has no labels: no objective of a regres",
        ),
        (
            ({**BAGS, "response": "highest"},),
            {},
            r"supervision\.0\.response\n  highest is of classes, numbers have a mean",
        ),
        (
            ({**BAGS, "label_privacy": NOISE},),
            {},
            r"supervision\.0\.truncation\n  is required: noise hides a number within a public",
        ),
        (
            ({**BAGS, "label_privacy": {**NOISE, "kind": "geometric"}, "truncation": WITHIN},),
            {},
            r"supervision\.0\.label_privacy\n  geometric adds whole numbers to counts of classes",
        ),
        (
            ({"kind": "labels", "label_privacy": {"kind": "randomised_response", "epsilon": 1}},),
            {},
            r"supervision\.0\.label_privacy\n  randomised_response is for classes: use bags",
        ),
        (
            (BAGS,),
            {"evaluation": {"loss_decomposition": False}},
            r"select_by\n  no site has labels",
        ),
    ],
)
def test_what_a_regression_cannot_do_with_bags_is_refused(
    tiny: Make, supervision: tuple[dict[str, Any], ...], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        of_numbers(tiny, *supervision, **more)
    assert re.search(message, str(caught.value)), caught.value


@pytest.mark.parametrize("more", [{"response": "mean"}, {"truncation": WITHIN}])
def test_what_is_of_a_regression_alone_is_refused_of_classes(
    tiny: Make, more: dict[str, Any]
) -> None:
    with pytest.raises(ScenarioError, match=rf"supervision\.0\.{next(iter(more))}\n"):
        made(tiny, {**BAGS, **more})


def test_sites_that_draw_their_examples_have_no_labels_of_their_own(tiny: Make) -> None:
    partition = {"kind": "resampled", "examples_per_site": [5, 9]}
    with pytest.raises(ScenarioError, match="share their examples"):
        made(tiny, BAGS, population={"partition": partition})


def test_bags_too_large_for_the_exact_likelihood_are_refused(tiny: Make) -> None:
    source = {"kind": "synthetic", "anatomy": "fundus", "image_size": 16, "num_examples": 300}
    plan = made(
        tiny,
        {**BAGS, "bag_size": 12},
        objective={"kind": "count_likelihood"},
        data={"source": source, "task": "ordinal"},
    )
    with pytest.raises(UnmetError, match="at most 10 examples for 5 classes, and site-00 has one"):
        open_population(plan)
    assert open_population(made(tiny, BAGS, objective={"kind": "count_likelihood"}))


def test_sites_that_draw_their_examples_have_no_prior_of_all(tiny: Make) -> None:
    partition = {"kind": "resampled", "examples_per_site": [5, 9]}
    with pytest.raises(ScenarioError, match=r"objective\.prior\n  nobody knows the prior"):
        made(
            tiny,
            objective={"kind": "easy_llp", "prior": "population"},
            population={"partition": partition},
            evaluation={"loss_decomposition": False},
        )
