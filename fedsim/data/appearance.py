"""How a site's images look: one fixed acquisition per site, applied to everything that it holds.

A scanner changes contrast and brightness, shades one side, tints (colour images), blurs, adds noise
and may burn a marker into the corner. All of it grows with the severity in a fixed direction, so
the same site at two severities differs in degree only.

>>> scanner = Scanner(severity="moderate")
>>> from fedsim.seeds import Streams
>>> images = np.full((2, 1, 32, 32), 128, np.uint8)
>>> scanner.apply(images, site=0, indices=np.arange(2), streams=Streams(seed=7)).shape
(2, 1, 32, 32)
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedsim.data.drawing import Floats, blur, grid, white_noise
from fedsim.plugins import Part
from fedsim.seeds import Streams

PRESETS = {"mild": 0.2, "moderate": 0.4, "severe": 0.7}
SHARP_PIXELS = 0.05  # a blur below this does nothing that 8 bits could show
IMAGES_AT_ONCE = 64
MARKER_GREY = 0.95


class Scanner(Part):
    """One acquisition per site, drawn from the run's seed.

    Args:
        kind: "scanner".
        severity: 0 (images unchanged) to 2, or a preset: mild 0.2, moderate 0.4, severe 0.7.
    """

    kind: Literal["scanner"] = "scanner"
    severity: Literal["mild", "moderate", "severe"] | Annotated[float, Field(ge=0, le=2)] = (
        "moderate"
    )

    @property
    def level(self) -> float:
        """The severity as a number."""
        return PRESETS[self.severity] if isinstance(self.severity, str) else self.severity

    def describe(self, site: int, streams: Streams) -> dict[str, Any]:
        """Return the site's acquisition for the run record, as plain numbers.

        Returns:
            gamma; gain; offset (1 is the full range); shading_y and shading_x (natural logarithm
            of the gain from centre to border); cast (gains of red, green and blue, unused on grey
            images); blur (standard deviation in pixels); noise (standard deviation, 1 is the full
            range); marker (whether one is burnt in).
        """
        rng, level = streams.numpy("scanner", site=site), self.level
        return {
            "gamma": float(np.exp(level * rng.normal(0, 0.45))),
            "gain": float(np.exp(level * rng.normal(0, 0.2))),
            "offset": float(level * rng.normal(0, 0.08)),
            "blur": float(level * rng.uniform(0, 1.1)),
            "noise": float(level * rng.uniform(0, 0.08)),
            "shading_y": float(level * rng.normal(0, 0.3)),
            "shading_x": float(level * rng.normal(0, 0.3)),
            "cast": [float(c) for c in np.exp(level * rng.normal(0, 0.15, 3))],
            "marker": bool(rng.random() < 0.5 * level),
        }

    def apply(
        self,
        images: NDArray[np.uint8],
        site: int,
        indices: NDArray[np.int64],
        streams: Streams,
    ) -> NDArray[np.uint8]:
        """Return the images as this site's scanner would have taken them.

        Each result depends on its image, the site and its index alone, never on the other images.

        Args:
            images: (n, channel, height, width), uint8, one channel or three.
            site: number of the site.
            indices: numbers of the images, (n,), which key their noise.
            streams: the run's random streams.

        Returns:
            new images, same shape, uint8.
        """
        if self.level == 0:
            return images.copy()
        look = self.describe(site, streams)
        result = np.empty_like(images)
        for start in range(0, len(images), IMAGES_AT_ONCE):
            block = slice(start, start + IMAGES_AT_ONCE)
            rngs = [streams.numpy("scanner_noise", site=site, index=int(i)) for i in indices[block]]
            taken = _take(images[block], look, rngs)
            result[block] = np.clip(taken, 0, 1) * 255 + 0.5
        return result


def _take(
    images: NDArray[np.uint8], look: dict[str, Any], rngs: list[np.random.Generator]
) -> Floats:
    """Return the images as seen by this scanner, same shape, float32, 1 is the full range."""
    _, channels, height, width = images.shape
    tone = (np.arange(256) / 255) ** look["gamma"] * look["gain"] + look["offset"]
    (y, _), (_, x) = grid(height), grid(width)
    gain = np.exp(look["shading_y"] * y + look["shading_x"] * x)[None]
    if channels == 3:
        gain = gain * np.array(look["cast"], np.float32)[:, None, None]
    taken: Floats = tone.astype(np.float32)[images] * gain
    if look["blur"] > SHARP_PIXELS:
        taken = blur(taken, look["blur"])
    taken += np.float32(look["noise"]) * white_noise(rngs, (channels, height, width))
    if look["marker"]:
        unit = max(1, height // 32)
        taken[:, :, 2 * unit : 5 * unit, 2 * unit : 8 * unit] = MARKER_GREY
    return taken
