"""A site does what the scenario says, with streams of its own, and leaves nothing to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import nn

from clients.batch import Batch
from clients.objectives import Context, CrossEntropy
from clients.training import Plan
from fedsim.flower.local_training import train
from fedsim.flower.workplace import Workplace
from fedsim.models import Model
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams

Make = Callable[..., Scenario]
CPU = torch.device("cpu")


class Spying(CrossEntropy):
    """Cross-entropy that notes what it is shown."""

    def loss(self, model: nn.Module, batch: Batch, context: Context) -> torch.Tensor:
        SEEN.append((batch, context))
        return super().loss(model, batch, context)


SEEN: list[tuple[Batch, Context]] = []


class Remembering(Model):
    """A network with dropout and a buffer whose name says nothing."""

    kind: Literal["remembering"] = "remembering"

    @property
    def min_image_size(self) -> int:
        """Any image will do."""
        return 1

    def build(self, num_channels: int, num_classes: int, image_size: int) -> nn.Module:
        """Return the network."""
        network = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.5), nn.Linear(num_channels * image_size**2, num_classes)
        )
        network.register_buffer("mood", torch.zeros(3))
        return network


def workplace(scenario: Scenario, **changes: Any) -> Workplace:
    """Return a workplace; `changes` replace sections by parts that no file could name."""
    population = open_population(scenario)
    return Workplace(scenario.model_copy(update=changes), population, CPU)


def spied(place: Workplace, site: int, round: int) -> list[tuple[Batch, Context]]:
    SEEN.clear()
    train(place, site, round, place.network.initial)
    return list(SEEN)


def change(place: Workplace, round: int, name: str) -> torch.Tensor:
    """Return by how much a parameter of the initial model changes in a round of the first site."""
    initial = place.network.initial
    return train(place, 0, round, initial).state[name] - initial[name]


def spying(scenario: Scenario) -> Workplace:
    client = scenario.client.model_copy(update={"objective": Spying()})
    return workplace(scenario, client=client)


def test_a_local_model_stays_as_it_is_when_the_next_site_trains(tiny: Make) -> None:
    place = workplace(tiny(), model=Remembering())
    first = train(place, 0, 1, place.network.initial).state
    kept = {name: tensor.detach().clone() for name, tensor in first.items()}
    handed_out = {name: tensor.detach() for name, tensor in first.items()}
    train(place, 1, 1, place.network.initial)
    assert all(torch.equal(handed_out[name], kept[name]) for name in kept)


def test_the_loss_of_the_model_that_came_is_told_if_the_strategy_asks(tiny: Make) -> None:
    asking = workplace(tiny(strategy={"kind": "q_fed_avg", "learning_rate": 0.1}))
    silent = workplace(tiny())
    told, untold = (train(place, 1, 1, place.network.initial) for place in (asking, silent))
    network, examples = asking.network, asking.examples(1, "train")
    network.load(network.initial)
    with torch.no_grad():
        expected = nn.functional.cross_entropy(network.module(examples.images), examples.labels)
    assert told.start_loss == pytest.approx(float(expected), rel=1e-6)
    assert untold.start_loss is None
    assert told.loss == untold.loss  # asking changes nothing else


def test_the_initial_model_comes_from_the_seed_alone(tiny: Make) -> None:
    torch.manual_seed(1)
    first = workplace(tiny()).network.initial
    torch.manual_seed(2)
    again, other = workplace(tiny()).network.initial, workplace(tiny(seed=4)).network.initial
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_training_depends_on_seed_site_and_round_alone(tiny: Make) -> None:
    place = workplace(tiny(), model=Remembering())
    first = {n: t.clone() for n, t in train(place, 0, 1, place.network.initial).state.items()}
    train(place, 1, 1, place.network.initial)
    torch.rand(3)
    again = train(place, 0, 1, place.network.initial).state
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_every_round_drops_other_units(tiny: Make) -> None:
    scenario = tiny(client={"steps": 1, "batch_size": 1000})
    place = workplace(scenario, model=Remembering())
    examples = place.examples(0, "train")
    examples.images.copy_(examples.images[:1].expand_as(examples.images))
    examples.labels.zero_()

    first, again, second = (change(place, round, "2.weight") for round in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("key", ["round", "site"])
def test_batches_differ_by_round_and_site(tiny: Make, key: str) -> None:
    scenario = tiny(population={"num_sites": 2})
    place = spying(scenario)
    here = [b.labels.tolist() for b, _ in spied(place, 0, 1)]
    there = [b.labels.tolist() for b, _ in spied(place, *((0, 2) if key == "round" else (1, 1)))]
    assert here != there


def test_augmentation_draws_from_a_stream_of_its_own_by_round(tiny: Make) -> None:
    source = {"kind": "synthetic", "image_size": 16, "num_examples": 120}
    data = {"source": source, "task": "ordinal"}
    still = spying(tiny(data=data))
    moved = spying(tiny(data={**data, "augmentation": {"max_shift": 3}}))
    for (before, _), (after, _) in zip(spied(still, 0, 1), spied(moved, 0, 1), strict=True):
        assert torch.equal(before.labels, after.labels)
    images = moved.examples(0, "train").images
    images.copy_(images[:1].expand_as(images))

    def seen(round: int) -> torch.Tensor:
        return torch.cat([batch.images for batch, _ in spied(moved, 0, round)])

    assert torch.equal(seen(1), seen(1))
    assert not torch.equal(seen(1), seen(2))


def test_every_consumer_has_a_stream_of_its_own(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 120}
    flipped = {"source": source, "task": "binary", "augmentation": {"horizontal_flip": True}}
    place = workplace(tiny(data=flipped))
    asked = []
    key = Streams.key

    def note(self: Streams, purpose: str, **keys: int) -> int:
        asked.append((purpose, keys))
        return key(self, purpose, **keys)

    monkeypatch.setattr(Streams, "key", note)
    train(place, 2, 5, place.network.initial)
    train(place, 1, 6, place.network.initial)
    purposes = ("augmentation", "training", "batches")
    assert sorted(asked, key=str) == sorted(
        [(p, {"round": r, "site": s}) for r, s in ((5, 2), (6, 1)) for p in purposes], key=str
    )


def test_the_learning_rate_follows_the_schedule(tiny: Make) -> None:
    def step(round: int, **schedule: Any) -> torch.Tensor:
        place = workplace(
            tiny(
                client={
                    "steps": 1,
                    "batch_size": 1000,
                    "optimizer": {"kind": "sgd", "learning_rate": 0.1},
                    "schedule": {"kind": "step", "every": 1, "gamma": 0.5},
                }
            )
        )
        return change(place, round, "1.bias")

    torch.testing.assert_close(step(2), step(1) / 2, rtol=1e-3, atol=1e-7)


def test_the_plan_is_the_scenarios(tiny: Make) -> None:
    client = tiny(client={"steps": 3, "batch_size": 8, "drop_last": True}).client
    assert client.plan == Plan(batch_size=8, steps=3, drop_last=True)


def test_class_counts_cover_classes_that_a_site_does_not_hold(tiny: Make) -> None:
    scenario = tiny(
        population={"num_sites": 4, "partition": {"kind": "dirichlet", "alpha": 0.01}},
        evaluation={"metrics": ["loss"], "select_by": "loss"},
    )
    place = spying(scenario)
    counts = [spied(place, site, 1)[0][1].class_counts for site in range(4)]
    assert all(len(c) == 2 for c in counts)
    assert any((c == 0).any() for c in counts)
    for site, c in enumerate(counts):
        assert c.tolist() == place.population.class_counts(site, "train").tolist()


def test_buffers_are_what_is_no_parameter(tiny: Make) -> None:
    assert workplace(tiny(), model=Remembering()).network.buffers == {"mood"}
    assert workplace(tiny()).network.buffers == set()
