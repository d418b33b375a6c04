"""Flower's own strategies by name."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
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


UNSUITED = {
    "FedProx": "its proximal term is for the sites to add, which only an objective of theirs can",
    "FedXgbBagging": "it merges trees, not models",
    "FedXgbCyclic": "it passes on trees, not models",
}
"""Flower's strategies that a scenario cannot use, and why."""


class FlowerStrategy(Part):
    """A class of `flwr.serverapp.strategy`, with its own arguments.

    The scenario decides who takes part, so arguments that sample nodes are refused.
    """

    kind: Literal["flower"] = "flower"
    name: str = Field(description="for example FedAdam")
    options: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="keyword arguments of that class"
    )


def exported() -> tuple[str, ...]:
    """Return what `flwr.serverapp.strategy` exports, read from its source: importing it is slow."""
    package = find_spec("flwr")
    if package is None or package.origin is None:
        return ()
    source = Path(package.origin).parent / "serverapp" / "strategy" / "__init__.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return tuple(ast.literal_eval(node.value))
    return ()
