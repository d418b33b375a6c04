"""Bags of real numbers: means in their unit, truncated and noisy as asked, learned as 0 to 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest, laplace

from clients.batch import Batch, joined
from fedsim.bag_advice import Assumed, advise, sum_noise
from fedsim.data.aggregates import text, truncation
from fedsim.data.bag_draws import Shown
from fedsim.data.population import Population
from fedsim.data.supervision import Held, InBags, Taught
from fedsim.errors import InputError
from fedsim.flower.workplace import Workplace
from fedsim.privacy.accounting import pure_epsilon
from fedsim.privacy.events import from_data, history
from fedsim.scenario import Scenario, open_population

Make = Callable[..., Scenario]
NUM = 4000
NUMBERS = np.random.default_rng(0).gamma(2.0, 2.0, NUM).astype(np.float32)
CLASSES = (NUMBERS > 4).astype(np.int64)
RANGE = {"low": 0.0, "high": 8.0}
LAPLACE = {"kind": "laplace", "epsilon": 0.5}


def taught(**more: Any) -> Taught:
    part = InBags(bag_size=8, response="mean", **more)
    held = Held(CLASSES, Shown(NUM, {}, lambda: np.zeros((NUM, 1, 2, 2), np.uint8)), NUMBERS)
    return part.teach({"train": held}, 2, lambda purpose: np.random.default_rng(len(purpose)))


def means(found: Taught, numbers: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean of each bag, another way than the code."""
    of_example = found.knowledge.aggregates["train"][0].of_example
    return np.array([numbers[of_example == bag].mean() for bag in range(NUM // 8)])


def responses(found: Taught) -> NDArray[np.float32]:
    return found.knowledge.aggregates["train"][0].responses[:, 0]


def test_a_response_is_the_mean_of_its_bag_and_no_number_stays() -> None:
    found = taught()
    np.testing.assert_allclose(responses(found), means(found, NUMBERS), rtol=1e-6)
    assert np.isnan(found.labels["train"]).all()
    assert found.knowledge.aggregates["train"][0].describe()["num_pure"] is None
    assert found.truncated == {}


def test_numbers_are_truncated_before_anything_is_told() -> None:
    found = taught(truncation=RANGE)
    inside = NUMBERS.clip(0, 8)
    np.testing.assert_allclose(responses(found), means(found, inside), rtol=1e-6)
    moved = found.truncated["train"]
    assert moved["num"] == NUM
    assert moved["num_moved"] == (NUMBERS > 8).sum() > 100
    assert moved["shift"] == pytest.approx(inside.mean() - NUMBERS.mean(), rel=1e-4)
    assert moved["shift"] < -0.1


@pytest.mark.parametrize(("factor", "holds"), [(1.0, True), (0.5, False), (2.0, False)])
def test_noise_has_the_scale_of_the_range_over_size_and_epsilon(factor: float, holds: bool) -> None:
    """In the unit of the number; a wrong scale is found."""
    found = taught(truncation=RANGE, label_privacy=LAPLACE, project=False)
    noise = responses(found) - means(found, NUMBERS.clip(0, 8))
    scale = factor * 8 / (8 * 0.5)
    assert (kstest(noise, laplace(scale=scale).cdf).pvalue > 0.01) == holds


def test_projected_means_lie_in_the_range() -> None:
    raw = taught(truncation=RANGE, label_privacy=LAPLACE, project=False)
    found = taught(truncation=RANGE, label_privacy=LAPLACE)
    assert responses(raw).min() < 0
    np.testing.assert_array_equal(responses(found), responses(raw).clip(0, 8))


def test_the_promise_names_the_range_and_redrawing_costs_anew() -> None:
    release = taught(truncation=RANGE, label_privacy=LAPLACE).knowledge.release
    assert pure_epsilon({from_data(release["event"]): 1}) == pytest.approx(0.5)
    assert release["what"] == "mean targets of bags"
    said = "bag membership, bag sizes, images and the range of targets from 0 to 8"
    assert release["public"] == said
    thrice = taught(truncation=RANGE, label_privacy=LAPLACE, num_draws=3)
    event = from_data(thrice.knowledge.release["event"])
    assert pure_epsilon(history([(event, 1)])) == pytest.approx(1.5)
    assert len(thrice.knowledge.aggregates["train"]) == 3


def test_noise_without_a_range_is_refused() -> None:
    with pytest.raises(InputError, match="needs their public range"):
        taught(label_privacy=LAPLACE)


DATA = {
    "source": {"kind": "synthetic", "anatomy": "fundus", "image_size": 16, "num_examples": 300},
    "task": "regression",
    "target": "lesion_area",
}
BAGS = {"kind": "bags", "bag_size": 4, "truncation": {"low": 0, "high": 5}}
SOME = {"kind": "labels", "sites": ["site-00"]}


def scenario(make: Make, *supervision: dict[str, Any], **data: Any) -> Scenario:
    return make(
        data={**DATA, **data},
        population={"num_sites": 3, "supervision": list(supervision)},
        client={
            "epochs": 1,
            "batch_size": 16,
            "objective": {"kind": "bag", "criterion": "squared"},
        },
        evaluation={
            "metrics": ["rmse", "bag_loss"],
            "select_by": "bag_loss",
            "loss_decomposition": False,
        },
    )


def opened(make: Make, *supervision: dict[str, Any], **data: Any) -> Population:
    return open_population(scenario(make, *supervision, **data))


def test_the_unit_that_is_learned_changes_no_response(tiny: Make) -> None:
    noisy = {**BAGS, "label_privacy": LAPLACE}
    plain, scaled = opened(tiny, noisy), opened(tiny, noisy, target_range=[1, 5])
    (told,), (other,) = plain.bags(1, "train"), scaled.bags(1, "train")
    np.testing.assert_array_equal(told.responses, other.responses)
    (learned,) = scaled.examples(1, "train").bags
    np.testing.assert_allclose(learned.responses, (told.responses - 1) / 4, rtol=1e-6)
    assert plain.examples(1, "train").bags[0].responses.tolist() == told.responses.tolist()


def test_tables_and_texts_say_what_there_is(tiny: Make) -> None:
    told = open_population(tiny(data=DATA, population={"num_sites": 3}))
    found = opened(tiny, SOME, BAGS)
    assert found.table() == told.table()
    assert found.known_counts("train") is None
    table = found.knowledge_table()
    said = text(table, 3)
    assert "training bags of 4" in said
    assert "of one class" not in said
    assert "of the numbers in bags were outside their public range" in truncation(table)
    assert truncation(opened(tiny, SOME, {"kind": "bags", "bag_size": 4}).knowledge_table()) == ""


def test_sites_with_bags_and_with_numbers_are_joined(tiny: Make) -> None:
    plan = scenario(tiny, SOME, BAGS, target_range=[0, 5])
    place = Workplace(plan, open_population(plan), "cpu")  # type: ignore[arg-type]
    parts = [place.examples(site, "train") for site in (0, 1)]
    both: Batch = joined(parts, 5)
    assert both.bags is not None
    num = len(parts[0])
    assert both.bags.responses[:num, 0].tolist() == parts[0].labels.tolist()
    assert both.bags.sizes[:num].tolist() == [1] * num
    assert both.class_counts(5).tolist() == [0] * 5


def test_the_theory_s_noise_is_that_of_the_truncated_sum(tiny: Make) -> None:
    entry = InBags(bag_size=8, response="mean", truncation=RANGE, label_privacy=LAPLACE)
    assert sum_noise(entry, 2) == pytest.approx(2 * (8 / 0.5) ** 2)
    zeroed = LAPLACE | {"relation": "zero_out"}
    around = {"low": -4.0, "high": 4.0}
    halved = InBags(bag_size=8, response="mean", truncation=around, label_privacy=zeroed)
    assert sum_noise(halved, 2) == pytest.approx(2 * (4 / 0.5) ** 2)
    plan = scenario(tiny, BAGS)
    (advice,) = advise(plan, open_population(plan), Assumed(1.0, 0.5, 20)).values()
    said = " ".join(advice.departures)
    assert "classes" not in said
    assert "clipped" in said
    plan = scenario(tiny, {"kind": "bags", "bag_size": 4})
    (advice,) = advise(plan, open_population(plan), Assumed(1.0, 0.5, 20)).values()
    assert "clipped" not in " ".join(advice.departures)
