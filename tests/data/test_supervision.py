"""Bags: every example in one, sizes as asked, aggregates right, and no label left behind."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from clients.batch import UNKNOWN
from fedsim.data.aggregates import Aggregates
from fedsim.data.bag_draws import NO_BAG, Grouped, Random, Shown, Similar
from fedsim.data.population import Population
from fedsim.data.supervised import sites_of, supervise
from fedsim.data.supervision import Held, InBags, Labels, Unlabelled
from fedsim.flower.workplace import Workplace
from fedsim.privacy.accounting import pure_epsilon
from fedsim.privacy.events import from_data, history
from fedsim.report.contact_sheet import labelled
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams

Make = Callable[..., Scenario]
SOURCE = {"kind": "synthetic", "anatomy": "chest", "image_size": 16}
NUM = 103
LABELS = np.random.default_rng(0).integers(0, 3, NUM)
IMAGES = np.random.default_rng(1).integers(0, 256, (NUM, 1, 4, 4), dtype=np.uint8)
PATIENTS = np.array([f"p{number // 4}" if number < 90 else "" for number in range(NUM)])

SHOWN = Shown(NUM, {"patient": PATIENTS}, lambda: IMAGES)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def held() -> Held:
    return Held(LABELS, SHOWN)


def taught(supervision: InBags) -> tuple[NDArray[np.bool_], tuple[Aggregates, ...]]:
    found = supervision.teach({"train": held()}, 3, lambda purpose: rng())
    assert (found.labels["train"] == UNKNOWN).all()
    return found.chosen["train"], found.knowledge.aggregates["train"]


@given(
    num=st.integers(1, 200),
    low=st.integers(1, 70),
    more=st.integers(0, 10),
    remainder=st.sampled_from(["spread", "keep", "drop"]),
)
def test_sizes_are_as_asked(num: int, low: int, more: int, remainder: Any) -> None:
    part = InBags(bag_size=(low, low + more), remainder=remainder)
    sizes = part.sizes(num, rng())
    assert (sizes > 0).all()
    if remainder == "drop":
        assert num - low - more < sizes.sum() <= num
        assert ((sizes >= low) & (sizes <= low + more)).all()
    else:
        assert sizes.sum() == num
    if remainder == "spread" and num >= low + more:
        assert sizes.min() >= low
    if remainder == "keep":
        assert ((sizes[:-1] >= low) & (sizes[:-1] <= low + more)).all()


@pytest.mark.parametrize("draw", [Random(), Similar(), Similar(feature="contrast"), Grouped()])
@pytest.mark.parametrize("remainder", ["spread", "keep"])
def test_every_example_lies_in_one_bag_whose_response_is_its_mean(
    draw: Any, remainder: Any
) -> None:
    chosen, (bags,) = taught(InBags(bag_size=8, draw=draw, remainder=remainder))
    assert chosen.all()
    assert sorted(set(bags.of_example.tolist())) == list(range(len(bags.responses)))
    for number, response in enumerate(bags.responses):
        inside = LABELS[bags.of_example == number]
        expected = [np.mean(inside == c) for c in range(3)]
        np.testing.assert_allclose(response, expected, atol=1e-7)
    assert bags.class_counts.tolist() == np.bincount(LABELS).tolist()
    pure = sum(len(set(LABELS[bags.of_example == n].tolist())) == 1 for n in range(len(bags.sizes)))
    sizes = np.bincount(bags.of_example)
    assert bags.describe() == {
        "num_bags": len(sizes),
        "smallest": sizes.min(),
        "largest": sizes.max(),
        "num_pure": pure,
    }


def test_what_is_dropped_is_not_used() -> None:
    chosen, (bags,) = taught(InBags(bag_size=10, remainder="drop"))
    assert chosen.sum() == 100 == len(bags.of_example)


def test_small_bags_are_not_released() -> None:
    chosen, (bags,) = taught(InBags(bag_size=10, remainder="keep", min_bag_size=4))
    assert chosen.sum() == 100
    assert bags.sizes.tolist() == [10] * 10
    chosen, (bags,) = taught(InBags(bag_size=10, remainder="keep", min_bag_size=3))
    assert sorted(bags.sizes.tolist()) == [3] + [10] * 10


def test_random_bags_mix_at_random() -> None:
    """Neighbours in the file share a bag no more often than others."""
    together = 0
    for seed in range(200):
        bags = Random().draw(replace(SHOWN, num=100), np.full(10, 10), rng(seed))
        together += int((bags[:-1] == bags[1:]).sum())
    expected = 200 * 99 * 9 / 99
    assert abs(together - expected) < 4 * np.sqrt(expected)


def test_similar_bags_are_runs_of_the_feature() -> None:
    bags = Similar().draw(SHOWN, np.array([50, 53]), rng())
    brightness = IMAGES.reshape(NUM, -1).mean(axis=1)
    assert brightness[bags == 0].max() <= brightness[bags == 1].min()


def test_groups_stay_whole() -> None:
    bags = Grouped().draw(SHOWN, np.full(10, 10), rng())
    assert (bags != NO_BAG).all()
    for patient in set(PATIENTS.tolist()) - {""}:
        assert len(set(bags[patient == PATIENTS].tolist())) == 1
    assert np.bincount(bags).min() >= 10


def test_studies_stay_whole_too() -> None:
    studies = np.array([f"s{number // 3}" for number in range(NUM)])
    shown = Shown(NUM, {"study": studies}, lambda: IMAGES)
    bags = Grouped(column="study").draw(shown, np.full(12, 8), rng())
    assert all(len(set(bags[studies == study].tolist())) == 1 for study in set(studies.tolist()))


def test_every_example_lies_in_as_many_bags_as_there_are_draws() -> None:
    """This is how bags overlap: a label is told of so often, and pays so often."""
    privacy = {"kind": "laplace", "epsilon": 0.5}
    _, divisions = taught(InBags(bag_size=8, num_draws=3, label_privacy=privacy))
    for bags in divisions:
        assert len(bags.of_example) == NUM
    release = InBags(bag_size=8, num_draws=3, label_privacy=privacy).teach(
        {"train": held()}, 3, lambda purpose: rng()
    )
    events = history([(from_data(release.knowledge.release["event"]), 1)])
    assert pure_epsilon(events) == pytest.approx(1.5, rel=1e-12)


def test_bags_can_be_drawn_again() -> None:
    chosen, divisions = taught(InBags(bag_size=8, num_draws=3))
    assert chosen.all()
    assert len(divisions) == 3
    assert len({tuple(bags.of_example.tolist()) for bags in divisions}) == 3
    with pytest.raises(ValidationError, match="needs every example in a bag"):
        InBags(bag_size=8, num_draws=2, remainder="drop")


def test_rest_means_all_that_no_other_entry_names() -> None:
    parts = (Labels(sites=("a",)), Unlabelled(sites=("c",)), InBags(bag_size=2))
    found = sites_of(parts, ["a", "b", "c", "d"])
    assert {site: part.kind for site, part in found.items()} == {
        1: "bags",
        2: "unlabelled",
        3: "bags",
    }
    assert sites_of((), ["a"]) == {}


def federation(make: Make, **sections: Any) -> Scenario:
    supervision = [
        {"kind": "labels", "sites": ["site-00"]},
        {"kind": "bags", "bag_size": 4},
    ]
    return make(
        population={"num_sites": 3, "supervision": supervision},
        client={"epochs": 1, "batch_size": 16, "objective": {"kind": "bag"}},
        evaluation={"loss_decomposition": False},
        **sections,
    )


def test_sites_know_their_bags_and_the_simulator_the_test_labels(tiny: Make) -> None:
    told = open_population(tiny(population={"num_sites": 3}))
    found = open_population(federation(tiny))
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(
            found.examples(0, split).labels, told.examples(0, split).labels
        )
        assert (found.examples(1, split).labels == UNKNOWN).all()
        assert found.examples(0, split).bags == ()
    (bags,) = found.examples(1, "train").bags
    truth = told.examples(1, "train").labels
    for number, response in enumerate(bags.responses):
        assert response[1] == pytest.approx((truth[bags.of_example == number] == 1).mean())
    assert found.examples(1, "validation").bags
    assert not found.examples(1, "test").bags
    np.testing.assert_array_equal(found.hidden["site-01"].test, told.examples(1, "test").labels)
    assert found.class_counts(1, "train").tolist() == told.class_counts(1, "train").tolist()
    assert found.class_counts(1, "test").tolist() == told.class_counts(1, "test").tolist()


def test_the_same_scenario_draws_the_same_bags(tiny: Make) -> None:
    one, two = (open_population(federation(tiny)).bags(1, "train")[0] for _ in range(2))
    np.testing.assert_array_equal(one.of_example, two.of_example)
    np.testing.assert_array_equal(one.responses, two.responses)


def reachable(root: object) -> list[NDArray[Any]]:
    """Return all arrays that can be reached from an object."""
    seen, todo, found = set[int](), [root], []
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type) or type(thing).__name__ == "module":
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            found.append(thing)
        todo += [
            other
            for other in gc.get_referents(thing)
            if not (isinstance(thing, dict) and "__builtins__" in thing)
        ]
    return found


Secret = dict[str, tuple[NDArray[np.int64], NDArray[Any]]]
"""Split -> positions of a site's examples in the pooled data, and their labels or numbers."""


