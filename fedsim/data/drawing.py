"""Tools to draw many images at once: random parameters, soft ellipses, smooth textures, blur.

Every function works on a batch and treats each image by itself, in arithmetic of fixed shape, so
that an image comes out bit for bit the same whatever else is drawn with it. Positions and lengths
are in units of half the image: the image spans [-1, 1] in y (down) and x (right).

>>> rngs = [np.random.default_rng(index) for index in range(3)]
>>> radius = uniforms(rngs, {"radius": (0.2, 0.5)})["radius"]
>>> y, x = grid(16)
>>> blob(y, x, (0, 0), (radius, radius), 0, 0.1).shape
(3, 16, 16)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import ceil, gcd, sqrt

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Number = float | Floats
"""A number for all images, or an array that broadcasts against them."""

Ranges = Mapping[str, tuple[float, float]]
"""Parameter -> (mean, standard deviation) of a normal, or (low, high) of a uniform distribution."""


def uniforms(rngs: Sequence[Generator], ranges: Ranges, count: int = 1) -> dict[str, Floats]:
    """Draw each parameter uniformly from its (low, high), `count` times per image.

    Returns:
        parameter -> values, (image, count, 1), float32.
    """
    unit = np.stack([rng.random((len(ranges), count), dtype=np.float32) for rng in rngs])
    return {
        name: (low + (high - low) * unit[:, i])[:, :, None]
        for i, (name, (low, high)) in enumerate(ranges.items())
    }


def normals(rngs: Sequence[Generator], ranges: Ranges, count: int = 1) -> dict[str, Floats]:
    """Draw each parameter from the normal of its (mean, deviation), `count` times per image.

    Returns:
        parameter -> values, (image, count, 1), float32.
    """
    unit = white_noise(rngs, (len(ranges), count))
    return {
        name: (mean + deviation * unit[:, i])[:, :, None]
        for i, (name, (mean, deviation)) in enumerate(ranges.items())
    }


def white_noise(rngs: Sequence[Generator], shape: tuple[int, ...]) -> Floats:
    """Draw standard normal noise, (image, *shape), float32, each image from its own generator."""
    noise = np.empty((len(rngs), *shape), np.float32)
    for rng, out in zip(rngs, noise, strict=True):
        rng.standard_normal(dtype=np.float32, out=out)
    return noise


def grid(size: int) -> tuple[Floats, Floats]:
    """Return the coordinates of the pixel centres: y, (size, 1), and x, (1, size), float32."""
    centres = pixel_centres(np.arange(size), size)
    return centres[:, None], centres[None, :]


def pixel_centres(pixels: NDArray[np.int64], size: int) -> Floats:
    """Return where the pixels with these numbers lie in [-1, 1]; same shape, float32."""
    return ((pixels + 0.5) * (2 / size) - 1).astype(np.float32)


def blob(
    y: Floats,
    x: Floats,
    centre: tuple[Number, Number],
    radii: tuple[Number, Number],
    angle: Number,
    softness: float,
) -> Floats:
    """Return an ellipse with a soft edge: 1 inside, 0.5 on the rim, 0 outside.

    Args:
        y: vertical coordinates.
        x: horizontal coordinates.
        centre: of the ellipse, (y, x).
        radii: (along y, along x) before the rotation.
        angle: of the rotation, in radians, from x towards y.
        softness: width of the edge as a fraction of the radius.

    Returns:
        the values, in the common shape of all arguments, float32.
    """
    down, right = y - centre[0], x - centre[1]
    if isinstance(angle, int | float) and angle == 0:
        along, across = down / radii[0], right / radii[1]
    else:
        cos, sin = np.cos(np.float32(angle)), np.sin(np.float32(angle))
        along = down * (cos / radii[0]) - right * (sin / radii[0])
        across = right * (cos / radii[1]) + down * (sin / radii[1])
    along *= along
    across *= across
    beyond: Floats = np.sqrt(along + across)
    beyond -= 1
    beyond *= 1 / softness
    np.minimum(beyond, 30, out=beyond)
    np.exp(beyond, out=beyond)
    beyond += 1
    return np.reciprocal(beyond, out=beyond)


@lru_cache(maxsize=64)
def texture_basis(size: int, fineness: int) -> Floats:
    """Return the matrix that makes a smooth random texture from a small square of white noise.

    `basis @ noise @ basis.T` is a stationary Gaussian field, as if full-size noise had been
    filtered with a Gaussian of standard deviation size / fineness. Its expected variance about its
    own mean is 1.

    Args:
        size: of the image, in pixels.
        fineness: of the texture, 2 to 16; about the number of bumps along a side.

    Returns:
        (size, knot), float32, with at most 17 knots; the noise is to be (knot, knot).
    """
    width = size / fineness
    knots = np.arange(-3 * width, size - 1 + 4 * width, 1.5 * width)
    basis = np.exp(-0.5 * ((np.arange(size)[:, None] - knots) / width) ** 2)
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    variance_of_mean = np.sum(basis.mean(axis=0) ** 2) ** 2
    basis /= sqrt(sqrt(1 - variance_of_mean))
    return basis.astype(np.float32)


def texture(rngs: Sequence[Generator], size: int, fineness: int) -> Floats:
    """Draw one smooth random texture per image, (image, size, size), float32.

    The product is made in strips of at most 16 rows. A matrix library does so little work in one
    thread, so the result does not depend on the number of threads.
    """
    basis = texture_basis(size, fineness)
    knots = basis.shape[1]
    strips = basis.reshape(-1, gcd(size, 16), knots)
    rows = strips @ (white_noise(rngs, (knots, knots)) @ basis.T)[:, None]
    return np.asarray(rows.reshape(-1, size, size), np.float32)


def grain(rngs: Sequence[Generator], size: int, width: float) -> Floats:
    """Draw one fine random texture per image: white noise, blurred, with variance 1.

    Args:
        rngs: one generator per image.
        size: of the images, in pixels.
        width: standard deviation of the blur in pixels.

    Returns:
        (image, size, size), float32.
    """
    weights = gaussian_weights(width)
    sum_of_squares = 2 * np.sum(weights**2) - weights[0] ** 2
    blurred = blur(white_noise(rngs, (size, size)), width)
    blurred *= np.float32(1 / sum_of_squares)
    return blurred


def gaussian_weights(width: float) -> Floats:
    """Return the weights of a Gaussian blur at 0, 1, ... pixels from its centre, float32."""
    weights = np.exp(-0.5 * (np.arange(ceil(3 * width) + 1) / width) ** 2)
    weights /= 2 * weights.sum() - weights[0]
    return weights.astype(np.float32)


def blur(images: Floats, width: float) -> Floats:
    """Blur with a Gaussian; beyond the border, the image is mirrored.

    Args:
        images: (..., height, width), float32.
        width: standard deviation of the Gaussian in pixels, above 0.

    Returns:
        the blurred images, same shape, float32.
    """
    weights = gaussian_weights(width)
    reach = len(weights) - 1
    for axis in (-2, -1):
        size = images.shape[axis]
        padding = [(0, 0)] * images.ndim
        padding[axis] = (reach, reach)
        padded = np.moveaxis(np.pad(images, padding, mode="symmetric"), axis, 0)
        blurred = padded[reach : reach + size] * weights[0]
        for i in range(1, reach + 1):
            pair = padded[reach - i : reach - i + size] + padded[reach + i : reach + i + size]
            pair *= weights[i]
            blurred += pair
        images = np.moveaxis(blurred, 0, axis)
    return np.ascontiguousarray(images)
