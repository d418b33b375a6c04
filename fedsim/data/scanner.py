"""A scanner per site, made of simple optics.

A scanner changes contrast and brightness, shades one side, tints (colour images), blurs, adds noise
and may burn a marker into the corner. All of it grows with the severity in a fixed direction, so
the same site at two severities differs in degree only.

>>> scanner = Scanner(severity="moderate")
>>> from fedsim.seeds import Streams
>>> images = np.full((2, 1, 32, 32), 128, np.uint8)
>>> scanner.apply(images, site=0, name="A", indices=np.arange(2), streams=Streams(seed=7)).shape
(2, 1, 32, 32)
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedsim.data.appearance import Appearance
from fedsim.data.drawing import Floats, blur, grid, white_noise
from fedsim.plugins import Part
from fedsim.seeds import Streams

SHARP_PIXELS = 0.05  # a blur below this does nothing that 8 bits could show
IMAGES_AT_ONCE = 64
MARKER_GREY = 0.95

Spread = Annotated[float, Field(ge=0, le=3)]
Gain = Annotated[float, Field(ge=0, le=10)]


class Look(Part):
    """What is fixed of one site's scanner instead of drawn; see `Scanner.describe`."""

    gamma: float | None = Field(default=None, gt=0, le=10, description="exponent of the tone curve")
    gain: float | None = Field(default=None, ge=0, le=10, description="contrast")
    offset: float | None = Field(default=None, ge=-1, le=1, description="brightness; 1: full range")
    blur: float | None = Field(default=None, ge=0, le=20, description="standard deviation, pixels")
    noise: float | None = Field(
        default=None, ge=0, le=1, description="standard deviation; 1: full range"
    )
    shading_y: float | None = Field(
        default=None, ge=-3, le=3, description="log of the gain from centre to lower border"
    )
    shading_x: float | None = Field(
        default=None, ge=-3, le=3, description="log of the gain from centre to right border"
    )
    cast: Annotated[tuple[Gain, ...], Field(min_length=3, max_length=3)] | None = Field(
        default=None, description="gains of red, green and blue"
    )
    marker: bool | None = Field(default=None, description="whether one is burnt into the corner")


class Scanner(Appearance):
    """One acquisition per site, drawn from the run's seed.

    The spreads say how far sites differ at severity 1; the severity scales them all.

    Args:
        kind: "scanner".
        severity: 0 (images unchanged) to 2, or a preset: mild 0.2, moderate 0.4, severe 0.7.
        gamma_spread: standard deviation of the logarithm of the tone curve's exponent.
        gain_spread: standard deviation of the logarithm of the contrast.
        offset_spread: standard deviation of the brightness; 1 is the full range.
        blur_max: largest standard deviation of the blur, in pixels.
        noise_max: largest standard deviation of the noise; 1 is the full range.
        shading_spread: standard deviation of the log gain from the centre to the borders.
        cast_spread: standard deviation of the log gains of red, green and blue.
        marker_probability: that a site burns a marker into the corner.
        sites: site -> exact values of `gamma`, `gain`, `offset`, `blur`, `noise`, `shading_y`,
            `shading_x`, `cast` and `marker`, in place of those drawn.
    """

    kind: Literal["scanner"] = "scanner"
    gamma_spread: Spread = 0.45
    gain_spread: Spread = 0.2
    offset_spread: Spread = 0.08
    blur_max: Annotated[float, Field(ge=0, le=20)] = 1.1
    noise_max: Annotated[float, Field(ge=0, le=1)] = 0.08
    shading_spread: Spread = 0.3
    cast_spread: Spread = 0.15
    marker_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    sites: dict[str, Look] = Field(default_factory=dict)

    def named_sites(self) -> tuple[str, ...]:
        """Return the names of the sites with values of their own."""
        return tuple(self.sites)

    def describe(self, site: int, name: str, streams: Streams) -> dict[str, Any]:
        """Return the site's acquisition for the run record, as plain numbers.

        Returns:
            gamma; gain; offset (1 is the full range); shading_y and shading_x (natural logarithm
            of the gain from centre to border); cast (gains of red, green and blue, unused on grey
            images); blur (standard deviation in pixels); noise (standard deviation, 1 is the full
            range); marker (whether one is burnt in).
        """
        rng, level = streams.numpy("scanner", site=site), self.level
        drawn = {
            "gamma": float(np.exp(level * rng.normal(0, self.gamma_spread))),
            "gain": float(np.exp(level * rng.normal(0, self.gain_spread))),
            "offset": float(level * rng.normal(0, self.offset_spread)),
            "blur": float(level * rng.uniform(0, self.blur_max)),
            "noise": float(level * rng.uniform(0, self.noise_max)),
            "shading_y": float(level * rng.normal(0, self.shading_spread)),
            "shading_x": float(level * rng.normal(0, self.shading_spread)),
            "cast": [float(c) for c in np.exp(level * rng.normal(0, self.cast_spread, 3))],
            "marker": bool(rng.random() < self.marker_probability * level),
        }
        given = self.sites.get(name, Look()).model_dump(mode="json", exclude_none=True)
        return drawn | given

    def apply(
        self,
        images: NDArray[np.uint8],
        site: int,
        name: str,
        indices: NDArray[np.int64],
        streams: Streams,
    ) -> NDArray[np.uint8]:
        """Return the images as this site's scanner would have taken them.

        Each result depends on its image, the site and its index alone, never on the other images.

        Args:
            images: (n, channel, height, width), uint8, one channel or three.
            site: number of the site.
            name: of the site.
            indices: numbers of the images, (n,), which key their noise.
            streams: the run's random streams.

        Returns:
            new images, same shape, uint8.
        """
        if self.level == 0 and name not in self.sites:
            return images.copy()
        look = self.describe(site, name, streams)
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
