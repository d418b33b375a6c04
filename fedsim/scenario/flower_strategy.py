"""Flower's own strategies by name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedsim.plugins import Part

RESERVED = frozenset(
    {
        "fraction_train",
        "fraction_evaluate",
        "min_train_nodes",
        "min_evaluate_nodes",
        "min_available_nodes",
        "weighted_by_key",
        "arrayrecord_key",
        "configrecord_key",
        "train_metrics_aggr_fn",
        "evaluate_metrics_aggr_fn",
    }
)
"""Arguments of Flower's strategies that the scenario's cohort and evaluation decide."""

USABLE = (
    "Bulyan",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedMedian",
    "FedProx",
    "FedTrimmedAvg",
    "FedYogi",
    "Krum",
    "MultiKrum",
    "QFedAvg",
)
"""Flower's strategies that a scenario can use: those that aggregate models as FedAvg does."""

UNSUITED = {
    "FedXgbBagging": "it merges trees, not models",
    "FedXgbCyclic": "it passes on trees, not models",
}
"""Those of the same kin that a scenario cannot use, and why."""


class FlowerStrategy(Part):
    """A class of `flwr.serverapp.strategy`, with its own arguments.

    The scenario decides who takes part, so arguments that sample nodes are refused.
    """

    kind: Literal["flower"] = "flower"
    name: str = Field(description="for example FedAdam")
    options: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="keyword arguments of that class"
    )
