"""A plan counts what a run does, tries what could fail, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsim import plan
from fedsim.scenario import Scenario, open_population
from fedsim.simulate import run

Make = Callable[..., Scenario]


@pytest.fixture(autouse=True)
def _short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "PROBE_S", 0.01)


def made(scenario: Scenario, out: Path) -> plan.Plan:
    return plan.make(scenario, open_population(scenario), out=out, device="cpu")


def test_it_counts_what_a_run_then_does(tiny: Make, tmp_path: Path) -> None:
    scenario = tiny(rounds=2)
    found = made(scenario, tmp_path)
    record = run(scenario, out=tmp_path, device="cpu")
    assert found.problems == []
    assert found.sites == record.population["sites"]
    assert found.digest == record.run["digest"]
    assert found.folder == str(record.folder)
    for row in record.rounds:
        assert (found.bytes_down, found.bytes_up) == (row["bytes_down"], row["bytes_up"])
    sizes = [sum(site["train"]) for site in found.sites]
    assert found.steps == (-(-min(sizes) // 16), -(-max(sizes) // 16))
    assert found.memory == 4 * 120 * 16 * 16


def test_parameters_and_operations_of_an_mlp_in_closed_form(tiny: Make, tmp_path: Path) -> None:
    found = made(tiny(model={"kind": "mlp", "widths": [8]}), tmp_path)
    assert found.parameters == 256 * 8 + 8 + 8 * 2 + 2
    assert found.forward_flops == 2 * (256 * 8 + 8 * 2)
    assert found.buffers == 0
    assert found.images == (1, 16, 16)


@pytest.mark.parametrize(
    ("cohort", "expected"),
    [
        ({"kind": "all"}, 3),
        ({"kind": "fixed_size", "num_sites": 2}, 2),
        ({"kind": "poisson", "sampling_rate": 0.25}, 0.75),
    ],
)
def test_traffic_is_that_of_the_expected_cohort(
    tiny: Make, tmp_path: Path, cohort: dict[str, Any], expected: float
) -> None:
    found = made(tiny(cohort=cohort), tmp_path)
    whole = made(tiny(), tmp_path)
    assert found.cohort == expected
    assert found.bytes_down == pytest.approx(whole.bytes_down * expected / 3)


def test_yardsticks_cost_time(tiny: Make, tmp_path: Path) -> None:
    found = made(tiny(baselines=["pooled", "local"], rounds=50), tmp_path)
    assert found.seconds > 2 * found.rounds * found.seconds_round


def test_it_writes_nothing(tiny: Make, tmp_path: Path) -> None:
    made(tiny(), tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_what_would_fail_is_listed(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = tiny()
    run(scenario, out=tmp_path, device="cpu")
    assert "exists already" in "".join(made(scenario, tmp_path).problems)
    hot = {"epochs": 1, "batch_size": 16, "optimizer": {"kind": "sgd", "learning_rate": 1e30}}
    assert "not finite" in "".join(made(tiny(client=hot), tmp_path).problems)

    def fail(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("clients.objectives.CrossEntropy.loss", fail)
    assert "a training step fails: RuntimeError: out of memory" in made(tiny(), tmp_path).problems
