"""Leave-one-site-out: each site in turn is only tested on, and what is there is not run again."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsim import leave_one_out, rho, simulate
from fedsim.data.source import POOLED
from fedsim.errors import InputError
from fedsim.records import RunRecord, read
from fedsim.report import leave_one_out as table
from fedsim.scenario import Scenario
from fedsim.simulate import run

Make = Callable[..., Scenario]
NAMES = ["site-00", "site-01", "site-02"]


@pytest.fixture(scope="module")
def scenario(tiny: Make) -> Scenario:
    return tiny(rounds=2, evaluation={"num_resamples": 30, "metrics": ["auroc", "loss"]})


@pytest.fixture(scope="module")
def records(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> list[RunRecord]:
    return leave_one_out.run(scenario, out=tmp_path_factory.mktemp("runs"), device="cpu")


def test_each_site_is_left_out_once(records: list[RunRecord]) -> None:
    for name, record in zip(NAMES, records, strict=True):
        assert record.scenario["population"]["holdout_sites"] == [name]
        assert [site["name"] for site in record.population["sites"]] == [
            n for n in NAMES if n != name
        ]
        assert record.finished
        assert record.folder.parent == records[0].folder.parent


def test_a_run_without_a_site_is_that_scenario(
    scenario: Scenario, records: list[RunRecord], tmp_path: Path
) -> None:
    without = leave_one_out.scenarios(scenario)["site-01"]
    alone = run(without, out=tmp_path, device="cpu")
    assert alone.metrics == records[1].metrics


def test_what_is_there_is_not_run_again(
    scenario: Scenario, records: list[RunRecord], tmp_path: Path
) -> None:
    out, told = records[0].folder.parent.parent, []

    def watch(site: str) -> Any:
        return lambda progress: told.append((site, progress.round))

    again = leave_one_out.run(scenario, out=out, device="cpu", watch=watch)
    assert told == []
    assert [r.metrics for r in again] == [r.metrics for r in records]

    class Died(Exception):
        pass

    def die(site: str) -> Any:
        def watcher(progress: Any) -> None:
            if (site, progress.round) == ("site-01", 1):
                raise Died

        return watcher

    with pytest.raises(Died):
        leave_one_out.run(scenario, out=tmp_path, device="cpu", watch=die)
    resumed = leave_one_out.run(scenario, out=tmp_path, device="cpu", watch=watch)
    assert [site for site, round in told if round == 0] == ["site-02"]
    assert [r.metrics for r in resumed] == [r.metrics for r in records]


@pytest.mark.parametrize(("device", "where"), [("cpu", "cpu"), ("auto", None)])
def test_a_run_goes_on_where_it_is_told_to(
    scenario: Scenario,
    records: list[RunRecord],
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    where: str | None,
) -> None:
    seen = []

    def resume(folder: Path, *, device: str | None = None, **_: Any) -> RunRecord:
        seen.append(device)
        return read(folder)

    monkeypatch.setattr(simulate, "resume", resume)
    leave_one_out.run(scenario, out=records[0].folder.parent.parent, device=device)
    assert seen == [where] * 3


def test_the_folder_of_another_scenario_is_refused(scenario: Scenario, tmp_path: Path) -> None:
    leave_one_out.run(scenario, out=tmp_path, name="mine", device="cpu")
    other = scenario.model_copy(update={"seed": 9})
    with pytest.raises(InputError, match="is the run of another scenario"):
        leave_one_out.run(other, out=tmp_path, name="mine", device="cpu")


def test_runs_whose_trials_chose_rho_are_gone_on_with(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def auto(learning_rate: float) -> Scenario:
        return tiny(
            rounds=1,
            population={"num_sites": 3, "supervision": [{"kind": "bags", "bag_size": 4}]},
            client={
                "epochs": 1,
                "batch_size": 16,
                "objective": {"kind": "interpolated_bag", "rho": "auto"},
                "optimizer": {"kind": "sgd", "learning_rate": learning_rate},
            },
            evaluation={
                "metrics": ["bag_loss"],
                "select_by": "bag_loss",
                "num_resamples": 0,
                "loss_decomposition": False,
            },
        )

    monkeypatch.setattr(rho, "choose", lambda *_: {"rho": 0.1, "rounds": 1, "bag_loss": {}})
    first = leave_one_out.run(auto(0.1), out=tmp_path, name="mine", device="cpu")
    again = leave_one_out.run(auto(0.1), out=tmp_path, name="mine", device="cpu")
    assert [r.run["digest"] for r in again] == [r.run["digest"] for r in first]
    with pytest.raises(InputError, match="is the run of another scenario"):
        leave_one_out.run(auto(0.2), out=tmp_path, name="mine", device="cpu")


def test_sites_that_are_held_out_already_are_refused(tiny: Make) -> None:
    population = {"num_sites": 3, "holdout_sites": ["site-01"]}
    with pytest.raises(InputError, match="leave it out to hold out each site in turn"):
        leave_one_out.scenarios(tiny(population=population))
    with pytest.raises(InputError, match="nothing to hold out"):
        leave_one_out.scenarios(tiny(population={"num_sites": 1}))


def test_of_private_runs_it_is_said_what_two_of_them_tell(
    tiny: Make, records: list[RunRecord], tmp_path: Path
) -> None:
    privacy = {"mechanism": {"kind": "client_level", "noise_multiplier": 50.0}, "delta": 1e-2}
    mean = {"kind": "weighted_mean", "weights": "uniform"}
    private = leave_one_out.run(
        tiny(rounds=1, privacy=privacy, strategy=mean), out=tmp_path, device="cpu"
    )
    said = "two of the models together tell what the noise of each hides"
    assert said in table.to_markdown(private)
    assert said not in table.to_markdown(records)
    one, other = (record.model(1)["1.weight"] for record in private[:2])
    assert float((one - other).norm()) < 0.1 * float(one.norm())  # so it is true


def test_the_table_has_what_the_runs_measured(records: list[RunRecord], tmp_path: Path) -> None:
    rows = table.rows(records)
    assert len(rows) == 3 * 2 * 2
    for row in rows:
        record = records[NAMES.index(row["site"])]
        (found,) = [
            r
            for r in record.metrics
            if (r["split"], r["site"], r["metric"], r["round"])
            == ("external", POOLED, row["metric"], row["round"])
        ]
        assert (row["value"], row["num_examples"]) == (found["value"], found["num_examples"])
        assert row["low"] <= row["value"] <= row["high"]
    final = [r["value"] for r in rows if (r["metric"], r["model"]) == ("auroc", "final")]
    text = table.to_markdown(records)
    assert f"{statistics.fmean(final):.3f} ± {statistics.stdev(final):.3f}" in text
    assert [file.name for file in table.write(records, tmp_path)] == [
        "leave_one_site_out.csv",
        "leave_one_site_out.md",
    ]
