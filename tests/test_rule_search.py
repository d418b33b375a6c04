"""The candidates of the search for a rule are what they say they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from strategies import FedExP, WeightedMean

COUNTS = torch.tensor([10.0, 30.0, 25.0, 5.0, 30.0], dtype=torch.float64)
P = COUNTS / COUNTS.sum()


@pytest.fixture(scope="module")
def search() -> Any:
    """Return the module of candidates, which stands beside the scripts that use it."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
    try:
        from rule_search import candidates

        return candidates
    finally:
        sys.path.pop(0)


def draw(seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(5, 30)) + rng.normal(size=30))


def aggregate(candidate: Any, G: torch.Tensor, knob: float = 0.0) -> torch.Tensor:
    found: torch.Tensor = candidate.aggregate({"w": G}, P, {}, knob)["w"]
    return found


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_filters_that_keep_everything_are_the_mean(search: Any) -> None:
    G = draw()
    for h, knob in ((search.truncation, 1.0), (search.power, 0.0), (search.snr, 0.0)):
        close(aggregate(search.Candidate(search.filtered(h)), G, knob), P @ G)


def test_truncation_projects_the_mean(search: Any) -> None:
    G = draw()
    _, _, directions = torch.linalg.svd(P.sqrt()[:, None] * G, full_matrices=False)
    kept = directions[:2]
    found = aggregate(search.Candidate(search.filtered(search.truncation)), G, 0.4)
    close(found, kept.T @ (kept @ (P @ G)))


def test_power_one_weighs_sites_by_their_alignment_with_the_mean(search: Any) -> None:
    G = draw()
    found = aggregate(search.Candidate(search.filtered(search.power)), G, 1.0)
    aligned = (P * (G @ (P @ G))) @ G
    close(found / found.norm(), aligned / aligned.norm())


def test_agreement_and_snr_shrink_every_direction(search: Any) -> None:
    G = draw()
    _, _, directions = torch.linalg.svd(P.sqrt()[:, None] * G, full_matrices=False)
    of_mean = directions @ (P @ G)
    for h, knob in ((search.agreement, 0.1), (search.snr, 1.0)):
        kept = directions @ aggregate(search.Candidate(search.filtered(h)), G, knob) / of_mean
        assert ((kept >= -1e-9) & (kept <= 1 + 1e-9)).all()
        assert kept.min() < 0.9


@pytest.mark.parametrize("name", ["agreement", "power", "SNR", "truncation", "power + FedExP"])
def test_filters_vanish_with_the_mean(search: Any, name: str) -> None:
    G = draw()
    G = G - P @ G
    candidate = search.CANDIDATES[name]
    assert aggregate(candidate, G, candidate.knobs[-1]).norm() <= 1e-6 * G.norm()


def test_lengths_are_those_of_the_mean_and_of_fedexp(search: Any) -> None:
    G = draw()
    candidate = search.Candidate(search.filtered(search.agreement), norm="mean")
    assert float(aggregate(candidate, G, 0.1).norm()) == pytest.approx(float((P @ G).norm()))
    fedexp, _ = FedExP(epsilon=1e-12).aggregate({"w": draw(1) - 0.9 * P @ draw(1)}, COUNTS, {})
    close(aggregate(search.CANDIDATES["FedExP"], draw(1) - 0.9 * P @ draw(1)), fedexp["w"])


def test_memory_mixes_in_the_last_aggregate(search: Any) -> None:
    G, last = draw(), torch.arange(30.0, dtype=torch.float64)
    found = search.CANDIDATES["FedAvg with memory"].aggregate({"w": G}, P, {"w": last}, 0.0)["w"]
    close(found, 0.5 * P @ G + 0.5 * last)


def test_pooled_is_one_rule_for_all_layers(search: Any) -> None:
    layers = {"a": draw(0), "b": draw(1), "none": torch.zeros(5, 3, dtype=torch.float64)}
    candidate = search.Candidate(search.filtered(search.power), pooled=1.0)
    found = candidate.aggregate(layers, P, {}, 1.0)
    whole = aggregate(
        search.Candidate(search.filtered(search.power)), torch.cat([*layers.values()], 1), 1.0
    )
    close(torch.cat([*found.values()]), whole)


def test_the_reference_is_fedavg(search: Any) -> None:
    assert next(iter(search.CANDIDATES)) == "FedAvg"
    mean, _ = WeightedMean().aggregate({"w": draw()}, COUNTS, {})
    close(aggregate(search.CANDIDATES["FedAvg"], draw()), mean["w"])


def test_zero_layers_stay_zero_and_finite(search: Any) -> None:
    for candidate in search.CANDIDATES.values():
        for knob in candidate.knobs:
            found = aggregate(candidate, torch.zeros(5, 4, dtype=torch.float64), knob)
            assert torch.equal(found, torch.zeros(4, dtype=torch.float64))
