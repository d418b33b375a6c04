from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedsim.audit import session
from fedsim.audit.subject import Options, Subject
from fedsim.records import RunRecord
from fedsim.scenario import Scenario
from fedsim.simulate import run

CPU = torch.device("cpu")
PRIVACY = {
    "mechanism": {"kind": "example_level", "noise_multiplier": 3.0},
    "delta": 1e-4,
}


@pytest.fixture(scope="session")
def private(tiny: Callable[..., Scenario], tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """Return a finished private run of three small sites; nobody changes it."""
    return run(tiny(privacy=PRIVACY), out=tmp_path_factory.mktemp("private"), device="cpu")


@pytest.fixture
def subject() -> Callable[..., Subject]:
    """Return a function that opens a run for an audit."""

    def open_(folder: Path, **options: Any) -> Subject:
        return session.subject(folder, Options(**options), CPU)

    return open_
