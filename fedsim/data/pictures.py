"""Reading picture files: PNG, JPEG and whatever else Pillow reads, as square 8-bit arrays."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fedsim.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
Fit = Literal["pad", "crop", "stretch"]
NUM_THREADS = 8
"""Decoding leaves Python's lock, and waiting for a disk costs nothing."""


def read(
    paths: Sequence[Path], *, image_size: int, num_channels: int, fit: Fit
) -> NDArray[np.uint8]:
    """Return pictures, (n, channel, image_size, image_size), in the order of the paths.

    Pictures stand as their EXIF orientation says; transparent parts are black; 16 bits per pixel
    are scaled to 8; of several frames the first is taken.

    Args:
        paths: files.
        image_size: height and width in pixels.
        num_channels: 1 (grey) or 3 (red, green, blue).
        fit: how a picture that is not square becomes so: black bars, its centre cut out, stretched.

    Raises:
        DataError: naming the first file that cannot be read.
    """
    result = np.empty((len(paths), num_channels, image_size, image_size), np.uint8)

    def fill(place: int) -> None:
        result[place] = _read(paths[place], image_size, num_channels, fit)

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for done in [pool.submit(fill, place) for place in range(len(paths))]:
            done.result()
    return result


def _read(path: Path, image_size: int, num_channels: int, fit: Fit) -> NDArray[np.uint8]:
    """Return one picture, (channel, image_size, image_size)."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                picture = ImageOps.exif_transpose(opened)
                picture.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: is too large a picture: {error}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: is no picture that can be read") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as a picture: {error}") from error
    square = _square(_eight_bits(picture, num_channels), image_size, fit)
    pixels = np.asarray(square, np.uint8)
    return pixels[None] if num_channels == 1 else pixels.transpose(2, 0, 1)


def _eight_bits(picture: Image, num_channels: int) -> Image:
    """Return the picture in grey or colour, 8 bits per channel."""
    from PIL import Image

    mode = "L" if num_channels == 1 else "RGB"
    if picture.mode.startswith("I"):  # 16-bit grey: converting would clip at 255
        wide = np.asarray(picture).astype(np.float64)
        picture = Image.fromarray((wide / 257 + 0.5).clip(0, 255).astype(np.uint8))
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    return picture.convert(mode)


def _square(picture: Image, image_size: int, fit: Fit) -> Image:
    """Return the picture at its size, averaged over pixels where it shrinks.

    Bilinear, for sharper filters ring at edges and so draw what no scanner saw.
    """
    from PIL import Image, ImageOps

    size, smooth = (image_size, image_size), Image.Resampling.BILINEAR
    if picture.size == size:
        return picture
    if fit == "pad":
        return ImageOps.pad(picture, size, smooth, color=0)
    if fit == "crop":
        return ImageOps.fit(picture, size, smooth)
    return picture.resize(size, smooth)
