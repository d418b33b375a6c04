"""Guesses about canaries bound epsilon from below, and only gross faults are beyond the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clients.dpsgd import DpSgd, train_private
from clients.units import Units
from fedsim.audit import one_run, training_canaries
from fedsim.audit.subject import Subject
from fedsim.audit.training_canaries import join
from fedsim.audit.trial import target_of
from fedsim.flower import private_training
from fedsim.flower.private_training import unit_of_example
from fedsim.records import RunRecord
from fedsim.scenario import Scenario
from fedsim.simulate import run

Open = Callable[..., Subject]


def quiet(*_: int) -> None:
    pass


def test_the_clearest_are_guessed() -> None:
    scores = np.array([5.0, 4.0, 0.2, 0.1, -3.0, -4.0])
    coins = np.array([True, False, True, False, False, False])
    assert one_run.guessed(scores, coins, 2) == 2
    assert one_run.guessed(scores, coins, 4) == 3
    assert one_run.guessed(scores, coins, 6) == 5


def test_a_private_run_raises_no_alarm(private: RunRecord, subject: Open) -> None:
    found = subject(private.folder, num_canaries=60)
    outcome = one_run.run(found, quiet)
    largest = max(claim.epsilon(found.delta) for claim in found.claims)
    for finding in outcome.findings:
        assert not finding.alarm
        assert finding.epsilon is not None
        assert finding.ceiling is not None
        assert finding.epsilon < largest
        assert finding.epsilon <= finding.ceiling
    assert "60 canaries" in outcome.notes[0]
    again = one_run.run(subject(private.folder, num_canaries=60), quiet)
    assert again == outcome


SOURCE = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 600}
PATIENTS = {"source": {**SOURCE, "images_per_patient": 2}, "task": "binary"}
BAGS = {"num_sites": 3, "supervision": [{"kind": "bags", "bag_size": 2}]}
SCORED = {
    "bag_level": {
        "metrics": ["loss", "bag_loss"],
        "select_by": "bag_loss",
        "loss_decomposition": False,
    }
}
HIDDEN: dict[str, dict[str, Any]] = {
    "example_level": {},
    "patient_level": {"data": PATIENTS},
    "bag_level": {
        "population": BAGS,
        "client": {"epochs": 1, "batch_size": 16, "objective": {"kind": "bag"}},
    },
}


@pytest.fixture
def trained(tiny: Callable[..., Scenario], tmp_path: Path) -> Callable[[str], RunRecord]:
    """Return a function that makes a run with little epsilon, which hides units of a kind."""

    def make(kind: str) -> RunRecord:
        scenario = tiny(
            rounds=6,
            evaluation={"every": 6, **SCORED.get(kind, {})},
            model={"kind": "mlp", "widths": [64]},
            privacy={"mechanism": {"kind": kind, "noise_multiplier": 30.0}, "delta": 1e-4},
            **{"data": {"source": SOURCE, "task": "binary"}, **HIDDEN[kind]},
        )
        return run(scenario, out=tmp_path, device="cpu")

    return make


@pytest.mark.parametrize("kind", HIDDEN)
def test_a_canary_is_one_unit_of_the_site(
    trained: Callable[[str], RunRecord], subject: Open, kind: str
) -> None:
    opened = subject(trained(kind).folder, num_canaries=30)
    target = target_of(opened)
    joined = join(opened, target.name)
    before = Units(
        opened.workplace.examples(joined.site, "train"),
        unit_of_example(opened.workplace, joined.site),
    )
    after, num = joined.units(), len(joined.sizes)
    assert num == 30
    assert after.sizes == before.sizes + joined.sizes.tolist()
    assert set(joined.sizes.tolist()) <= set(before.sizes)
    absent = np.arange(num) % 2 == 0
    (part,) = Units(joined.without(absent), unit_of_example(joined.workplace, joined.site)).parts(
        torch.arange(len(after) - num, len(after)), 10**6
    )
    blank = part.batch.images.isnan().flatten(1).all(1)
    assert torch.equal(blank, torch.from_numpy(np.repeat(absent, joined.sizes)))
    assert not part.batch.images[~blank].isnan().any()
    assert not joined.examples.images.isnan().any()
    again = join(opened, target.name)
    assert torch.equal(again.examples.images, joined.examples.images)
    if (bags := joined.examples.bags) is not None:
        assert torch.equal(bags.responses[-num:].sum(1), torch.ones(num))
    else:
        labels = np.split(joined.examples.labels.numpy(), np.cumsum(after.sizes)[:-1])[-num:]
        assert all(len(set(of_unit.tolist())) == 1 for of_unit in labels)
        assert set(np.concatenate(labels).tolist()) == {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HIDDEN)
def test_only_noise_that_is_not_there_raises_an_alarm(
    trained: Callable[[str], RunRecord],
    subject: Open,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    folder = trained(kind).folder
    right = one_run.run(subject(folder, num_canaries=200), quiet)
    assert not any(one.alarm for one in right.findings)

    def hardly(model: Any, examples: Any, said: DpSgd, *rest: Any, **more: Any) -> Any:
        done = replace(said, noise_multiplier=said.noise_multiplier / 2000)
        return train_private(model, examples, done, *rest, **more)

    monkeypatch.setattr(private_training, "train_private", hardly)
    (everyone, _) = one_run.run(subject(folder, num_canaries=200), quiet).findings
    assert everyone.value > 0.6
    assert "guesses" in everyone.alarm


def test_too_few_images_for_canaries_are_said(
    private: RunRecord, subject: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_canaries, "FEWEST", 1000)
    outcome = one_run.run(subject(private.folder), quiet)
    assert not outcome.findings
    assert "other sites have images for" in outcome.notes[0]


def test_the_ceiling_says_what_cannot_alarm(private: RunRecord, subject: Open) -> None:
    outcome = one_run.run(subject(private.folder, num_canaries=20), quiet)
    assert "cannot raise an alarm" in outcome.notes[0]
