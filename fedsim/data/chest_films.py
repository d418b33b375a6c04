"""Synthetic chest films: grey, label 1 has one to three air-space opacities inside the lungs.

Body, lungs, heart, ribs, spine and vessels vary from film to film. A benign haze, on films of both
classes, makes the classes overlap, so that no classifier is perfect.

>>> rngs = [np.random.default_rng(index) for index in range(2)]
>>> films, lesions = draw(rngs, np.array([0, 1]), image_size=32, signal=1.0)
>>> films.shape, lesions.any(axis=(1, 2)).tolist()
((2, 1, 32, 32), [False, True])
"""

from __future__ import annotations

from collections.abc import Sequence
from math import tau

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedsim.data.drawing import Floats, blob, grain, grid, normals, texture, uniforms
from fedsim.data.sitters import Sitters

CLASS_NAMES = ("normal", "opacity")
MAX_OPACITIES = 3
SIDES = (-1, 1)

# parameter -> (mean, standard deviation)
ANATOMY = {
    "scale": (1.0, 0.06),
    "shift_x": (0.0, 0.04),
    "shift_y": (0.0, 0.05),
    "tilt": (0.0, 0.05),
    "heart_x": (0.12, 0.02),
    "heart_height": (0.34, 0.034),
    "heart_width": (0.30, 0.036),
    "rib_frequency": (15.0, 1.0),
}
POSITION = {"shift_x": (0.0, 0.03), "shift_y": (0.0, 0.03), "tilt": (0.0, 0.03)}
"""How the films of one patient differ."""
BREADTH_OF_MEN = 0.08
"""By how much of its width the body of a man is broader."""
RIBS_BY_AGE = 0.35
"""By how much of their contrast ribs stand out less than in the age band before."""
LUNG = {"height": (0.62, 0.05), "width": (0.30, 0.025), "y": (-0.02, 0.02)}

# parameter -> (low, high)
APPEARANCE = {"rib_phase": (0.0, tau), "haze": (0.0, 0.06), "num_opacities": (1, MAX_OPACITIES + 1)}
OPACITY = {
    "side": (-1.0, 1.0),  # its sign
    "y": (-0.35, 0.4),
    "x": (0.28, 0.52),  # distance from the spine
    "height": (0.16, 0.38),
    "width": (0.12, 0.24),
    "angle": (0.0, 3.0),
    "strength": (0.35, 0.6),
}


def draw(
    rngs: Sequence[Generator],
    labels: NDArray[np.int64],
    image_size: int,
    signal: float,
    sitters: Sitters | None = None,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Draw one film per generator.

    The anatomy depends on the generator alone, so films of the same generator with different
    labels or signals differ only in their opacities. With sitters it depends on theirs, and films
    of one of them differ in position, texture and opacities.

    Args:
        rngs: one fresh generator per film.
        labels: 0 (normal) or 1 (opacity), (n,), int64.
        image_size: height and width in pixels.
        signal: contrast of the opacities; 1 is as calibrated.
        sitters: whose films these are; everybody has one if not given. Men are broader, and ribs
            stand out less with age.

    Returns:
        films, (n, 1, image_size, image_size), float32 in [0, 1], and masks of the opacities,
        (n, image_size, image_size), bool.
    """
    n, sitters = image_size, sitters or Sitters.alone(rngs)
    body_parts, looks = normals(sitters.bodies, ANATOMY), uniforms(rngs, APPEARANCE)
    lung_shapes = normals(sitters.bodies, LUNG, count=2)
    spots = uniforms(rngs, OPACITY, MAX_OPACITIES)
    if sitters.several:
        moved = normals(rngs, POSITION)
        body_parts |= {name: body_parts[name] + moved[name] for name in POSITION}

    y, x = grid(n)
    zoom = np.reciprocal(body_parts["scale"])
    x = (x - body_parts["shift_x"] + body_parts["tilt"] * y) * zoom
    y = (y - body_parts["shift_y"]) * zoom
    x = x / (1 + np.float32(BREADTH_OF_MEN) * sitters.male)

    lungs = np.zeros((len(rngs), n, n), np.float32)
    for i, side in enumerate(SIDES):
        lung = {name: values[:, i : i + 1] for name, values in lung_shapes.items()}
        centre, radii = (lung["y"], side * 0.42), (lung["height"], lung["width"])
        np.maximum(lungs, blob(y, x, centre, radii, side * 0.12, 0.06), out=lungs)
    heart_radii = body_parts["heart_height"], body_parts["heart_width"]
    lungs *= 1 - 0.9 * blob(y, x, (0.28, body_parts["heart_x"]), heart_radii, 0.5, 0.08)

    body = blob(y, x, (0.15, 0), (1.25, 0.98), 0, 0.06)
    films = (0.74 + 0.04 * texture(rngs, n, 10)) * body - 0.52 * lungs
    ribs = np.sin(body_parts["rib_frequency"] * (y + 0.35 * x * x) + looks["rib_phase"])
    films += (0.05 * ribs * np.maximum(body - 0.2, 0)) * (1 - np.float32(RIBS_BY_AGE) * sitters.age)
    films += 0.10 * blob(y, x, (0, 0), (1.2, 0.07), 0, 0.3)  # spine
    vessels_and_haze = 0.03 * grain(rngs, n, 1.2) + looks["haze"] * texture(rngs, n, 8)
    films += vessels_and_haze * lungs

    masks = np.zeros(films.shape, bool)
    for i in range(MAX_OPACITIES):
        has_spot = (labels == 1) & (looks["num_opacities"][:, 0, 0] >= i + 1)
        ill = np.flatnonzero(has_spot)
        if not ill.size:
            break
        spot = {name: values[ill, i : i + 1] for name, values in spots.items()}
        spot_centre = spot["y"], np.copysign(spot["x"], spot["side"])
        spot_radii = spot["height"], spot["width"]
        opacity = blob(y[ill], x[ill], spot_centre, spot_radii, spot["angle"], 0.25)
        clouds = texture([rngs[int(j)] for j in ill], n, 16)
        opacity *= np.clip(0.8 + 0.35 * clouds, 0, 1.5) * lungs[ill]
        films[ill] += signal * spot["strength"] * opacity
        masks[ill] |= opacity > 0.45
    return np.clip(films, 0, 1)[:, None], masks
