"""Halves of methods, control variates and personal models: what is refused, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fedsim.errors import ScenarioError
from fedsim.flower import federation
from fedsim.scenario import Scenario

Make = Callable[..., Scenario]
CLIENT = {"epochs": 1, "batch_size": 16, "optimizer": {"kind": "sgd", "learning_rate": 0.1}}
RATE = {"learning_rate": 0.1}
CONTROL, DYNAMIC = {"kind": "control_variates"}, {"kind": "dynamic", "alpha": 0.1}
PRIVATE = {"kind": "private_parameters", "names": ["3.*"]}
DEVICES = {"num_sites": 3, "devices": [{"profile": "t4", "share": 1, "precision": "fp16"}]}
ASYNC = {
    "population": {"num_sites": 3, "devices": [{"profile": "t4", "share": 1}]},
    "round_policy": {"kind": "buffered_async", "buffer_size": 2},
}


def client(**changes: Any) -> dict[str, Any]:
    return {"client": {**CLIENT, **changes}}


SCAFFOLD: dict[str, Any] = {**client(regulariser=CONTROL), "strategy": {"kind": "scaffold"}}
FED_DYN: dict[str, Any] = {
    **client(regulariser=DYNAMIC),
    "strategy": {"kind": "fed_dyn", "alpha": 0.1},
}


@pytest.mark.parametrize(
    "sections",
    [
        SCAFFOLD,
        FED_DYN,
        {**SCAFFOLD, "server_optimizer": {"kind": "sgd", "momentum": 0.9}},
        client(regulariser={"kind": "contrastive"}),
        {**client(regulariser={"kind": "contrastive"}), **ASYNC},
        {"strategy": {"kind": "flower", "name": "FedProx", "options": {"proximal_mu": 1.0}}},
        {**client(personalisation=PRIVATE), "evaluation": {"loss_decomposition": False}},
        client(personalisation={"kind": "ditto"}),
    ],
)
def test_whole_methods_are_taken(tiny: Make, sections: dict[str, Any]) -> None:
    tiny(**sections)


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        (client(regulariser=CONTROL), r"give strategy: {kind: scaffold} too"),
        ({"strategy": {"kind": "scaffold"}}, r"client\.regulariser: {kind: control_variates} too"),
        (client(regulariser=DYNAMIC), r"give strategy: {kind: fed_dyn} too"),
        ({"strategy": {"kind": "fed_dyn"}}, r"client\.regulariser: {kind: dynamic} too"),
        (
            {**client(regulariser=CONTROL), "strategy": {"kind": "flower", "name": "FedAvg"}},
            r"give strategy: {kind: scaffold} too",
        ),
        (
            {**FED_DYN, "strategy": {"kind": "fed_dyn", "alpha": 0.2}},
            r"(?s)strategy\.alpha.*is 0\.2, but the sites' is 0\.1",
        ),
        ({**SCAFFOLD, **ASYNC}, "scaffold is for rounds whose sites all start from the same"),
        ({**FED_DYN, **ASYNC}, "fed_dyn is for rounds whose sites all start from the same"),
        (
            {**SCAFFOLD, **client(regulariser=CONTROL, optimizer={"kind": "adam"} | RATE)},
            "those of adam do not show: use sgd",
        ),
        (
            {
                **SCAFFOLD,
                **client(regulariser=CONTROL, optimizer={"kind": "sgd", "momentum": 0.9} | RATE),
            },
            "which momentum mixes: set it to 0",
        ),
        ({**SCAFFOLD, "population": DEVICES}, "counts steps, and fp16 leaves some out"),
        (
            {
                **client(regulariser={"kind": "proximal"}),
                "strategy": {"kind": "flower", "name": "FedProx", "options": {"proximal_mu": 1.0}},
            },
            "Flower's FedProx asks for a proximal term of its own",
        ),
        (client(personalisation=PRIVATE), "without a whole model: set it to false"),
        (
            {
                **client(personalisation=PRIVATE),
                "population": {"num_sites": 3, "holdout_sites": ["site-00"]},
            },
            "(?s)holdout_sites.*judged by the global model",
        ),
        (
            {
                **client(personalisation={"kind": "ditto"}),
                "population": {
                    "num_sites": 30,
                    "partition": {"kind": "resampled", "examples_per_site": 10},
                },
                "evaluation": {"loss_decomposition": False},
            },
            "no test examples, so nobody would see their models",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_way_out(
    tiny: Make, sections: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ScenarioError, match=complaint):
        tiny(**sections)


def test_private_parameters_cannot_start_from_a_file_that_sites_do_not_have(tiny: Make) -> None:
    scenario = tiny(**client(personalisation=PRIVATE), evaluation={"loss_decomposition": False})

    def complaints(scenario: Scenario) -> list[str]:
        return [p.message for p in federation.unsuited(scenario) if p.path == ("model", "weights")]

    assert complaints(scenario) == []
    model = scenario.model.model_copy(update={"weights": "resnet18.pth"})
    (complaint,) = complaints(scenario.model_copy(update={"model": model}))
    assert "never sent" in complaint
