"""Scanners: one fixed look per site, own noise per image, a shift that grows with severity."""

import numpy as np
import pytest
from pydantic import ValidationError

from fedsim.data.scanner import Look, Scanner
from fedsim.data.synthetic import Synthetic
from fedsim.seeds import Streams

STREAMS = Streams(seed=7)
INDICES = np.arange(100, 120)


@pytest.fixture(params=["chest", "fundus"])
def images(request):
    source = Synthetic(anatomy=request.param, image_size=33)
    drawn, _ = source.draw(STREAMS, INDICES, INDICES % 2)
    return (drawn * 255).astype(np.uint8)


def test_presets_shift_more_and_more(images):
    def shift(severity):
        scanner = Scanner(severity=severity)
        results = [scanner.apply(images, site, "A", INDICES, STREAMS) for site in range(10)]
        return np.mean([np.abs(r.astype(int) - images).mean() for r in results])

    shifts = [shift(severity) for severity in (0, "mild", "moderate", "severe", 2)]
    assert shifts[0] == 0
    assert (np.diff(shifts) > 2).all()


def test_parameters_grow_in_proportion_to_the_severity():
    weak, strong = (Scanner(severity=s).describe(2, "A", STREAMS) for s in (0.5, 1.0))
    for name in ("offset", "blur", "noise", "shading_y", "shading_x"):
        assert strong[name] == pytest.approx(2 * weak[name])
    for name in ("gamma", "gain", "cast"):
        np.testing.assert_allclose(np.log(strong[name]), 2 * np.log(weak[name]))


def test_a_named_site_has_the_values_it_is_given(images):
    look = Look(
        gamma=2,
        gain=0.5,
        offset=0.1,
        blur=0,
        noise=0,
        shading_y=0.3,
        shading_x=-0.2,
        cast=(1.2, 1, 0.7),
        marker=False,
    )
    scanner = Scanner(severity="severe", sites={"Basel": look})
    assert scanner.named_sites() == ("Basel",)
    taken = scanner.apply(images, 1, "Basel", INDICES, STREAMS)
    centres = (2 * np.arange(33) - 32) / 33
    shading = np.exp(0.3 * centres)[:, None] / np.exp(0.2 * centres)
    cast = np.array([1.2, 1, 0.7] if images.shape[1] == 3 else [1])[:, None, None]
    expected = np.minimum(((images / 255) ** 2 / 2 + 0.1) * shading * cast, 1) * 255
    np.testing.assert_allclose(taken, expected, atol=0.51)
    other = Scanner(severity="severe").apply(images, 1, "A", INDICES, STREAMS)
    np.testing.assert_array_equal(scanner.apply(images, 1, "A", INDICES, STREAMS), other)
    still = Scanner(severity=0, sites={"Basel": Look(offset=0.2)})
    assert still.apply(images, 1, "Basel", INDICES, STREAMS).mean() > images.mean() + 20


def test_spreads_say_what_differs():
    only_noise = {f"{part}_spread": 0 for part in ("gamma", "gain", "offset", "shading", "cast")}
    scanner = Scanner(severity=1, blur_max=0, marker_probability=0, noise_max=0.5, **only_noise)
    look = scanner.describe(3, "A", STREAMS)
    assert look.pop("noise") > 0
    assert look == {
        "gamma": 1,
        "gain": 1,
        "offset": 0,
        "blur": 0,
        "shading_y": 0,
        "shading_x": 0,
        "cast": [1, 1, 1],
        "marker": False,
    }


def test_noise_has_the_stated_scale():
    grey = np.full((50, 1, 32, 32), 128, np.uint8)
    for site in range(20):
        scanner = Scanner(severity=0.5)
        look = scanner.describe(site, "A", STREAMS)
        taken = scanner.apply(grey, site, "A", np.arange(50), STREAMS)[:, :, 8:]
        if 40 < taken.mean() < 200:  # no clipping
            pixels = (taken / 255).std(axis=0).mean()
            assert pixels == pytest.approx(np.hypot(look["noise"], 1 / 255 / 12**0.5), rel=0.05)


def test_a_marker_is_burnt_into_the_corner_where_described():
    black = np.zeros((1, 1, 64, 64), np.uint8)
    scanner = Scanner(severity=2)
    markers = [scanner.describe(site, "A", STREAMS)["marker"] for site in range(10)]
    assert all(markers)  # the chance is severity / 2
    taken = scanner.apply(black, 0, "A", np.arange(1), STREAMS)
    assert (taken[0, 0, 4:10, 4:16] == round(0.95 * 255)).all()
    mild = [Scanner(severity="mild").describe(site, "A", STREAMS)["marker"] for site in range(300)]
    assert np.mean(mild) == pytest.approx(0.1, abs=0.06)


@pytest.mark.parametrize("severity", [-0.1, 2.1, "extreme"])
def test_impossible_severities_are_refused(severity):
    with pytest.raises(ValidationError):
        Scanner(severity=severity)
