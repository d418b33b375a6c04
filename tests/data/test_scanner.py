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


def test_severity_zero_changes_nothing(images):
    result = Scanner(severity=0).apply(images, 3, "A", INDICES, STREAMS)
    np.testing.assert_array_equal(result, images)
    assert not np.shares_memory(result, images)


@pytest.mark.parametrize("site", range(4))
@pytest.mark.parametrize("images_at_once", [1, 3, 7])
def test_an_image_does_not_depend_on_what_is_taken_with_it(images, site, images_at_once):
    scanner = Scanner(severity=1.5)
    expected = scanner.apply(images, site, "A", INDICES, STREAMS)
    order = np.random.default_rng(0).permutation(len(images))
    for start in range(0, len(order), images_at_once):
        block = order[start : start + images_at_once]
        taken = scanner.apply(images[block], site, "A", INDICES[block], STREAMS)
        np.testing.assert_array_equal(taken, expected[block])


def test_input_is_left_alone_and_the_kind_of_array_is_kept(images):
    before = images.copy()
    result = Scanner(severity="severe").apply(images, 0, "A", INDICES, STREAMS)
    np.testing.assert_array_equal(images, before)
    assert (result.shape, result.dtype) == (images.shape, np.uint8)
    assert Scanner().apply(images[:0], 0, "A", INDICES[:0], STREAMS).shape == (0, *images.shape[1:])


def test_presets_shift_more_and_more(images):
    def shift(severity):
        scanner = Scanner(severity=severity)
        results = [scanner.apply(images, site, "A", INDICES, STREAMS) for site in range(10)]
        return np.mean([np.abs(r.astype(int) - images).mean() for r in results])

    shifts = [shift(severity) for severity in (0, "mild", "moderate", "severe", 2)]
    assert shifts[0] == 0
    assert (np.diff(shifts) > 2).all()


def test_a_preset_is_its_number(images):
    for preset, number in (("mild", 0.2), ("moderate", 0.4), ("severe", 0.7)):
        np.testing.assert_array_equal(
            Scanner(severity=preset).apply(images, 1, "A", INDICES, STREAMS),
            Scanner(severity=number).apply(images, 1, "A", INDICES, STREAMS),
        )


def test_sites_and_seeds_have_looks_of_their_own():
    scanner = Scanner(severity="severe")
    look = scanner.describe(0, "A", STREAMS)
    assert look == scanner.describe(0, "A", STREAMS)
    assert look != scanner.describe(1, "A", STREAMS)
    assert look != scanner.describe(0, "A", Streams(seed=8))


def test_parameters_grow_in_proportion_to_the_severity():
    weak, strong = (Scanner(severity=s).describe(2, "A", STREAMS) for s in (0.5, 1.0))
    for name in ("offset", "blur", "noise", "shading_y", "shading_x"):
        assert strong[name] == pytest.approx(2 * weak[name])
    for name in ("gamma", "gain", "cast"):
        np.testing.assert_allclose(np.log(strong[name]), 2 * np.log(weak[name]))


def test_a_named_site_has_the_values_it_is_given(images):
    look = Look(gamma=2.0, gain=0.5, offset=0.1, blur=0, noise=0, shading_y=0, shading_x=0)
    look = look.model_copy(update={"cast": (1.0, 1.0, 1.0), "marker": False})
    scanner = Scanner(severity="severe", sites={"Basel": look})
    assert scanner.named_sites() == ("Basel",)
    taken = scanner.apply(images, 1, "Basel", INDICES, STREAMS)
    expected = np.clip((images / 255) ** 2 * 0.5 + 0.1, 0, 1) * 255
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
