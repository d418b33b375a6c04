"""Members and others differ in nothing but the training, and are told apart if they are learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.audit import membership
from fedsim.audit.finding import Finding
from fedsim.audit.subject import Subject
from fedsim.privacy import Unit
from fedsim.records import RunRecord
from fedsim.scenario import Scenario
from fedsim.simulate import run

Make = Callable[..., Scenario]
Open = Callable[..., Subject]
LEARNED_BY_HEART: dict[str, Any] = {
    "rounds": 2,
    "model": {"kind": "mlp", "widths": [64]},
    "client": {
        "epochs": 100,
        "batch_size": 8,
        "optimizer": {"kind": "sgd", "learning_rate": 0.05},
    },
    "population": {"num_sites": 1, "label_noise": [{"kind": "symmetric", "rate": 0.4}]},
}


def findings(subject: Subject) -> dict[str, Finding]:
    return {one.figure: one for one in membership.run(subject, lambda *_: None).findings}


def test_test_images_of_a_random_share_need_no_training(private: RunRecord, subject: Open) -> None:
    found = subject(private.folder)
    assert membership._has_random_test(found)
    area = findings(found)["loss threshold, AUC"]
    num = sum(len(site[split]) for site in found.population.indices for split in ("train", "test"))
    assert sum(map(int, area.of.split(" + "))) == num
    assert area.claim is not None
    assert 0.5 < area.claim < 1
    assert area.low is not None
    assert area.low < area.claim


PATIENTS = {
    "source": {
        "kind": "synthetic",
        "anatomy": "chest",
        "image_size": 16,
        "num_examples": 200,
        "images_per_patient": 2,
    },
    "task": "binary",
}
LITTLE: dict[str, Any] = {
    "mechanism": {"kind": "example_level", "noise_multiplier": 60.0},
    "delta": 1e-4,
}


def test_where_patients_were_held_out_whole_single_images_are_divided_anew(
    tiny: Make, subject: Open, tmp_path: Path
) -> None:
    """One image of a patient tells of the others: all are members, or none."""
    record = run(tiny(data=PATIENTS, privacy=LITTLE), out=tmp_path, device="cpu")
    found = subject(record.folder)
    assert not membership._has_random_test(found)
    pool = membership._pool(found, lambda round: None)
    assert all((pool.positions[k] == found.population.held(k)["train"]).all() for k in range(3))
    whose = found.population.columns["patient"][np.concatenate(pool.positions)]
    member = np.concatenate(pool.members)
    assert set(whose[member]) & set(whose[~member])
    released = [entry for entry in pool.ledger if entry.event is not None]
    assert sum(entry.num_units or 0 for entry in released if entry.round == 1) == member.sum()
    outcome = membership.run(found, lambda *_: None)
    assert "held out together" in outcome.notes[0]
    assert not any(one.alarm for one in outcome.findings)
    assert all(one.claim is not None for one in outcome.findings)


@pytest.mark.parametrize("by_heart", [False, True])
def test_of_patients_too_only_what_gives_members_away_raises_an_alarm(
    tiny: Make, subject: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_heart: bool
) -> None:
    record = run(tiny(data=PATIENTS, privacy=LITTLE), out=tmp_path, device="cpu")
    found = subject(record.folder)
    pool = membership._pool(found, lambda round: None)
    blind = np.random.default_rng(0).normal(size=sum(map(len, pool.positions)))
    scores = blind + 8 * by_heart * np.concatenate(pool.members)
    monkeypatch.setattr(membership, "_pool", lambda *_: pool)
    monkeypatch.setattr(membership, "_scores", lambda *_: scores)
    (area, rate) = membership.run(found, lambda *_: None).findings
    assert bool(rate.alarm) == by_heart
    assert area.low is not None
    assert area.claim is not None
    assert (area.low > area.claim) == by_heart


@pytest.mark.slow
def test_what_is_learned_by_heart_is_found(tiny: Make, subject: Open, tmp_path: Path) -> None:
    """With wrong training labels the test images are others, so half of the run's are left out."""
    record = run(tiny(**LEARNED_BY_HEART), out=tmp_path, device="cpu")
    found = subject(record.folder, num_shadows=2)
    assert not membership._has_random_test(found)
    by_name = findings(found)
    for attack in ("loss threshold", "LiRA"):
        area = by_name[f"{attack}, AUC"]
        assert area.low is not None
        assert area.low > 0.6
        assert area.claim is None
    members, others = map(int, by_name["LiRA, AUC"].of.split(" + "))
    assert abs(members - others) <= 2
    assert findings(subject(record.folder, num_shadows=2)) == by_name


def test_halves_are_of_each_class_at_each_site(private: RunRecord, subject: Open) -> None:
    found = subject(private.folder)
    positions = [held["train"] for held in found.population.indices]
    halves = membership._halves(found, positions, model=1)
    for at, inside in zip(positions, halves, strict=True):
        labels = found.population.labels[at]
        counts = np.bincount(labels[inside], minlength=2), np.bincount(labels, minlength=2)
        assert np.abs(counts[0] - counts[1] / 2).max() <= 1
    other = membership._halves(found, positions, model=2)
    assert any((a != b).any() for a, b in zip(halves, other, strict=True))


def test_doubles_are_left_out(private: RunRecord, subject: Open) -> None:
    population = subject(private.folder).population
    own = population.indices[0]["train"]
    alone = membership._there_once(population, [own, own[:2]])
    assert not alone[:2].any()
    assert not alone[-2:].any()
    assert alone[2:-2].all()


@pytest.mark.parametrize(
    ("unit", "claims"), [("example", True), ("site", True), ("patient", False), ("bag", False)]
)
def test_of_a_part_of_a_unit_nothing_is_claimed(
    private: RunRecord, subject: Open, unit: Unit, claims: bool
) -> None:
    """Another image of a patient may turn what the patient adds round, which is twice as far."""
    opened = subject(private.folder)
    ledger = [replace(e, unit=e.unit and unit, num_units=None) for e in opened.ledger]
    vars(opened)["ledger"] = ledger
    outcome = membership.run(opened, lambda *_: None)
    for one in outcome.findings:
        assert (one.claim is not None) == claims
        assert one.claim is None or one.claim < 1
    rate = outcome.findings[1]
    assert (rate.epsilon is None, rate.ceiling is None) == (not claims, not claims)
    assert ("no single images" in " ".join(outcome.notes)) == (not claims)


def test_all_attacks_together_have_the_error_of_one_test(
    private: RunRecord, subject: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def findings(*facts: Any) -> list[Finding]:
        given.append(facts[-1])
        return []

    found = subject(private.folder, num_shadows=1)
    num = sum(len(site[split]) for site in found.population.indices for split in ("train", "test"))
    monkeypatch.setattr(membership, "_ratios", lambda *_: np.zeros(num))
    monkeypatch.setattr(membership, "_findings", findings)
    membership.run(found, lambda *_: None)
    membership.run(subject(private.folder), lambda *_: None)
    assert given == [found.error / 2, found.error / 2, found.error]


def test_rates_come_to_the_epsilon_of_the_inequality() -> None:
    true_rate = math.exp(1.0) * 0.1 + (1 + math.exp(0.5)) * 1e-5
    assert membership._epsilon(true_rate, 0.1, 1e-5) == pytest.approx(0.5, abs=1e-9)
    assert membership._epsilon(math.exp(1.0) * 0.1, 0.1, 0.0) == pytest.approx(0.5, abs=1e-9)
    assert membership._epsilon(0.01, 0.5, 1e-5) == 0
