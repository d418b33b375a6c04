"""Synthetic fundus photographs: colour, the grade sets how many red and yellow lesions there are.

Optic disc, macula, six vessels, pigment and shade vary from eye to eye. The numbers of lesions are
Poisson draws, so neighbouring grades overlap, as they do in practice.

>>> rngs = [np.random.default_rng(index) for index in range(2)]
>>> photographs, lesions = draw(rngs, np.array([0, 4]), image_size=32, signal=1.0)
>>> photographs.shape, lesions.any(axis=(1, 2)).tolist()
((2, 3, 32, 32), [False, True])
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, tau

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedsim.data.drawing import (
    Floats,
    blob,
    blur,
    grid,
    normals,
    pixel_centres,
    texture,
    uniforms,
    white_noise,
)
from fedsim.data.sitters import Sitters

CLASS_NAMES = ("grade 0", "grade 1", "grade 2", "grade 3", "grade 4")
MEAN_RED_LESIONS = (0, 3, 7, 13, 22)
MEAN_YELLOW_LESIONS = (0, 0, 4, 10, 19)
NUM_VESSELS = 6

# parameter -> (mean, standard deviation)
EYE = {"disc_y": (0.0, 0.05), "disc_x": (0.52, 0.04)}
PIGMENT = {"red": (0.78, 0.0468), "green": (0.38, 0.0228), "blue": (0.16, 0.0096)}

EXPOSURE = {"exposure": (1.0, 0.06)}
"""How the photographs of one patient differ."""
PALER_VESSELS_BY_AGE = 0.25
"""By how much of their contrast the vessels of an age band are paler than of the one before."""
DIMMER_DISC_OF_MEN = 0.25
"""By how much of its glow the disc of a man is dimmer."""

# parameter -> (low, high)
SIDE = {"side": (-1.0, 1.0)}  # its sign: left or right eye
VESSEL = {"angle": (0.7, 1.5), "bend": (-1.6, -0.5), "length": (0.9, 1.5)}
LESION = {
    "eccentricity": (0.1, 0.8),
    "direction": (0.0, tau),
    "height": (0.03, 0.08),
    "width": (0.03, 0.08),
    "angle": (0.0, 3.0),
}
LESION_SOFTNESS = 0.3
LESION_REACH = 0.08 * (1 + 6 * LESION_SOFTNESS)  # farther out, the largest lesion is below e^-6

# what each structure does to red, green and blue
VESSEL_ABSORPTION = (0.35, 0.55, 0.45)
DISC_GLOW = (0.20, 0.38, 0.28)
RED_LESION_ABSORPTION = (0.55, 0.85, 0.70)
YELLOW_LESION_GLOW = (0.22, 0.50, 0.15)


def draw(
    rngs: Sequence[Generator],
    labels: NDArray[np.int64],
    image_size: int,
    signal: float,
    sitters: Sitters | None = None,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Draw one photograph per generator.

    The eye depends on the generator alone, so photographs of the same generator with different
    grades or signals differ only in their lesions. With sitters it depends on theirs, and
    photographs of one of them differ in exposure, shade and lesions.

    Args:
        rngs: one fresh generator per photograph.
        labels: grades 0 to 4, (n,), int64.
        image_size: height and width in pixels.
        signal: contrast of the lesions; 1 is as calibrated.
        sitters: whose eyes these are; everybody has one if not given. The discs of men glow less,
            and vessels are paler with age.

    Returns:
        photographs, (n, 3, image_size, image_size), float32 in [0, 1], and masks of the lesions,
        (n, image_size, image_size), bool.
    """
    sitters = sitters or Sitters.alone(rngs)
    bodies = sitters.bodies
    eye, pigment = normals(bodies, EYE), normals(bodies, PIGMENT)
    side = np.copysign(np.float32(1), uniforms(bodies, SIDE)["side"])
    disc_y, disc_x = eye["disc_y"], side * eye["disc_x"]
    vessels = _vessels(bodies, side, disc_y, disc_x, image_size)
    vessels = vessels * (1 - np.float32(PALER_VESSELS_BY_AGE) * sitters.age)
    if sitters.several:
        exposure = normals(rngs, EXPOSURE)["exposure"]
        pigment = {name: colour * exposure for name, colour in pigment.items()}
    shade = 0.08 * texture(rngs, image_size, 6)
    red = _lesions(rngs, [MEAN_RED_LESIONS[label] for label in labels], image_size)
    yellow = _lesions(rngs, [MEAN_YELLOW_LESIONS[label] for label in labels], image_size)

    y, x = grid(image_size)
    macula_y, macula_x = y - 0.02, x + side * 0.12
    macula = np.exp((macula_y * macula_y + macula_x * macula_x) * (-1 / 0.03))
    shade = (1 - 0.35 * (x * x + y * y) + shade) * (1 - 0.25 * macula)
    disc = blob(y, x, (disc_y, disc_x), (0.15, 0.14), 0, 0.12)
    disc = disc * (1 - np.float32(DIMMER_DISC_OF_MEN) * sitters.male)
    field_of_view = blob(y, x, (0, 0), (0.96, 0.96), 0, 0.02)

    photographs = np.empty((len(rngs), 3, image_size, image_size), np.float32)
    for channel, colour in enumerate(pigment.values()):
        plane = colour * shade
        plane *= 1 - VESSEL_ABSORPTION[channel] * vessels
        plane += DISC_GLOW[channel] * disc
        plane *= 1 - (signal * RED_LESION_ABSORPTION[channel]) * red
        plane += (signal * YELLOW_LESION_GLOW[channel]) * yellow
        photographs[:, channel] = np.clip(plane, 0, 1) * field_of_view
    return photographs, (np.maximum(red, yellow) > 0.5) & (field_of_view > 0.5)


