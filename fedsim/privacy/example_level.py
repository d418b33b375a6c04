"""Example-level privacy: DP-SGD in which each training image is a unit of its own."""

from __future__ import annotations

from typing import ClassVar, Literal

from fedsim.privacy.dp_sgd import DpSgdMechanism
from fedsim.privacy.units import Unit


class ExampleLevel(DpSgdMechanism):
    """DP-SGD in the client: clipped gradients of single images, noise in every step."""

    kind: Literal["example_level"] = "example_level"

    unit: ClassVar[Unit] = "example"
