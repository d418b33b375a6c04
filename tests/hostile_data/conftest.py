"""Data that somebody damaged, invented or forgot, given to the whole program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsim.errors import InputError
from fedsim.scenario import Scenario
from fedsim.simulate import run

Refused = Callable[..., str]
LOSS_ALONE = {"metrics": ["loss"], "select_by": "loss"}


@pytest.fixture
def refused(
    tiny: Callable[..., Scenario], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Refused:
    """Return a function that runs a scenario on a source and returns why it was refused.

    A refusal is an error of the input, and leaves neither a run folder nor a file in the cache.
    """
    monkeypatch.setenv("FEDSIM_CACHE_DIR", str(tmp_path / "cache"))

    def refuse(source: dict[str, Any], task: str = "binary", **sections: Any) -> str:
        asked = {"population": {"num_sites": 2}, "evaluation": LOSS_ALONE, "rounds": 1, **sections}
        with pytest.raises(InputError) as caught:
            run(
                tiny(data={"source": source, "task": task}, **asked),
                out=tmp_path / "runs",
                device="cpu",
            )
        assert not (tmp_path / "runs").exists()
        assert not (tmp_path / "cache").exists()
        return str(caught.value)

    return refuse
