"""Pictures come out as the pixels that were written, whatever their format, or not at all."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fedsim.data import pictures
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


def test_the_number_of_threads_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [saved(tmp_path / f"{n}.png", np.roll(COLOUR, n, axis=1)) for n in range(30)]
    options: dict[str, Any] = {"image_size": 16, "num_channels": 3, "fit": "pad"}
    together = read(paths, **options)
    monkeypatch.setattr(pictures, "NUM_THREADS", 1)
    np.testing.assert_array_equal(read(paths, **options), together)


def test_the_first_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{n}.png", GREY) for n in range(20)]
    for place in (7, 8):
        paths[place].write_bytes(b"")
    with pytest.raises(DataError, match=r"7\.png"):
        read(paths, image_size=20, num_channels=1, fit="pad")


def test_the_filters_of_warnings_are_left_as_they_were(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{n}.png", GREY) for n in range(100)]
    before = list(warnings.filters)
    read(paths, image_size=20, num_channels=1, fit="pad")
    assert list(warnings.filters) == before


def test_grey_becomes_colour_and_colour_grey(tmp_path: Path) -> None:
    found = one(saved(tmp_path / "g.png", GREY), num_channels=3)
    np.testing.assert_array_equal(found, np.stack([GREY] * 3))
    weights = np.array([0.299, 0.587, 0.114])  # ITU-R 601
    np.testing.assert_allclose(one(saved(tmp_path / "c.png", COLOUR))[0], COLOUR @ weights, atol=1)


def test_16_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    wide = RNG.integers(0, 2**16, (20, 20), np.uint16)
    found = one(saved(tmp_path / "w.png", wide))
    np.testing.assert_array_equal(found[0], np.floor(wide / 257 + 0.5))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (RNG.random((20, 20), np.float32), "holds floats; save it with 8 or 16 bits"),
        (np.full((20, 20), 65536, np.int32), "holds values from 65536 to 65536, expected 0 to 655"),
        (np.full((20, 20), -1000, np.int32), "holds values from -1000 to -1000"),
    ],
)
def test_values_of_no_picture_are_refused_rather_than_clipped(
    tmp_path: Path, pixels: NDArray[Any], message: str
) -> None:
    with pytest.raises(DataError, match=rf"w\.tif: .* {message}"):
        one(saved(tmp_path / "w.tif", pixels))


def test_16_bits_in_32_are_scaled_too(tmp_path: Path) -> None:
    wide = RNG.integers(0, 2**16, (20, 20), np.int32)
    found = one(saved(tmp_path / "w.tif", wide))
    np.testing.assert_array_equal(found[0], np.floor(wide / 257 + 0.5))


def test_of_several_frames_the_first_is_taken(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.full((20, 20), n, np.uint8)) for n in (40, 200))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert (one(tmp_path / "a.gif") == 40).all()


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


@pytest.mark.parametrize("width", [1, 2, 25])
def test_the_narrowest_picture_is_still_seen_between_its_bars(tmp_path: Path, width: int) -> None:
    found = one(saved(tmp_path / "n.png", np.full((1000, width), 200, np.uint8)), fit="pad")[0]
    assert (found.max(axis=0) > 0).sum() == 1
    assert (found[:, 9] == 200).all()


def test_bars_and_cuts_are_centred(tmp_path: Path) -> None:
    path = saved(tmp_path / "wide.png", np.tile(np.arange(40, dtype=np.uint8), (20, 1)))
    padded = one(path, fit="pad", image_size=40)[0]
    np.testing.assert_array_equal(padded[10:30], np.tile(np.arange(40), (20, 1)))
    assert padded[:10].max() == padded[30:].max() == 0
    np.testing.assert_array_equal(one(path, fit="crop")[0], np.tile(np.arange(10, 30), (20, 1)))


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


@pytest.mark.parametrize("suffix", [".eps", ".ppm", ".ico"])
def test_other_formats_are_refused_whatever_they_are_called(tmp_path: Path, suffix: str) -> None:
    saved(tmp_path / f"other{suffix}", COLOUR).rename(tmp_path / "other.png")
    with pytest.raises(DataError, match=r"other\.png: is no picture .* expected PNG, JPEG"):
        one(tmp_path / "other.png")


def test_colours_that_cannot_be_converted_are_refused_by_name(tmp_path: Path) -> None:
    Image.new("LAB", (20, 20)).save(tmp_path / "lab.tif")
    with pytest.raises(DataError, match=r"lab\.tif: .* conversion from LAB"):
        one(tmp_path / "lab.tif")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".bmp"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_damage_gives_a_picture_or_a_data_error(
    tmp_path: Path, suffix: str, place: float, value: int, cut: bool
) -> None:
    whole = tmp_path / f"whole{suffix}"
    content = bytearray((whole if whole.exists() else saved(whole, COLOUR)).read_bytes())
    at = int(place * len(content))
    content[at:] = b"" if cut else bytes([value]) + content[at + 1 :]
    damaged = tmp_path / f"damaged{suffix}"
    damaged.write_bytes(content)
    try:
        found = one(damaged)
    except DataError as error:
        found, message = None, str(error)
    assert str(damaged) in message if found is None else found.shape == (1, 20, 20)
