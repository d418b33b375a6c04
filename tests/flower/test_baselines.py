"""Yardsticks: plain training, written out here by hand, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from clients.metrics import evaluate
from fedsim.records import RunRecord
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams
from fedsim.simulate import resume, run

Make = Callable[..., Scenario]
BOTH = ("pooled", "local")
CLIENT = {
    "epochs": 2,
    "batch_size": 16,
    "optimizer": {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    "schedule": {"kind": "cosine"},
}


@pytest.fixture(scope="module")
def scenario(tiny: Make) -> Scenario:
    return tiny(
        baselines=BOTH,
        client=CLIENT,
        population={
            "num_sites": 4,
            "partition": {"kind": "dirichlet", "alpha": 1.0},
            "holdout_sites": ["site-02"],
        },
        evaluation={"num_resamples": 20},
    )


@pytest.fixture(scope="module")
def record(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return run(scenario, out=tmp_path_factory.mktemp("runs"), device="cpu")


def train_by_hand(scenario: Scenario, sites: list[int], keys: dict[str, int]) -> nn.Module:
    """Return the network after rounds x epochs of momentum SGD on the sites' images, in PyTorch."""
    streams, population = Streams(scenario.seed), open_population(scenario)
    with streams.torch_default("initial_model"):
        network = scenario.model.build(1, 2, 16)
    images = torch.cat([torch.from_numpy(population.examples(s, "train").images) for s in sites])
    labels = torch.cat([torch.from_numpy(population.examples(s, "train").labels) for s in sites])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for round in range(1, scenario.rounds + 1):
        rate = 0.1 * scenario.client.schedule.factor(round, scenario.rounds)
        optimizer.param_groups[0]["lr"] = rate
        generator = streams.torch("batches", round=round, **keys)
        for _ in range(2):
            for chosen in torch.randperm(len(labels), generator=generator).split(16):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
                loss.backward()
                optimizer.step()
    return network.eval()


def predicted(network: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return network(torch.from_numpy(images)).log_softmax(dim=1).numpy()  # type: ignore[no-any-return]


@pytest.mark.parametrize("number", range(4), ids=["pooled", "site-00", "site-01", "site-03"])
def test_a_yardstick_is_plain_training_bit_for_bit(
    scenario: Scenario, record: RunRecord, number: int
) -> None:
    torch.set_num_threads(1)
    training = record.trainings()[number]
    sites = [0, 1, 2] if number == 0 else [number - 1]
    network = train_by_hand(scenario, sites, {} if number == 0 else {"site": number - 1})
    population = open_population(scenario)
    for site, name in enumerate(population.names):
        for split in ("validation", "test"):
            examples = population.examples(site, split)
            found, labels = training["predictions"]["final"][split][name]
            np.testing.assert_array_equal(found, predicted(network, examples.images))
            np.testing.assert_array_equal(labels, examples.labels)
    found, labels = training["predictions"]["final"]["external"]["site-02"]
    apart = population.external[0].examples()
    np.testing.assert_array_equal(found, predicted(network, apart.images))
    np.testing.assert_array_equal(labels, apart.labels)


def rows(record: RunRecord, **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in record.baselines if all(row[k] == v for k, v in wanted.items())]


def test_every_site_is_judged_by_its_own_model_and_by_those_of_others(record: RunRecord) -> None:
    names = [site["name"] for site in record.population["sites"]]
    trained = {part["name"]: part for part in record.trainings()}
    for here in names:
        for there in names:
            scores, labels = trained[here]["predictions"]["final"]["test"][there]
            expected = evaluate(scores, labels, ("auroc",), "binary")["auroc"]
            (row,) = rows(
                record,
                baseline="local",
                model="final",
                split="test",
                trained_at=here,
                site=there,
                metric="auroc",
            )
            assert (row["value"], row["num_valid"]) == (expected.value, expected.num_valid)
            assert row["round"] == 3
    own = [trained[name]["predictions"]["final"]["test"][name] for name in names]
    together = [np.concatenate(parts) for parts in zip(*own, strict=True)]
    expected = evaluate(together[0], together[1], ("auroc",), "binary")["auroc"]
    (row,) = rows(
        record, baseline="local", model="final", split="test", site="pooled", metric="auroc"
    )
    assert (row["value"], row["trained_at"], row["round"]) == (expected.value, "pooled", None)


def test_the_best_round_is_chosen_on_validation_images(scenario: Scenario, tmp_path: Path) -> None:
    everything = scenario.model_copy(update={"baselines": ("local",)})
    record = run(everything, out=tmp_path, device="cpu")
    for part in record.trainings():
        assert 0 <= part["rounds"]["best"] <= 3

        def value(model: str, part: dict[str, Any] = part) -> float:
            scores, labels = part["predictions"][model]["validation"][part["name"]]
            found = evaluate(scores, labels, ("auroc",), "binary")["auroc"].value
            return -1.0 if found is None else found

        assert value("best") >= value("final")


def test_where_no_round_can_be_chosen_the_final_one_is_best(tiny: Make, tmp_path: Path) -> None:
    source = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 120}
    shards = {"kind": "shards", "classes_per_site": 1}
    scenario = tiny(
        baselines=["local"],
        data={"source": source, "task": "binary"},
        population={"num_sites": 2, "partition": shards},
    )
    record = run(scenario, out=tmp_path, device="cpu")
    assert [part["rounds"] for part in record.trainings()] == [{"final": 3, "best": 3}] * 2


def test_external_rows_are_there_for_sites_held_out(record: RunRecord) -> None:
    found = {(row["round"], row["site"]) for row in record.metrics if row["split"] == "external"}
    assert found == {(round, site) for round in range(4) for site in ("pooled", "site-02")}
    assert {row["site"] for row in rows(record, split="external")} == {"pooled", "site-02"}
    assert {row["baseline"] for row in rows(record, split="external")} == {"pooled", "local"}
    assert "site-02" not in {name for row in record.rounds for name in row["cohort"]}


def test_yardsticks_leave_the_federation_alone(
    scenario: Scenario, record: RunRecord, tmp_path: Path
) -> None:
    alone = run(scenario.model_copy(update={"baselines": ()}), out=tmp_path, device="cpu")
    assert alone.rounds == record.rounds
    assert alone.metrics == record.metrics
    assert alone.baselines == []


class Died(Exception):
    """Stands for a process that ends in the middle of a run."""


@pytest.mark.parametrize("when", [("training on all images", 1), ("training site-01 alone", 2)])
def test_a_run_that_dies_among_its_yardsticks_goes_on_to_the_same_bits(
    scenario: Scenario, record: RunRecord, tmp_path: Path, when: tuple[str, int]
) -> None:
    def die(progress: Any) -> None:
        if (progress.stage, progress.round) == when:
            raise Died

    with pytest.raises(Died):
        run(scenario, out=tmp_path, name="broken", device="cpu", watch=die)
    resumed = resume(tmp_path / "broken")
    assert resumed.finished
    for name in ("baselines.jsonl", "intervals.jsonl", "metrics.jsonl"):
        assert (resumed.folder / name).read_bytes() == (record.folder / name).read_bytes()
    for file in (record.folder / "baselines").iterdir():
        assert (resumed.folder / "baselines" / file.name).read_bytes() == file.read_bytes()
