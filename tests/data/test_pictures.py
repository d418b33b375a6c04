"""Pictures come out as the pixels that were written, whatever their format, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fedsim.data.pictures import read
from fedsim.errors import DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 20), np.uint8)
COLOUR = RNG.integers(0, 256, (20, 20, 3), np.uint8)


def one(path: Path, **changes: Any) -> NDArray[np.uint8]:
    options: dict[str, Any] = {"image_size": 20, "num_channels": 1, "fit": "stretch"}
    return read([path], **{**options, **changes})[0]


def saved(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".PNG"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, suffix: str) -> None:
    lossless = {"lossless": True} if suffix == ".webp" else {}
    colour = saved(tmp_path / f"c{suffix}", COLOUR, **lossless)
    np.testing.assert_array_equal(one(colour, num_channels=3), COLOUR.transpose(2, 0, 1))
    if suffix != ".webp":
        np.testing.assert_array_equal(one(saved(tmp_path / f"g{suffix}", GREY)), GREY[None])


def test_many_come_in_order(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{n}.png", np.full((20, 20), n, np.uint8)) for n in range(40)]
    found = read(paths, image_size=20, num_channels=1, fit="pad")
    assert found.shape == (40, 1, 20, 20)
    np.testing.assert_array_equal(found[:, 0, 3, 3], np.arange(40))
    assert read([], image_size=20, num_channels=3, fit="pad").shape == (0, 3, 20, 20)


def test_grey_becomes_colour_and_colour_grey(tmp_path: Path) -> None:
    found = one(saved(tmp_path / "g.png", GREY), num_channels=3)
    np.testing.assert_array_equal(found, np.stack([GREY] * 3))
    weights = np.array([0.299, 0.587, 0.114])  # ITU-R 601
    np.testing.assert_allclose(one(saved(tmp_path / "c.png", COLOUR))[0], COLOUR @ weights, atol=1)


def test_16_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    wide = RNG.integers(0, 2**16, (20, 20), np.uint16)
    found = one(saved(tmp_path / "w.png", wide))
    np.testing.assert_array_equal(found[0], np.floor(wide / 257 + 0.5))


def test_transparent_parts_are_black(tmp_path: Path) -> None:
    alpha = np.where(np.arange(20) < 10, 255, 0).astype(np.uint8)
    pixels = np.dstack([COLOUR, np.tile(alpha, (20, 1))])
    found = one(saved(tmp_path / "a.png", pixels), num_channels=3)
    np.testing.assert_array_equal(found[:, :, :10], COLOUR.transpose(2, 0, 1)[:, :, :10])
    assert (found[:, :, 10:] == 0).all()


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    flat = np.zeros((20, 20, 3), np.uint8)
    flat[:10] = (250, 10, 90)
    Image.fromarray(flat).quantize(4).save(tmp_path / "p.gif")
    found = one(tmp_path / "p.gif", num_channels=3)
    np.testing.assert_allclose(found, flat.transpose(2, 0, 1), atol=4)


def test_the_orientation_of_the_camera_is_respected(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(GREY).save(tmp_path / "o.png", exif=exif)
    np.testing.assert_array_equal(one(tmp_path / "o.png")[0], np.rot90(GREY, -1))


def test_a_picture_becomes_square_in_three_ways(tmp_path: Path) -> None:
    wide = np.full((20, 40), 200, np.uint8)
    wide[:, :10] = wide[:, 30:] = 100
    path = saved(tmp_path / "wide.png", wide)
    padded = one(path, fit="pad")[0]
    assert (padded[:5] == 0).all()
    assert (padded[15:] == 0).all()
    assert (padded[7:13, 8:12] == 200).all()
    assert (one(path, fit="crop")[0] == 200).all()
    stretched = one(path, fit="stretch")[0]
    assert (stretched[:, 8:12] == 200).all()
    assert (stretched[:, :3] == 100).all()
    assert stretched.min() >= 99


def test_shrinking_averages(tmp_path: Path) -> None:
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    found = one(saved(tmp_path / "checks.png", checks), image_size=16)
    assert abs(float(found.mean()) - 127.5) < 2
    assert found.std() < 12


def test_what_is_no_picture_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    whole = saved(tmp_path / "whole.png", COLOUR).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("text", "cut", "empty", "missing"):
        with pytest.raises(DataError, match=f"{name}.png"):
            one(tmp_path / f"{name}.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(DataError, match=r"whole\.png: is too large a picture"):
        one(tmp_path / "whole.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="too large"):
        one(tmp_path / "whole.png")
