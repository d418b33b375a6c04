"""Canary sites: only what is wrong with noise, clip or cohort shows more than the ledger allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsim.audit import one_run
from fedsim.audit.benches import bench_of
from fedsim.audit.finding import Outcome
from fedsim.audit.subject import Subject
from fedsim.privacy import private_mean
from fedsim.privacy.clipping import add_noise
from fedsim.privacy.correlated_mean import CorrelatedMean
from fedsim.privacy.site_noise import SiteNoise
from fedsim.records import RunRecord
from fedsim.scenario import Poisson, Scenario
from fedsim.simulate import run

Open = Callable[..., Subject]
Fault = Callable[[pytest.MonkeyPatch], None]
HIDDEN: dict[str, dict[str, Any]] = {
    "all": {"noise": 6.0},
    "poisson": {"noise": 2.0, "rounds": 20, "cohort": {"kind": "poisson", "sampling_rate": 0.1}},
    "fixed size": {"noise": 4.0, "cohort": {"kind": "fixed_size", "num_sites": 2}},
    "turns": {"kind": "dp_ftrl", "noise": 4.0, "cohort": {"kind": "cyclic", "num_sites": 2}},
    "local": {"kind": "local", "noise": 12.0},
    "distributed": {"kind": "distributed", "noise": 6.0, "min_survivors": 2},
}


@pytest.fixture
def made(tiny: Callable[..., Scenario], tmp_path: Path) -> Callable[..., RunRecord]:
    """Return a function that makes a run whose epsilon is about 1."""

    def make(
        kind: str = "client_level",
        noise: float = 6.0,
        rounds: int = 3,
        cohort: dict[str, Any] | None = None,
        **more: Any,
    ) -> RunRecord:
        mechanism = {"kind": kind, "noise_multiplier": noise, "clip_norm": 0.5, **more}
        scenario = tiny(
            rounds=rounds,
            cohort=cohort or {"kind": "all"},
            privacy={"mechanism": mechanism, "delta": 1e-5},
            strategy={"kind": "weighted_mean", "weights": "uniform"},
            evaluation={"every": rounds},
        )
        return run(scenario, out=tmp_path, device="cpu")

    return make


def audited(subject: Subject) -> Outcome:
    return one_run.run(subject, lambda *_: None)


def alarmed(subject: Subject) -> bool:
    return any(one.alarm for one in audited(subject).findings)


def noise_over(factor: float) -> Fault:
    """Return what divides the noise of every mechanism on updates."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        of_round = CorrelatedMean._noise_of
        monkeypatch.setattr(
            private_mean, "add_noise", lambda to, s, *a: add_noise(to, s / factor, *a)
        )
        monkeypatch.setattr(CorrelatedMean, "_noise_of", lambda *a: of_round(*a) / factor)
        share = property(lambda self: self.noise_multiplier * self.clip_norm / factor / 2)
        monkeypatch.setattr(SiteNoise, "std", share)  # of two shares at most

    return patch


def no_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_mean, "clip_factor", lambda *_: 1.0)


def everybody_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Poisson, "draw", lambda self, num, *_: list(range(num)))


@pytest.mark.parametrize("name", HIDDEN)
def test_what_the_ledger_says_raises_no_alarm_and_a_tenth_of_its_noise_does(
    made: Callable[..., RunRecord], subject: Open, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = made(**HIDDEN[name]).folder
    right = audited(subject(folder))
    assert len(right.findings) == 2
    assert not any(one.alarm for one in right.findings)
    assert right == audited(subject(folder))
    assert right != audited(subject(folder, seed=1))
    assert "1000 canary sites" in right.notes[0]
    assert ("draws cohorts" in right.notes[0]) == (name == "poisson")
    noise_over(10)(monkeypatch)
    assert alarmed(subject(folder))


@pytest.mark.parametrize(
    ("name", "fault"), [("all", no_clip), ("turns", no_clip), ("poisson", everybody_always)]
)
def test_long_updates_and_cohorts_that_are_no_samples_are_found(
    made: Callable[..., RunRecord],
    subject: Open,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    fault: Fault,
) -> None:
    folder = made(**HIDDEN[name]).folder
    assert not alarmed(subject(folder))
    fault(monkeypatch)
    assert alarmed(subject(folder))


def test_a_clip_that_adapts_has_the_noise_and_the_divisor_of_the_run(
    tiny: Callable[..., Scenario], subject: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mechanism = {"kind": "client_level", "noise_multiplier": 1.5, "adaptive_clip": {}}
    source = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 200}
    scenario = tiny(
        rounds=1,
        data={"source": source, "task": "binary"},
        population={"num_sites": 40, "partition": {"kind": "iid", "min_examples": 4}},
        privacy={"mechanism": mechanism, "delta": 1e-5},
        strategy={"kind": "weighted_mean", "weights": "uniform"},
    )
    found = subject(run(scenario, out=tmp_path, device="cpu").folder)
    bench = bench_of(found, scenario.privacy.mechanism)  # type: ignore[union-attr]
    assert bench.num_expected == 40  # type: ignore[union-attr]
    assert not alarmed(found)
    noise_over(10)(monkeypatch)
    assert alarmed(found)
