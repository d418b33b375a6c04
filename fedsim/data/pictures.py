"""Reading picture files: PNG, JPEG and whatever else Pillow reads, as square 8-bit arrays."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fedsim.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image, Resampling

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
"""What is decoded, whatever a file is called: Pillow would start other programs for some."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
OF_SCANNERS = (".dcm", ".dicom", ".ima", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".svs")
"""What medical images are often called that are none of these formats."""
HOW_TO_CONVERT = (
    "fedsim reads no DICOM, NIfTI or other format of scanners: save what is to be seen (the slice, "
    "the window) as PNG with 8 or 16 bits and without names of patients, for example with pydicom "
    "or nibabel and Pillow"
)
Fit = Literal["pad", "crop", "stretch"]
MAX_16_BITS = 2**16 - 1
NUM_THREADS = 8
"""Decoding leaves Python's lock, and waiting for a disk costs nothing."""


def read(
    paths: Sequence[Path], *, image_size: int, num_channels: int, fit: Fit
) -> NDArray[np.uint8]:
    """Return pictures, (n, channel, image_size, image_size), in the order of the paths.

    Pictures stand as their EXIF orientation says; transparent parts are black; grey of 16 bits is
    divided by 257, so that white stays white; of several frames the first is taken.

    Args:
        paths: files.
        image_size: height and width in pixels.
        num_channels: 1 (grey) or 3 (red, green, blue).
        fit: how a picture that is not square becomes so: black bars, its centre cut out, stretched.

    Raises:
        DataError: naming the first file that cannot be read.
    """
    from PIL import Image

    result = np.empty((len(paths), num_channels, image_size, image_size), np.uint8)

    def fill(place: int) -> None:
        result[place] = _read(paths[place], image_size, num_channels, fit)

    # Filters of warnings belong to the process: set here once, for threads would mix them up.
    with warnings.catch_warnings(), ThreadPoolExecutor(NUM_THREADS) as pool:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        deque(pool.map(fill, range(len(paths))), maxlen=0)
    return result


def size(path: Path) -> tuple[int, int]:
    """Return width and height of a picture in pixels, from its header alone.

    Raises:
        DataError: if it cannot be read.
    """
    from PIL import Image

    with _decoding(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=FORMATS) as opened:
            return opened.size


def of_scanner(path: str) -> bool:
    """Return whether a file is called as a format of scanners that is not read.

    >>> of_scanner("head.nii.gz"), of_scanner("chest.PNG")
    (True, False)
    """
    return path.lower().endswith(OF_SCANNERS)


def _read(path: Path, image_size: int, num_channels: int, fit: Fit) -> NDArray[np.uint8]:
    """Return one picture, (channel, image_size, image_size)."""
    with _decoding(path):
        picture = _opened(path, num_channels)
    pixels = np.asarray(_square(picture, image_size, fit), np.uint8)
    return pixels[None] if num_channels == 1 else pixels.transpose(2, 0, 1)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn what decoders say of a file into a DataError."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{path}: is too large a picture: more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it "
            "smaller, or cut out what matters"
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path}: is no picture that can be read; expected {', '.join(FORMATS)}{_hint(path)}"
        ) from error
    except Exception as error:  # whatever decoders meet in a damaged file
        raise DataError(f"{path}: cannot be read as a picture: {_reason(error)}") from error


def _opened(path: Path, num_channels: int) -> Image:
    """Return a picture as it stands, in grey or colour.

    Raises:
        Exception: of many kinds, if it cannot be read.
    """
    from PIL import Image, ImageOps

    if not path.is_file() and path.exists():
        raise ValueError("it is no file")
    with Image.open(path, formats=FORMATS) as opened:
        ImageOps.exif_transpose(opened, in_place=True)
        return _eight_bits(opened, num_channels)


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said[:200] or type(error).__name__


def _hint(path: Path) -> str:
    """Return what to do with a file of a format that scanners write; nothing for others."""
    with path.open("rb") as file:
        start = file.read(352)
    known = start[128:132] == b"DICM" or start[344:347] in (b"n+1", b"ni1")
    return f". {HOW_TO_CONVERT}" if known or of_scanner(path.name) else ""


def _eight_bits(picture: Image, num_channels: int) -> Image:
    """Return the picture in grey or colour, 8 bits per channel.

    Raises:
        ValueError: if its values are not those of 8 or 16 bits.
    """
    from PIL import Image

    mode = "L" if num_channels == 1 else "RGB"
    if picture.mode == "F":
        raise ValueError("holds floats; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):  # 16-bit grey: converting would clip at 255
        wide = np.asarray(picture)
        if wide.min() < 0 or wide.max() > MAX_16_BITS:
            raise ValueError(
                f"holds values from {wide.min()} to {wide.max()}, expected 0 to {MAX_16_BITS}"
            )
        picture = Image.fromarray((wide / 257 + 0.5).astype(np.uint8))
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
        return _padded(picture, image_size, smooth)
    if fit == "crop":
        return ImageOps.fit(picture, size, smooth)
    return picture.resize(size, smooth)


def _padded(picture: Image, image_size: int, smooth: Resampling) -> Image:
    """Return the picture between black bars; the narrowest still shows as one row of pixels."""
    from PIL import Image

    longest = max(picture.size)
    width, height = (max(1, round(side * image_size / longest)) for side in picture.size)
    square = Image.new(picture.mode, (image_size, image_size))
    corner = ((image_size - width) // 2, (image_size - height) // 2)
    square.paste(picture.resize((width, height), smooth), corner)
    return square
