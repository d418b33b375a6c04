"""Profiles, and which site has which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from fedsim.fleet.assignment import assign
from fedsim.fleet.catalogue import CATALOGUE, ProfileName
from fedsim.fleet.device import DeviceGroup
from fedsim.seeds import Streams

NAMES = tuple(f"site-{number}" for number in range(10))


def test_every_profile_has_a_source_and_numbers_in_order() -> None:
    assert set(CATALOGUE) == set(get_args(ProfileName))
    for profile in CATALOGUE.values():
        assert "https://" in profile.source
        for precision in ("bf16", "fp16"):
            if profile.supports(precision):
                assert profile.flops_per_s(precision) > profile.flops_per_s("fp32")
        assert 1 < profile.fp32_tflops < 100
        assert 1e10 < profile.memory_bytes < 1e12
        assert 1e11 < profile.memory_bytes_per_s < 1e13


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "give share or sites"),
        ({"share": 0.5, "sites": ["a"]}, "give share or sites"),
        ({"share": 1, "epochs": 1, "steps": 2}, "give epochs or steps"),
    ],
)
def test_a_group_says_each_thing_once(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        DeviceGroup(profile="t4", **settings)


def test_shares_are_rounded_to_whole_sites_and_named_sites_come_first(
    make_group: Callable[..., DeviceGroup],
) -> None:
    groups = [
        make_group(share=0.5),
        make_group(share=None, sites=("site-3", "elsewhere")),
        make_group(share=0.3),
        make_group(share=0.2),
    ]
    found = assign(groups, NAMES, Streams(0))
    assert found[3] == 1
    # 9 sites are left: 4.5, 2.7 and 1.8 of them, so 4, 3 and 2
    assert Counter(found.tolist()) == {0: 4, 1: 1, 2: 3, 3: 2}
    assert found.tolist() == assign(groups, NAMES, Streams(0)).tolist()
    assert found.tolist() != assign(groups, NAMES, Streams(1)).tolist()


def test_every_site_is_as_likely_to_get_a_device(make_group: Callable[..., DeviceGroup]) -> None:
    groups = [make_group(share=0.2), make_group(share=0.8)]
    fast = Counter(
        site
        for seed in range(2000)
        for site, group in enumerate(assign(groups, NAMES, Streams(seed)))
        if group == 0
    )
    assert all(330 < fast[site] < 470 for site in range(10))  # 400 plus or minus 4 sigma


def test_named_sites_alone(make_group: Callable[..., DeviceGroup]) -> None:
    groups = [
        make_group(share=None, sites=NAMES[5:]),
        make_group(share=None, sites=NAMES[:5]),
    ]
    assert assign(groups, NAMES, Streams(0)).tolist() == [1] * 5 + [0] * 5
