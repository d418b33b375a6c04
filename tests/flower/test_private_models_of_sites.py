"""Models of a site's own under DP-SGD: each is paid for, and none repeats another one's noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from clients.dpsgd import train_private
from fedsim.flower import private_training
from fedsim.flower.private_rounds import PrivateRounds
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.dp_sgd import Steps
from fedsim.privacy.events import history
from fedsim.privacy.ledger import entries
from fedsim.records import RunRecord, checkpoint
from fedsim.scenario import Scenario, open_population
from fedsim.simulate import resume, run

Make = Callable[..., Scenario]
DELTA, BUDGET = 1e-4, 4.0
DITTO = {"kind": "ditto", "weight": 0.5}


def private(
    tiny: Make,
    personalisation: Any = None,
    noise: Any = 1.5,
    decay: float | None = None,
    **more: Any,
) -> Scenario:
    mechanism = {"kind": "example_level", "noise_multiplier": noise, "average_decay": decay}
    budget = {"budget": {"epsilon": BUDGET}} if noise == "auto" else {}
    return tiny(
        client={"epochs": 1, "batch_size": 16, "personalisation": personalisation},
        privacy={"mechanism": mechanism, "delta": DELTA, **budget},
        evaluation={"loss_decomposition": False},
        **more,
    )


def state(record: RunRecord, round: int) -> dict[str, Any]:
    found: dict[str, Any] = checkpoint.load(checkpoint.path_of(record.folder, round))
    return found


def final(record: RunRecord, round: int = 3) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = state(record, round)["model"]
    return model


def spent(record: RunRecord, site: str) -> float:
    own = [entry for entry in entries(record.ledger) if entry.site == site]
    return epsilon(history((entry.event, 1) for entry in own if entry.event is not None), DELTA)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list that gets the seeds of every private training's samples and noise."""
    seeds: list[tuple[int, int]] = []

    def spy(*rest: Any, sampling: torch.Generator, noise: torch.Generator, **more: Any) -> Any:
        seeds.append((sampling.initial_seed(), noise.initial_seed()))
        return train_private(*rest, sampling=sampling, noise=noise, **more)

    monkeypatch.setattr(private_training, "train_private", spy)
    return seeds


def test_a_personal_model_beside_the_global_one_is_paid_for_and_changes_nothing_of_it(
    tiny: Make, tmp_path: Path, drawn: list[tuple[int, int]]
) -> None:
    with_one = run(private(tiny, DITTO), out=tmp_path, name="ditto", device="cpu")
    assert len(drawn) == len({seed for seed, _ in drawn}) == len({seed for _, seed in drawn}) == 18
    plain = run(private(tiny), out=tmp_path, name="plain", device="cpu")
    assert all(torch.equal(final(plain)[name], tensor) for name, tensor in final(with_one).items())
    for one, other in zip(entries(with_one.ledger), entries(plain.ledger), strict=True):
        if other.event is not None:
            assert history([(one.event, 1)]) == history([(other.event, 2)])
    assert with_one.metrics != plain.metrics


def test_noise_that_is_solved_for_pays_for_both_models(tiny: Make, tmp_path: Path) -> None:
    record = run(private(tiny, DITTO, "auto"), out=tmp_path, device="cpu")
    for row in record.population["sites"]:
        assert 0.97 * BUDGET < spent(record, row["name"]) <= BUDGET
    assert not any(row["out_of_budget"] for row in record.rounds)


def test_a_run_with_personal_models_goes_on_to_the_same_bits(
    tiny: Make, tmp_path: Path, broken: Callable[[Scenario, int], Path]
) -> None:
    whole = run(private(tiny, DITTO), out=tmp_path, name="whole", device="cpu")
    again = resume(broken(private(tiny, DITTO), 1))
    assert (again.ledger, again.metrics) == (whole.ledger, whole.metrics)


def test_parameters_that_stay_at_a_site_are_noised_like_those_that_leave_it(
    tiny: Make, tmp_path: Path, drawn: list[tuple[int, int]]
) -> None:
    kept = {"kind": "private_parameters", "names": ["3.*"]}
    record = run(private(tiny, kept), out=tmp_path, name="kept", device="cpu")
    assert len(drawn) == 9
    plain = run(private(tiny), out=tmp_path, name="plain", device="cpu")
    assert record.ledger == plain.ledger


def test_a_site_alone_has_the_noise_that_all_rounds_take_and_no_other_s(
    tiny: Make, tmp_path: Path, drawn: list[tuple[int, int]]
) -> None:
    cohort = {"kind": "fixed_size", "num_sites": 2}
    scenario = private(tiny, None, "auto", cohort=cohort, baselines=["pooled", "local"])
    rounds = PrivateRounds.of(scenario, open_population(scenario))
    for site in range(3):
        alone, together = rounds.alone(site), rounds.release(site)
        assert isinstance(alone, Steps)
        assert 0.97 * BUDGET < epsilon(history([(alone.event(), 3)]), DELTA) <= BUDGET
        assert alone.noise_multiplier >= together.noise_multiplier
    record = run(scenario, out=tmp_path, device="cpu")
    assert len(drawn) == len({seed for _, seed in drawn}) == 3 * 2 + 3 * 3
    assert {row["baseline"] for row in record.baselines} == {"pooled", "local"}
    said = [entry.purpose for entry in entries(record.ledger) if entry.event is None]
    assert any("in place of its part in the federation" in purpose for purpose in said)
    assert any("trained without privacy" in purpose for purpose in said)


def test_the_moving_average_is_judged_and_changes_nothing_of_the_training(
    tiny: Make, tmp_path: Path, broken: Callable[[Scenario, int], Path]
) -> None:
    plain = run(private(tiny), out=tmp_path, name="plain", device="cpu", keep_every=1)
    scenario = private(tiny, decay=0.25)
    whole = run(scenario, out=tmp_path, name="averaged", device="cpu", keep_every=1)
    assert [row["train_loss"] for row in whole.rounds] == [
        row["train_loss"] for row in plain.rounds
    ]
    average = {name: tensor.double() for name, tensor in final(plain, 0).items()}
    for round in (1, 2, 3):
        kept = min(0.25, (1 + round) / (10 + round))
        for name, tensor in final(plain, round).items():
            assert torch.equal(state(whole, round)["current"][name], tensor)
            average[name] = kept * average[name] + (1 - kept) * tensor.double()
            torch.testing.assert_close(final(whole, round)[name].double(), average[name])
    assert whole.metrics != plain.metrics
    again = resume(broken(scenario, 1))
    assert again.metrics == whole.metrics
    assert torch.equal(next(iter(final(again).values())), next(iter(final(whole).values())))
