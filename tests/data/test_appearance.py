"""What every appearance keeps to: its own site, its own image, nothing else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedsim.data.appearance import PRESETS, Appearance
from fedsim.data.appearances import BUILTIN
from fedsim.data.synthetic import Synthetic
from fedsim.plugins import kind_of
from fedsim.seeds import Streams

STREAMS = Streams(seed=7)
INDICES = np.arange(100, 110)
SLOW = {"monai"}  # takes seconds to import

Images = NDArray[np.uint8]
Kind = type[Appearance]

every_kind = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(k, id=kind_of(k), marks=[pytest.mark.slow] if kind_of(k) in SLOW else [])
        for k in BUILTIN
    ],
)


@pytest.fixture(params=["chest", "fundus"])
def images(request: pytest.FixtureRequest) -> Images:
    drawn, _ = Synthetic(anatomy=request.param, image_size=28).draw(STREAMS, INDICES, INDICES % 2)
    return (drawn * 255).astype(np.uint8)


def severe(kind: Kind, **settings: Any) -> Appearance:
    return kind.model_validate({"severity": "severe", **settings})


@every_kind
def test_severity_zero_gives_a_copy(kind: Kind, images: Images) -> None:
    result = kind.model_validate({"severity": 0}).apply(images, 3, "A", INDICES, STREAMS)
    np.testing.assert_array_equal(result, images)
    assert not np.shares_memory(result, images)


@every_kind
def test_images_come_back_fresh_with_shape_and_type(kind: Kind, images: Images) -> None:
    before = images.copy()
    result = severe(kind).apply(images, 0, "A", INDICES, STREAMS)
    np.testing.assert_array_equal(images, before)
    assert result.shape == images.shape
    assert result.dtype == np.uint8
    assert (result != images).any()
    nothing = severe(kind).apply(images[:0], 0, "A", INDICES[:0], STREAMS)
    assert nothing.shape == (0, *images.shape[1:])


@every_kind
@pytest.mark.parametrize("site", range(4))
def test_an_image_does_not_depend_on_what_is_taken_with_it(
    kind: Kind, images: Images, site: int
) -> None:
    rule = severe(kind)
    expected = rule.apply(images, site, "A", INDICES, STREAMS)
    order = np.random.default_rng(0).permutation(len(images))
    for block in (order[:1], order[1:4], order[4:]):
        taken = rule.apply(images[block], site, "A", INDICES[block], STREAMS)
        np.testing.assert_array_equal(taken, expected[block])


@every_kind
def test_site_seed_and_index_count_but_not_the_name(kind: Kind, images: Images) -> None:
    rule = severe(kind)
    expected = rule.apply(images, 0, "A", INDICES, STREAMS)
    np.testing.assert_array_equal(rule.apply(images, 0, "B", INDICES, STREAMS), expected)
    assert (rule.apply(images, 1, "A", INDICES, STREAMS) != expected).any()
    assert (rule.apply(images, 0, "A", INDICES, Streams(seed=8)) != expected).any()
    assert (rule.apply(images, 0, "A", INDICES + 1, STREAMS) != expected).any()


@every_kind
def test_a_site_is_described_in_plain_data(kind: Kind) -> None:
    rule = severe(kind)
    described = rule.describe(0, "A", STREAMS)
    assert json.loads(json.dumps(described)) == described == rule.describe(0, "A", STREAMS)
    assert described != rule.describe(1, "A", STREAMS)
    assert described != rule.describe(0, "A", Streams(seed=8))


@every_kind
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_its_number(kind: Kind, preset: str) -> None:
    by_name = kind.model_validate({"severity": preset})
    by_number = kind.model_validate({"severity": PRESETS[preset]})
    assert by_name.describe(1, "A", STREAMS) == by_number.describe(1, "A", STREAMS)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param("scanner", {"offset": 0.1}, id="scanner"),
        pytest.param(
            "monai",
            [{"name": "ShiftIntensity", "options": {"offset": 0.1}}],
            id="monai",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_settings_of_a_site_are_that_sites_alone(kind: str, settings: Any, images: Images) -> None:
    part = next(k for k in BUILTIN if kind_of(k) == kind)
    rule = severe(part, sites={"Basel": settings})
    assert rule.named_sites() == ("Basel",)
    assert severe(part).named_sites() == ()
    as_drawn = severe(part).apply(images, 0, "Basel", INDICES, STREAMS)
    assert (rule.apply(images, 0, "Basel", INDICES, STREAMS) != as_drawn).any()
    np.testing.assert_array_equal(rule.apply(images, 0, "A", INDICES, STREAMS), as_drawn)
