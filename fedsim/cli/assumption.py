"""What a user assumes of the responses of bags: options that two commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fedsim.errors import InputError

if TYPE_CHECKING:
    from fedsim.bag_advice import Assumed

Signal = Annotated[
    float | None,
    typer.Option(
        "--assume-signal",
        help="with bags: variance of responses that a linear model explains, to see which bag "
        "size theory advises",
    ),
]
Noise = Annotated[
    float | None, typer.Option("--assume-noise", help="variance that it does not explain")
]
Dimensions = Annotated[
    int | None,
    typer.Option("--assume-dimensions", min=1, help="of its features; default: all pixels"),
]


def assumption(
    signal: float | None, noise: float | None, num_dimensions: int | None
) -> Assumed | None:
    """Return what is assumed, None if nothing is.

    Raises:
        InputError: if it is half a statement, or cannot be.
    """
    if (signal is None) != (noise is None):
        raise InputError("--assume-signal and --assume-noise belong together: give both or none")
    if signal is None or noise is None:
        return None
    from fedsim.bag_advice import Assumed

    return Assumed(signal, noise, num_dimensions)
