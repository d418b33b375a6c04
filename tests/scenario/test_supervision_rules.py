"""What sites know must be enough for the objective, the metric that selects, and all else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from fedsim.errors import ScenarioError
from fedsim.scenario import Scenario, open_population
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
