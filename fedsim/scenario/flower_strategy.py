"""Flower's own strategies by name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedsim.plugins import Part


class FlowerStrategy(Part):
    """A class of `flwr.serverapp.strategy`, with its own arguments.

    The scenario decides who takes part, so arguments that sample nodes are refused. The class is
    looked up before any training starts.
    """

    kind: Literal["flower"] = "flower"
    name: str = Field(description="for example FedAdam")
    options: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="keyword arguments of that class"
    )
