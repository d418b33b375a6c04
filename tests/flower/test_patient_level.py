"""Where patients are hidden: what a patient is, what it costs, and who must not be hidden half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clients.dpsgd import train_private
from fedsim.errors import ScenarioError
from fedsim.flower import private_training
from fedsim.privacy.dp_sgd import Steps
from fedsim.privacy.ledger import entries
from fedsim.records import RunRecord, checkpoint
from fedsim.scenario import Scenario, from_data, open_population
from fedsim.simulate import run

NUM = 48
Changes = dict[str, Any]


def npz(folder: Path, patients: list[str]) -> Path:
    """Return a file of images, the even ones of class 0, of these patients."""
    rng = np.random.default_rng(0)
    file = folder / "images.npz"
    np.savez(
        file,
        images=rng.integers(0, 256, (NUM, 16, 16), dtype=np.uint8),
        labels=np.arange(NUM) % 2,
        patient=np.array(patients),
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


def arrays(file: Path) -> Changes:
    return {
        "kind": "npz",
        "path": str(file),
        "images": "images",
        "labels": "labels",
        "columns": {"patient": "patient"},
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
