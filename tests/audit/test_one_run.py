"""Guesses about canaries bound epsilon from below, and only gross faults are beyond the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.dpsgd import DpSgd, train_private
from fedsim.audit import one_run
from fedsim.audit.subject import Subject
from fedsim.flower import private_training
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


@pytest.mark.slow
def test_noise_that_is_not_there_raises_one(
    tiny: Callable[..., Scenario], subject: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 400}
    mechanism = {"kind": "example_level", "noise_multiplier": 15.0}
    scenario = tiny(
        rounds=6,
        data={"source": source, "task": "binary"},
        model={"kind": "mlp", "widths": [32]},
        privacy={"mechanism": mechanism, "delta": 1e-4},
    )
    record = run(scenario, out=tmp_path, device="cpu")

    def hardly(model: Any, examples: Any, said: DpSgd, *rest: Any, **more: Any) -> Any:
        done = replace(said, noise_multiplier=said.noise_multiplier / 1000)
        return train_private(model, examples, done, *rest, **more)

    monkeypatch.setattr(private_training, "train_private", hardly)
    (everyone, _) = one_run.run(subject(record.folder, num_canaries=200), quiet).findings
    assert everyone.value > 0.7
    assert "200 guesses" in everyone.alarm


def test_the_ceiling_says_what_cannot_alarm(private: RunRecord, subject: Open) -> None:
    outcome = one_run.run(subject(private.folder, num_canaries=20), quiet)
    assert "cannot raise an alarm" in outcome.notes[0]
