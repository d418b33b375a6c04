"""MONAI's transforms as scanners: as called by hand, per image or per site."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from fedsim.data.monai_transforms import MonaiTransforms, Name, Transform
from fedsim.data.synthetic import Synthetic
from fedsim.errors import DataError
from fedsim.seeds import Streams

pytestmark = pytest.mark.slow  # MONAI takes seconds to import
STREAMS = Streams(seed=7)
INDICES = np.arange(100, 106)
Images = NDArray[np.uint8]
OPTIONS: dict[str, dict[str, Any]] = {
    "AdjustContrast": {"gamma": 1.5},
    "ClipIntensityPercentiles": {"lower": 5, "upper": 90},
    "KSpaceSpikeNoise": {"loc": [0, 3, 3], "k_intensity": 4.0},
    "SavitzkyGolaySmooth": {"window_length": 5, "order": 1},
    "ScaleIntensityFixedMean": {"factor": 0.5},
    "ScaleIntensityRange": {"a_min": 0.1, "a_max": 0.8, "b_min": 0.0, "b_max": 1.0},
    "ScaleIntensityRangePercentiles": {"lower": 1, "upper": 99, "b_min": 0.0, "b_max": 1.0},
    "ShiftIntensity": {"offset": 0.1},
    "RandCoarseDropout": {"holes": 2, "spatial_size": 4},
    "RandScaleIntensity": {"factors": 0.3},
    "RandScaleIntensityFixedMean": {"factors": 0.3},
    "RandShiftIntensity": {"offsets": 0.2},
    "RandSimulateLowResolution": {"upsample_mode": "bilinear", "zoom_range": [0.5, 0.7]},
    "RandKSpaceSpikeNoise": {"intensity_range": [3.0, 5.0]},
}


@pytest.fixture(params=["chest", "fundus"], scope="module")
def images(request: pytest.FixtureRequest) -> Images:
    source = Synthetic(anatomy=request.param, image_size=32)
    drawn, _ = source.draw(STREAMS, INDICES, INDICES % 2)
    return (drawn * 255).astype(np.uint8)


def one(name: Any, **options: Any) -> MonaiTransforms:
    options = OPTIONS.get(name, {}) | options
    return MonaiTransforms(sites={"A": (Transform(name=name, options=options),)})


@pytest.mark.parametrize("name", get_args(Name))
def test_every_transform_keeps_shape_and_repeats(images: Images, name: str) -> None:
    options = {"prob": 1.0} if name.startswith("Rand") else {}
    rule = one(name, **options)
    taken = rule.apply(images, 0, "A", INDICES, STREAMS)
    assert (taken.shape, taken.dtype) == (images.shape, np.uint8)
    np.testing.assert_array_equal(taken, rule.apply(images, 0, "A", INDICES, STREAMS))
    alone = rule.apply(images[3:4], 0, "A", INDICES[3:4], STREAMS)
    np.testing.assert_array_equal(alone[0], taken[3])
    if name != "ScaleIntensity":  # these images fill the range already, or nearly
        assert (taken != images).any()


def test_it_is_what_monai_does(images: Images) -> None:
    from monai.transforms import AdjustContrast, GaussianSmooth

    rule = MonaiTransforms(
        sites={
            "A": (
                Transform(name="AdjustContrast", options={"gamma": 1.7}),
                Transform(name="GaussianSmooth", options={"sigma": 0.8}),
            )
        }
    )
    taken = rule.apply(images, 0, "A", INDICES, STREAMS)
    for image, found in zip(images, taken, strict=True):
        by_hand = GaussianSmooth(sigma=0.8)(AdjustContrast(gamma=1.7)(image / np.float32(255)))
        np.testing.assert_allclose(found, np.clip(np.asarray(by_hand), 0, 1) * 255, atol=1)


def test_noise_is_anew_for_every_image_and_a_fixed_draw_is_the_sites() -> None:
    grey = np.full((4, 1, 32, 32), 100, np.uint8)
    options = {"prob": 1.0, "std": 0.1}
    for fixed in (False, True):
        step = Transform(name="RandGaussianNoise", options=options, fixed=fixed)
        rule = MonaiTransforms(sites={"A": (step,)})
        taken = rule.apply(grey, 0, "A", np.arange(4), STREAMS)
        assert bool((taken[0] == taken[1]).all()) == fixed
        other = rule.apply(grey, 1, "A", np.arange(4), STREAMS)
        assert (other != taken).any()


def test_the_dial_shifts_more_and_more(images: Images) -> None:
    def shift(severity: Any) -> float:
        rule = MonaiTransforms(severity=severity)
        taken = [rule.apply(images, s, "A", INDICES, STREAMS).astype(int) for s in range(5)]
        return float(np.mean([np.abs(t - images).mean() for t in taken]))

    shifts = [shift(severity) for severity in (0, "mild", "moderate", "severe")]
    assert shifts[0] == 0
    assert (np.diff(shifts) > 1).all()


def test_something_is_left_of_an_image_at_any_site(images: Images) -> None:
    rule = MonaiTransforms(severity=2)
    for site in range(16):
        taken = rule.apply(images[:1], site, "A", INDICES[:1], STREAMS)
        assert np.corrcoef(taken.ravel(), images[:1].ravel())[0, 1] > 0.15


def test_a_site_is_described_by_its_transforms() -> None:
    named = one("GibbsNoise", alpha=0.4)
    assert named.describe(0, "A", STREAMS) == {
        "transforms": [{"name": "GibbsNoise", "options": {"alpha": 0.4}, "fixed": False}]
    }


def test_options_that_monai_does_not_take_are_refused(images: Images) -> None:
    with pytest.raises(DataError, match=r"GibbsNoise does not take \{'alpha': 7\}"):
        one("GibbsNoise", alpha=7).describe(0, "A", STREAMS)  # before any image is there
    one("GibbsNoise", alpha=7).describe(0, "B", STREAMS)
    with pytest.raises(DataError, match="AdjustContrast does not take"):
        one("AdjustContrast", gama=1).apply(images, 0, "A", INDICES, STREAMS)
    with pytest.raises(DataError, match=r"MedianSmooth with .* fails on an image"):
        one("MedianSmooth", radius=[1, 1, 1, 1]).apply(images, 0, "A", INDICES, STREAMS)
    with pytest.raises(ValidationError):
        Transform(name="Rotate90")  # type: ignore[arg-type]


def test_monais_setting_is_left_as_it_was(images: Images) -> None:
    from monai.data import get_track_meta

    before = get_track_meta()
    one("ShiftIntensity").apply(images, 0, "A", INDICES, STREAMS)
    assert get_track_meta() == before