def canaries(root: object, secret: Secret) -> set[str]:
    """Return the splits whose labels lie in an array that can be reached from an object.

    In a row, or at the positions of their examples.
    """
    arrays = [a for a in reachable(root) if a.dtype.kind in "iuf" and a.ndim == 1]

    def inside(array: NDArray[Any], at: NDArray[np.int64], labels: NDArray[Any]) -> bool:
        if len(array) > at.max() and np.array_equal(array[at], labels):
            return True
        if len(array) < len(labels):
            return False
        runs = np.lib.stride_tricks.sliding_window_view(array, len(labels))
        return bool((runs == labels).all(axis=1).any())

    return {
        name for name, (at, labels) in secret.items() if any(inside(a, at, labels) for a in arrays)
    }


def without_source(population: Population) -> Population:
    """Return a population that cannot make images: where they come from, labels are known too."""
    return replace(population, pixels=np.zeros, shown=np.zeros)


def test_no_label_of_a_bag_site_can_be_found_from_what_its_client_holds(tiny: Make) -> None:
    """Nor its test labels: the canary is the sequence of a site's labels, in any array."""
    data = {"source": {**SOURCE, "num_examples": 900}, "task": "binary"}
    told = open_population(tiny(population={"num_sites": 3}, data=data))
    secret = {split: (at, told.labels[at]) for split, at in told.indices[1].items()}
    assert min(len(at) for at, _ in secret.values()) > 30  # none is there by chance
    scenario = federation(tiny, data=data)
    simulators = open_population(scenario)
    assert canaries(without_source(simulators), secret) == {"test"}  # by which it judges
    client = Workplace(scenario, simulators, torch.device("cpu"))
    for split in ("train", "validation", "test"):
        client.examples(1, split)
    assert canaries(without_source(client.population), secret) == set()
    held = [batch for (site, _), batch in client._batches.items() if site == 1]
    assert len(held) == 3
    assert all((batch.labels == UNKNOWN).all() for batch in held)
    bags = [batch.bags.of_example.numpy() for batch in held if batch.bags is not None]
    assert canaries(bags, secret) == set()
    assert canaries(told, secret) == set(secret)  # the search finds them


