"""Frozen parameters keep their starting weights to the bit, whatever trains the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedsim.errors import InputError
from fedsim.flower.network import Network
from fedsim.records.checkpoint import load, path_of
from fedsim.scenario import Scenario
from fedsim.simulate import run

Make = Callable[..., Scenario]
MLP = {"kind": "mlp", "widths": [8]}


def test_frozen_parameters_stay_and_the_others_move(tiny: Make, tmp_path: Path) -> None:
    start = Network(tiny(), torch.device("cpu")).initial
    names = list(start)
    first = names[0].rsplit(".", 1)[0]
    scenario = tiny(model={**MLP, "frozen": [f"{first}.*"]})
    record = run(scenario, out=tmp_path, device="cpu")
    model = load(path_of(record.folder, 3))["model"]
    for name in names:
        assert torch.equal(model[name], start[name]) == name.startswith(f"{first}.")


@pytest.mark.parametrize(
    ("patterns", "message"),
    [(["nowhere.*"], "fits no parameter"), (["*"], "nothing to train")],
)
def test_what_freezes_nothing_or_all_is_refused(
    tiny: Make, patterns: list[str], message: str
) -> None:
    scenario: Any = tiny(model={**MLP, "frozen": patterns})
    with pytest.raises(InputError, match=rf"model\.frozen: .*{message}"):
        Network(scenario, torch.device("cpu"))
