"""Normalisation in closed form, image by image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from fedsim.data.normalisation import BUILTIN, Normalisation, PerImage, Standard, Unit

Pixels = NDArray[np.uint8]
CASES: tuple[Normalisation, ...] = (
    Unit(),
    Standard(),
    Standard(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0)),
    PerImage(),
)
rules = pytest.mark.parametrize("rule", CASES, ids=lambda rule: rule.kind)


@pytest.fixture
def images() -> Pixels:
    return np.random.default_rng(0).integers(256, size=(5, 3, 8, 7), dtype=np.uint8)


def test_every_rule_is_tested() -> None:
    assert {type(rule) for rule in CASES} == set(BUILTIN)


@rules
def test_shape_stays_and_single_precision_comes(rule: Normalisation, images: Pixels) -> None:
    for some in (images, images[:0]):
        result = rule.apply(some)
        assert result.shape == some.shape
        assert result.dtype == np.float32


@rules
def test_an_image_is_normalised_by_itself(rule: Normalisation, images: Pixels) -> None:
    together = rule.apply(images)
    for i in range(len(images)):
        np.testing.assert_array_equal(rule.apply(images[i : i + 1])[0], together[i])


@rules
def test_pixels_are_left_as_they_were(rule: Normalisation, images: Pixels) -> None:
    before = images.copy()
    rule.apply(images)[:] = 0
    np.testing.assert_array_equal(images, before)


def test_unit_is_a_255th() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    expected = (np.arange(256) / 255).astype(np.float32).reshape(grey.shape)
    np.testing.assert_array_equal(Unit().apply(grey), expected)


def test_standard_is_affine_per_channel(images: Pixels) -> None:
    mean, std = (0.1, 0.2, 0.3), (1.0, 2.0, 4.0)
    result = Standard(mean=mean, std=std).apply(images)
    for channel in range(3):
        expected = (images[:, channel] / 255 - mean[channel]) / std[channel]
        np.testing.assert_allclose(result[:, channel], expected, rtol=1e-6, atol=1e-6)


def test_one_number_serves_all_channels(images: Pixels) -> None:
    one = Standard(mean=(0.4,), std=(0.2,)).apply(images)
    three = Standard(mean=(0.4,) * 3, std=(0.2,) * 3).apply(images)
    mixed = Standard(mean=(0.4,), std=(0.2,) * 3).apply(images)
    np.testing.assert_array_equal(one, three)
    np.testing.assert_array_equal(mixed, three)


def test_standard_with_mean_0_and_spread_1_is_unit(images: Pixels) -> None:
    trivial = Standard(mean=(0.0,), std=(1.0,)).apply(images)
    np.testing.assert_array_equal(trivial, Unit().apply(images))


def test_per_image_has_mean_0_and_spread_1(images: Pixels) -> None:
    result = PerImage().apply(images).astype(np.float64)
    np.testing.assert_allclose(result.mean(axis=(2, 3)), 0, atol=1e-7)
    np.testing.assert_allclose(result.std(axis=(2, 3)), 1, rtol=1e-6)


def test_per_image_ignores_gain_and_offset() -> None:
    dark = np.random.default_rng(1).integers(60, size=(2, 3, 9, 9), dtype=np.uint8)
    bright = (3 * dark + 70).astype(np.uint8)
    np.testing.assert_allclose(PerImage().apply(bright), PerImage().apply(dark), atol=1e-6)


def test_per_image_in_closed_form() -> None:
    image = np.array([[[[0, 10], [20, 30]]]], np.uint8)
    expected = np.array([[[[-3, -1], [1, 3]]]]) / np.sqrt(5)
    np.testing.assert_allclose(PerImage().apply(image), expected, rtol=1e-6)


@pytest.mark.parametrize("grey", [0, 1, 77, 255])
def test_a_constant_channel_becomes_zero(images: Pixels, grey: int) -> None:
    images = np.repeat(np.repeat(images, 5, axis=2), 5, axis=3)
    images[1, 2] = grey
    result = PerImage().apply(images)
    assert not result[1, 2].any()
    assert result[1, :2].std() == pytest.approx(1, rel=1e-3)
    assert np.isfinite(result).all()


@pytest.mark.parametrize("wrong", [{"mean": ()}, {"std": ()}, {"std": (0.0,)}, {"std": (-1.0,)}])
def test_what_would_divide_by_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Standard(**wrong)
