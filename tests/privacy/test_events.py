"""Events as plain data, and what a sequence of them is composed of."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from dp_accounting import dp_event
from dp_accounting.dp_event import DpEvent
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.privacy.events import VOCABULARY, from_data, history, to_data

NOISE = st.floats(0.01, 100, allow_nan=False)
RATE = st.floats(1e-6, 1)
SIMPLE = st.one_of(
    st.builds(dp_event.GaussianDpEvent, NOISE),
    st.builds(dp_event.LaplaceDpEvent, NOISE),
    st.builds(dp_event.DiscreteLaplaceDpEvent, NOISE, st.integers(1, 9)),
    st.builds(dp_event.RandomizedResponseDpEvent, RATE, st.integers(2, 9)),
    st.builds(dp_event.NonPrivateDpEvent),
    st.just(dp_event.MixtureOfGaussiansDpEvent(1.5, (0.0, 1.0), (0.9, 0.1))),
    st.builds(dp_event.PoissonSampledDpEvent, RATE, st.builds(dp_event.GaussianDpEvent, NOISE)),
)
EVENTS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds(dp_event.SelfComposedDpEvent, inner, st.integers(1, 1000)),
        st.builds(dp_event.ComposedDpEvent, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
)


@given(EVENTS)
def test_an_event_comes_back_from_its_line_bit_for_bit(event: DpEvent) -> None:
    assert from_data(json.loads(json.dumps(to_data(event)))) == event


@given(EVENTS, st.integers(1, 5))
def test_a_history_counts_what_is_inside(event: DpEvent, times: int) -> None:
    once, often = history([(event, 1)]), history([(event, times)])
    assert often == {part: times * count for part, count in once.items()}
    assert often == history([(event, 1)] * times)
    assert not any(
        isinstance(part, dp_event.SelfComposedDpEvent | dp_event.ComposedDpEvent) for part in once
    )


def test_a_sample_of_all_is_no_sample() -> None:
    gaussian = dp_event.GaussianDpEvent(1.5)
    assert history([(dp_event.PoissonSampledDpEvent(1.0, gaussian), 4)]) == {gaussian: 4}
    rarely = dp_event.PoissonSampledDpEvent(0.999, gaussian)
    assert history([(rarely, 4)]) == {rarely: 4}


def test_what_a_ledger_has_no_word_for_is_refused() -> None:
    with pytest.raises(ValueError, match="no word"):
        to_data(dp_event.ZCDpEvent(1.0))
    for wrong in ({"type": "ZC", "rho": 1.0}, {"type": "Gaussian"}, {"rho": 1.0}, {}):
        with pytest.raises(InputError, match=", ".join(VOCABULARY)[:20]):
            from_data(wrong)
    with pytest.raises(InputError):
        from_data({"type": "Gaussian", "noise_multiplier": 1.0, "more": 2})


@pytest.mark.parametrize(
    "changed",
    [{"count": -1}, {"sampling_probability": 1.7}, {"noise_multiplier": math.nan}],
)
def test_numbers_that_no_event_has_are_refused(changed: dict[str, float]) -> None:
    gaussian: dict[str, Any] = {"type": "Gaussian", "noise_multiplier": 1.0}
    sampled: dict[str, Any] = {
        "type": "PoissonSampled",
        "sampling_probability": 0.1,
        "event": gaussian,
    }
    whole: dict[str, Any] = {"type": "SelfComposed", "event": sampled, "count": 3}
    assert from_data(whole)
    (key,) = changed
    for part in (gaussian, sampled, whole):
        if key in part:
            part.update(changed)
    with pytest.raises(InputError, match=f"{key} cannot be"):
        from_data(whole)