NUMBERS = {
    "source": {**SOURCE, "anatomy": "fundus", "num_examples": 900},
    "task": "regression",
    "target": "lesion_area",
    "target_range": [0, 5],
}


def bags_of_numbers(make: Make, **more: Any) -> Scenario:
    return make(
        data=NUMBERS,
        population={
            "num_sites": 3,
            "supervision": [
                {"kind": "labels", "sites": ["site-00"]},
                {"kind": "bags", "bag_size": 4, **more},
            ],
        },
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


def test_no_number_of_a_bag_site_can_be_found_from_what_its_client_holds(tiny: Make) -> None:
    """Neither in its unit, nor as it is learned, nor the classes, which tell of the numbers."""
    told = open_population(tiny(data=NUMBERS, population={"num_sites": 3}))
    secret: Secret = {}
    for split, at in told.indices[1].items():
        secret[split] = at, told.truth(1, split)
        secret[f"{split}, learned"] = at, told.learned(at)
        secret[f"{split}, class"] = at, told.labels[at]
    assert min(len(set(values.tolist())) for _, values in secret.values()) > 4
    scenario = bags_of_numbers(tiny, truncation={"low": 0, "high": 4})
    simulators = open_population(scenario)
    assert canaries(without_source(simulators), secret) == {"test"}  # by which it judges
    client = Workplace(scenario, simulators, torch.device("cpu"))
    for split in ("train", "validation", "test"):
        client.examples(1, split)
    assert canaries(without_source(client.population), secret) == set()
    held = [batch for (site, _), batch in client._batches.items() if site == 1]
    assert len(held) == 3
    assert all(batch.labels.isnan().all() for batch in held)
    assert canaries([batch.labels.numpy() for batch in held], secret) == set()
    assert "truncated" not in str(client.population.knowledge_table())
    for split, at in told.indices[1].items():  # the search finds them
        assert canaries([told.learned(at)], secret) == {f"{split}, learned"}
    assert {"train", "validation", "test", "train, class"} <= canaries(told, secret)


def test_few_labels_leave_no_others_behind(tiny: Make) -> None:
    few = {"kind": "labels", "per_class": 5}
    found = open_population(tiny(population={"num_sites": 3, "supervision": [few]}))
    told = open_population(tiny(population={"num_sites": 3}))
    everyone = np.concatenate([held["train"] for held in told.indices])
    kept = np.concatenate([held["train"] for held in found.indices])
    assert (found.labels[everyone] != UNKNOWN).sum() == len(kept) < len(everyone)


def test_of_unlabelled_sites_the_simulator_alone_counts_images(tiny: Make) -> None:
    supervision = [{"kind": "labels", "sites": ["site-00"]}, {"kind": "unlabelled"}]
    told = open_population(tiny(population={"num_sites": 3}))
    found = open_population(
        tiny(
            population={"num_sites": 3, "supervision": supervision},
            client={"epochs": 1, "batch_size": 16, "objective": {"kind": "llp_vat"}},
            evaluation={"loss_decomposition": False},
        )
    )
    assert found.table() == told.table()
    assert found.without_hidden().class_counts(1, "train").sum() == 0
    np.testing.assert_array_equal(found.known_counts("train"), told.class_counts(0, "train"))


def test_without_supervision_nothing_changes(tiny: Make) -> None:
    told = open_population(tiny())
    found = supervise(told, (Labels(),), Streams(3))
    assert found.knowledge == {}
    np.testing.assert_array_equal(found.labels, told.labels)


def test_a_few_labels_of_each_class_are_known_and_nothing_else_is_used() -> None:
    taught = Labels(per_class=5).teach({"train": held()}, 3, lambda purpose: rng())
    chosen = taught.chosen["train"]
    assert np.bincount(LABELS[chosen]).tolist() == [5, 5, 5]
    other = Labels(per_class=5).teach({"train": held()}, 3, lambda purpose: rng(1))
    assert (other.chosen["train"] != chosen).any()
    assert not Labels(per_class=5).tells_all
    with pytest.raises(ValidationError, match="per_class chooses by the true labels"):
        Labels(per_class=5, label_privacy={"kind": "randomised_response", "epsilon": 1.0})


def test_the_highest_class_of_a_bag_is_a_set_level_label() -> None:
    _, (bags,) = taught(InBags(bag_size=3, response="highest"))
    for number, response in enumerate(bags.responses):
        assert response.argmax() == LABELS[bags.of_example == number].max()
        assert sorted(response.tolist()) == [0, 0, 1]
    with pytest.raises(ValidationError, match="noise on proportions"):
        InBags(bag_size=3, response="highest", label_privacy={"kind": "laplace", "epsilon": 1.0})


def test_images_of_sites_without_labels_stand_on_no_contact_sheet(tiny: Make) -> None:
    population = open_population(federation(tiny))
    assert labelled(population, "train") == labelled(population, "test") == [0]
    assert labelled(open_population(tiny()), "train") == [0, 1, 2]
