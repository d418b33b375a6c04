"""How a site's images look: one fixed acquisition per site, applied to everything that it holds.

What all rules share is a dial: how strongly the sites differ, from 0 (not at all) to 2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fedsim.plugins import Part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedsim.seeds import Streams


PRESETS = {"mild": 0.2, "moderate": 0.4, "severe": 0.7}


class Appearance(Part, ABC):
    """A rule that makes each site's images look as its scanner would have taken them.

    Args:
        severity: 0 (images unchanged) to 2, or a preset: mild 0.2, moderate 0.4, severe 0.7.
    """

    kind: str
    severity: Literal["mild", "moderate", "severe"] | Annotated[float, Field(ge=0, le=2)] = (
        "moderate"
    )

    @property
    def level(self) -> float:
        """The severity as a number."""
        return PRESETS[self.severity] if isinstance(self.severity, str) else self.severity

    @abstractmethod
    def describe(self, site: int, name: str, streams: Streams) -> dict[str, Any]:
        """Return the site's acquisition for the run record, as plain data."""

    @abstractmethod
    def apply(
        self,
        images: NDArray[np.uint8],
        site: int,
        name: str,
        indices: NDArray[np.int64],
        streams: Streams,
    ) -> NDArray[np.uint8]:
        """Return the images as this site's scanner would have taken them, fresh, same shape.

        Each result depends on its image, the site and its index alone, never on the other images.

        Args:
            images: (n, channel, height, width), uint8, one channel or three.
            site: number of the site.
            name: of the site.
            indices: numbers of the images, (n,), which key their noise.
            streams: the run's random streams.
        """

    def named_sites(self) -> tuple[str, ...]:
        """Return the names of the sites that the scenario gives settings for."""
        return ()
