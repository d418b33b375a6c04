"""Where patients are hidden: what a patient is, what it costs, and who must not be hidden half."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from clients.dpsgd import train_private
from fedsim.cli import app
from fedsim.errors import DataError, ScenarioError
from fedsim.flower import private_training
from fedsim.flower.private_rounds import PrivateRounds
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.balance import balance, spent
from fedsim.privacy.directed_rounding import rounded_up
from fedsim.privacy.dp_sgd import Steps
from fedsim.privacy.events import history
from fedsim.privacy.ledger import entries
from fedsim.records import RunRecord, checkpoint
from fedsim.report.privacy import balance_of
from fedsim.scenario import Scenario, from_data, open_population
from fedsim.simulate import resume, run

NUM = 48
Changes = dict[str, Any]


def npz(folder: Path, patients: list[str], **columns: list[str]) -> Path:
    """Return a file of images, the even ones of class 0, of these patients."""
    rng = np.random.default_rng(0)
    file = folder / "images.npz"
    np.savez(
        file,
        images=rng.integers(0, 256, (len(patients), 16, 16), dtype=np.uint8),
        labels=np.arange(len(patients)) % 2,
        patient=np.array(patients),
        **{name: np.array(values) for name, values in columns.items()},
    )
    return file


def scenario(source: Changes, kind: str = "patient_level", **more: Any) -> Scenario:
    content: Changes = {
        "version": 1,
        "name": "patients",
        "rounds": 2,
        "data": {"source": source, "task": "binary"},
        "population": {"num_sites": 2},
        "model": {"kind": "mlp", "widths": [8]},
        "client": {"epochs": 1, "batch_size": 8},
        "privacy": {"mechanism": {"kind": kind, "noise_multiplier": 0.8}, "delta": 1e-3},
        "evaluation": {"metrics": ["loss"], "select_by": "loss", "loss_decomposition": False},
        **more,
    }
    return from_data(content, "FILE")


def arrays(file: Path, *columns: str, **more: Any) -> Changes:
    return {
        **more,
        "kind": "npz",
        "path": str(file),
        "images": "images",
        "labels": "labels",
        "columns": {name: name for name in ("patient", *columns)},
    }


def synthetic(images_per_patient: int = 3, num: int = 90) -> Changes:
    return {
        "kind": "synthetic",
        "anatomy": "chest",
        "image_size": 16,
        "num_examples": num,
        "images_per_patient": images_per_patient,
    }


def final(record: RunRecord) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = checkpoint.load(checkpoint.path_of(record.folder, 2))["model"]
    return model


def test_with_one_image_each_patients_are_hidden_by_the_bits_that_hide_images(
    tmp_path: Path,
) -> None:
    source = arrays(npz(tmp_path, [f"p{number * 7 % NUM:02d}" for number in range(NUM)]))
    patients, images = (
        run(scenario(source, kind), out=tmp_path, device="cpu")
        for kind in ("patient_level", "example_level")
    )
    assert all(torch.equal(final(images)[name], tensor) for name, tensor in final(patients).items())
    events = [
        [entry.event for entry in entries(r.ledger) if entry.event] for r in (patients, images)
    ]
    assert events[0] == events[1]
    assert len(events[0]) == 4


def test_patients_are_sampled_and_clipped_whole_and_the_ledger_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, Any]] = []

    def spy(model: Any, examples: Any, mechanism: Any, *rest: Any, **more: Any) -> Any:
        seen.append((mechanism, more["unit_of_example"]))
        return train_private(model, examples, mechanism, *rest, **more)

    monkeypatch.setattr(private_training, "train_private", spy)
    asked = scenario(synthetic())
    record = run(asked, out=tmp_path, device="cpu")
    population = open_population(asked)
    charged = [entry for entry in entries(record.ledger) if entry.event is not None]
    assert len(charged) == len(seen) == 4
    for entry, (mechanism, whose) in zip(charged, seen, strict=True):
        site = list(population.names).index(str(entry.site))
        patients = population.patients(site, "train")
        assert patients is not None
        for number in range(len(patients)):
            same = (patients == patients[number]).tolist()
            assert (whose == whose[number]).tolist() == same
        assert entry.unit == "patient"
        assert entry.num_units == len(set(patients.tolist())) < len(patients)
        steps = Steps(mechanism.noise_multiplier, mechanism.sampling_rate, mechanism.num_steps)
        assert entry.event == steps.event()
        assert mechanism.sampling_rate == 8 / len(patients)


def test_delta_is_below_one_over_the_patients_not_the_images() -> None:
    population = open_population(scenario(synthetic()))
    largest = max(
        len(set(found.tolist()))
        for site in range(2)
        if (found := population.patients(site, "train")) is not None
    )
    mechanism = {"kind": "patient_level", "noise_multiplier": 1.0}
    enough = {"mechanism": mechanism, "delta": 0.9 / largest}
    open_population(scenario(synthetic(), privacy=enough))
    with pytest.raises(ScenarioError, match=f"has {largest} patients"):
        open_population(scenario(synthetic(), privacy={**enough, "delta": 1.0 / largest}))


def test_data_that_name_no_patients_are_refused_with_how_to_name_them(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"images_per_patient above 1.*example_level") as caught:
        scenario(synthetic(images_per_patient=1))
    assert "privacy.mechanism.kind" in str(caught.value)
    some = arrays(npz(tmp_path, [f"p{n // 2}" if n < NUM / 2 else "" for n in range(NUM)]))
    with pytest.raises(ScenarioError, match="training images do not say whose they are"):
        open_population(scenario(some))


def at_two_sites(folder: Path) -> Changes:
    """Return data of 24 patients with 3 images each, 4 of whom were at both sites."""
    rows = [
        (f"p{patient}", ("a", "b")[(patient + (image == 2 and patient < 4)) % 2], split)
        for patient in range(24)
        for image in range(3)
        for split in [("train", "train", "val", "test")[patient // 2 % 4]]
    ]
    patients, sites, splits = (list(column) for column in zip(*rows, strict=True))
    file = npz(folder, patients, site=sites, split=splits)
    return arrays(file, "site", splits="split")


APART = {"partition": {"kind": "by_column"}, "held_out": "official"}
SHARED = {**APART, "partition": {"kind": "by_column", "patients": "at_any_sites"}}


def test_patients_at_several_sites_are_refused_unless_asked_for(tmp_path: Path) -> None:
    source = at_two_sites(tmp_path)
    with pytest.raises(DataError, match="at more than one site"):
        open_population(scenario(source, population=APART))
    shares = {**SHARED, "held_out": {"validation": 0.2, "test": 0.2}}
    with pytest.raises(DataError, match="each patient in one split"):
        open_population(scenario(source, population=shares))


def test_a_patient_at_two_sites_spends_what_both_release(tmp_path: Path) -> None:
    asked = scenario(at_two_sites(tmp_path), population=SHARED)
    record = run(asked, out=tmp_path, device="cpu")
    assert record.population["shared_patients"] == [{"sites": ["a", "b"], "num_patients": 4}]
    written = entries(record.ledger)
    found = balance_of(record)
    assert found is not None
    (shared,) = found.shared
    both = history((entry.event, 1) for entry in written if entry.event is not None)
    assert (shared.sites, shared.num_patients) == (("a", "b"), 4)
    assert shared.epsilon == pytest.approx(epsilon(both, 1e-3), abs=1e-9)
    assert shared.epsilon > max(account.epsilon for account in found.accounts)
    alone = spent(written, 1e-3)
    *sites, together = spent(written, 1e-3, record.population["shared_patients"])
    assert sites == alone  # which is what the pages of studies show
    assert (together.site, together.unit, together.num_units) == ("a and b", "patient", 4)
    assert together.epsilon == pytest.approx(shared.epsilon, abs=1e-5)
    said = " ".join(CliRunner().invoke(app, ["ledger", str(record.folder)]).stdout.split())
    assert "4 patients have images at several sites" in said
    assert f"epsilon {rounded_up(shared.epsilon, '.4f')}, at a and b" in said
    images = scenario(at_two_sites(tmp_path), "example_level", population=SHARED)
    assert open_population(images).shared_patients() == record.population["shared_patients"]
    assert balance(written, 1e-3).shared == []


def budgeted(folder: Path, noise: float | str, limit: float, **more: Any) -> Scenario:
    """Return a scenario of four rounds whose patients at two sites have a budget."""
    privacy = {
        "mechanism": {"kind": "patient_level", "noise_multiplier": noise},
        "delta": 1e-3,
        "budget": {"epsilon": limit, **more},
    }
    return scenario(at_two_sites(folder), population=SHARED, privacy=privacy, rounds=4)


def spent_together(record: RunRecord, last: int = 4) -> float:
    """Return epsilon of who is at all sites, up to a round."""
    written = [e.event for e in entries(record.ledger) if e.event is not None and e.round <= last]
    return epsilon(history((event, 1) for event in written), 1e-3)


def test_noise_that_is_solved_for_keeps_patients_at_two_sites_within_the_budget(
    tmp_path: Path,
) -> None:
    asked = budgeted(tmp_path, "auto", 6.0)
    population = open_population(asked)
    rounds = PrivateRounds.of(asked, population)
    alone = PrivateRounds(asked, population.names, rounds.num_units, rounds.num_examples)
    for site in range(2):
        assert rounds.release(site).noise_multiplier > 1.2 * alone.release(site).noise_multiplier
        assert rounds.alone(site) == rounds.release(site)
    record = run(asked, out=tmp_path, device="cpu")
    assert [row["out_of_budget"] for row in record.rounds] == [[]] * 4
    assert 5.9 < spent_together(record) <= 6.0
    found = balance_of(record)
    assert found is not None
    assert found.shared[0].epsilon <= 6.0


@pytest.mark.parametrize("on_budget", ["stop_site", "stop_run"])
def test_before_patients_at_two_sites_would_overspend_both_stop(
    tmp_path: Path, on_budget: str, broken: Callable[[Scenario, int], Path]
) -> None:
    free = scenario(at_two_sites(tmp_path), population=SHARED, rounds=4)
    costs = run(free, out=tmp_path, name="free", device="cpu")
    limit = spent_together(costs, 2) + 1e-3
    both = balance_of(costs)
    assert both is not None
    assert limit > max(account.epsilon for account in both.accounts)  # no site stops for itself
    asked = budgeted(tmp_path, 0.8, limit, on_budget=on_budget)
    record = run(asked, out=tmp_path, name="limited", device="cpu")
    assert [row["out_of_budget"] for row in record.rounds] == [[], [], ["a", "b"], ["a", "b"]]
    assert spent_together(record) == spent_together(costs, 2) <= limit
    assert resume(broken(asked, 3)).ledger == record.ledger
    file = tmp_path / "asked.yaml"
    file.write_text(yaml.safe_dump(asked.model_dump(mode="json")), encoding="utf-8")
    said = " ".join(CliRunner().invoke(app, ["plan", str(file)]).stdout.split())
    assert "is less than all rounds cost 4 patients at several sites" in said


def test_where_one_site_is_drawn_at_a_time_each_stops_when_it_would_overspend(
    tmp_path: Path,
) -> None:
    asked = budgeted(tmp_path, 0.8, 12.0).model_dump(mode="json")
    cohort = {"kind": "fixed_size", "num_sites": 1}
    record = run(
        from_data({**asked, "cohort": cohort, "rounds": 12}, "FILE"), out=tmp_path, device="cpu"
    )
    trained = [row["cohort"] for row in record.rounds]
    out = [row["out_of_budget"] for row in record.rounds]
    first = next(number for number, names in enumerate(out) if names)
    assert 1 < first < 10
    assert trained[first:] == [[]] * (12 - first)  # the two sites cost the same
    assert {name for names in trained[:first] for name in names} == {"a", "b"}
    assert 10.0 < spent_together(record, 12) <= 12.0


@pytest.mark.slow
def test_workers_sample_and_clip_the_same_patients(tmp_path: Path) -> None:
    one, two = (
        run(scenario(synthetic()), out=tmp_path, name=f"by{num}", device="cpu", workers=num)
        for num in (1, 2)
    )
    assert one.ledger == two.ledger
    assert all(torch.equal(final(two)[name], tensor) for name, tensor in final(one).items())
