"""`rho: auto`: how much of the instance loss helps, chosen by the loss of validation bags.

Short runs of the same scenario, one for each candidate, are judged by the bag loss on validation
bags: by what sites know, never by hidden labels. The chosen number takes the place of `auto`, so
the run that follows is repeated by its own scenario without them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from clients.objectives import InterpolatedBag
from fedsim.data.source import POOLED
from fedsim.records import RunRecord
from fedsim.scenario import Scenario
from fedsim.scenario.supervision_rules import BAG_LOSS

CANDIDATES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
"""From the bag loss to the instance loss."""
SHARE_OF_ROUNDS = 0.25
"""What a trial has of the run's rounds."""


def is_open(scenario: Scenario) -> bool:
    """Return whether rho is to be chosen."""
    objective = scenario.client.objective
    return isinstance(objective, InterpolatedBag) and objective.rho == "auto"


def with_rho(scenario: Scenario, rho: float) -> Scenario:
    """Return the scenario with a number for rho."""
    objective = scenario.client.objective.model_copy(update={"rho": rho})
    client = scenario.client.model_copy(update={"objective": objective})
    return scenario.model_copy(update={"client": client})


def choose(scenario: Scenario, run: Callable[[Scenario, str], RunRecord]) -> Mapping[str, Any]:
    """Return rho and how it was chosen, as plain data.

    Args:
        scenario: with `rho: auto`.
        run: function (scenario, name) -> the record of its run, which may be there already.
    """
    losses = {rho: _loss(run(_trial(scenario, rho), f"rho-{rho:g}")) for rho in CANDIDATES}
    defined = {rho: loss for rho, loss in losses.items() if loss is not None}
    return {
        "rho": min(defined, key=defined.__getitem__),
        "rounds": _trial_rounds(scenario),
        BAG_LOSS: {f"{rho:g}": loss for rho, loss in losses.items()},
    }


def text(chosen: Mapping[str, Any]) -> str:
    """Return how rho was chosen, in a sentence."""
    losses = ", ".join(f"{value:.4f} at {rho}" for rho, value in chosen[BAG_LOSS].items() if value)
    return (
        f"rho = {chosen['rho']:g} was chosen by the loss of validation bags after trials of "
        f"{chosen['rounds']} rounds: {losses}"
    )


def _trial(scenario: Scenario, rho: float) -> Scenario:
    rounds = _trial_rounds(scenario)
    evaluation = scenario.evaluation.model_copy(
        update={
            "every": rounds,
            "metrics": (BAG_LOSS,),
            "select_by": BAG_LOSS,
            "num_resamples": 0,
            "external": (),
        }
    )
    return with_rho(scenario, rho).model_copy(
        update={"rounds": rounds, "evaluation": evaluation, "baselines": ()}
    )


def _trial_rounds(scenario: Scenario) -> int:
    rounds = math.ceil(SHARE_OF_ROUNDS * scenario.rounds)
    return min(scenario.rounds, max(rounds, scenario.client.schedule.warmup_rounds + 1))


def _loss(record: RunRecord) -> float | None:
    wanted = (record.selection.final_round, "validation", POOLED, BAG_LOSS)
    value: float | None = next(
        row["value"]
        for row in record.metrics
        if (row["round"], row["split"], row["site"], row["metric"]) == wanted
    )
    return value