def _vessels(
    rngs: Sequence[Generator], side: Floats, disc_y: Floats, disc_x: Floats, size: int
) -> Floats:
    """Draw vessels that wander from the disc in arcs, thinning as they go; (n, size, size)."""
    arc = uniforms(rngs, VESSEL, NUM_VESSELS)
    num_steps = 3 * size
    upward = np.array([-1, 1] * (NUM_VESSELS // 2), np.float32)[:, None]
    way = np.linspace(0, 1, num_steps, dtype=np.float32)
    wander = white_noise(rngs, (NUM_VESSELS, num_steps)).cumsum(axis=-1) * (0.15 / num_steps**0.5)
    heading = upward * arc["angle"] + upward * arc["bend"] * arc["length"] * way + wander
    step = arc["length"] / (num_steps - 1)
    y = disc_y + np.cumsum(np.sin(heading), axis=-1) * step
    x = disc_x - side * np.cumsum(np.cos(heading), axis=-1) * step

    row, column = np.rint((y + 1) * (size / 2) - 0.5), np.rint((x + 1) * (size / 2) - 0.5)
    inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
    image = np.arange(len(rngs))[:, None, None]
    place = (image * size + row.astype(np.int64)) * size + column.astype(np.int64)
    calibre = np.broadcast_to(1 - np.float32(0.6) * way, place.shape)
    canvas = np.zeros((len(rngs), size, size), np.float32)
    np.maximum.at(canvas.reshape(-1), place[inside], calibre[inside])
    vessels = blur(canvas, size / 110)
    vessels *= 2.2
    return np.minimum(vessels, 1, out=vessels)


def _lesions(rngs: Sequence[Generator], means: Sequence[int], size: int) -> Floats:
    """Draw a Poisson number of lesions of one colour into each image; (n, size, size)."""
    counts = [int(rng.poisson(mean)) for rng, mean in zip(rngs, means, strict=True)]
    image = np.repeat(np.arange(len(rngs)), counts)[:, None, None]
    drawn = [uniforms([rng], LESION, count) for rng, count in zip(rngs, counts, strict=True)]
    spot = {name: np.concatenate([d[name][0] for d in drawn])[:, :, None] for name in LESION}
    centre_y = spot["eccentricity"] * np.sin(spot["direction"])
    centre_x = spot["eccentricity"] * np.cos(spot["direction"])

    margin = ceil(LESION_REACH * size / 2)
    window = np.arange(-margin, margin + 1)
    row = np.floor((centre_y + 1) * (size / 2)).astype(np.int64) + window[:, None]
    column = np.floor((centre_x + 1) * (size / 2)).astype(np.int64) + window
    value = blob(
        pixel_centres(row, size),
        pixel_centres(column, size),
        (centre_y, centre_x),
        (spot["height"], spot["width"]),
        spot["angle"],
        LESION_SOFTNESS,
    )
    padded = size + 2 * margin
    canvas = np.zeros((len(rngs), padded, padded), np.float32)
    place = (image * padded + row + margin) * padded + column + margin
    np.maximum.at(canvas.reshape(-1), place.reshape(-1), value.reshape(-1))
    return canvas[:, margin:-margin, margin:-margin]
