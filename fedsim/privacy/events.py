"""Releases in the words of dp_accounting, as plain data and as what is composed.

>>> from dp_accounting import dp_event
>>> event = dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(1.5))
>>> from_data(to_data(event)) == event
True
>>> history([(dp_event.SelfComposedDpEvent(event, 20), 3)])[event]
60
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attr
from dp_accounting import dp_event
from dp_accounting.dp_event import DpEvent

from fedsim.errors import InputError

History = Mapping[DpEvent, int]
"""How often each event was released; none is a composition of others."""

VOCABULARY: dict[str, type[DpEvent]] = {
    cls.__name__.removesuffix("DpEvent"): cls
    for cls in (
        dp_event.NonPrivateDpEvent,
        dp_event.GaussianDpEvent,
        dp_event.LaplaceDpEvent,
        dp_event.DiscreteLaplaceDpEvent,
        dp_event.RandomizedResponseDpEvent,
        dp_event.MixtureOfGaussiansDpEvent,
        dp_event.PoissonSampledDpEvent,
        dp_event.SelfComposedDpEvent,
        dp_event.ComposedDpEvent,
    )
}
"""The events that a ledger may hold, by the name that it has for them."""


def to_data(event: DpEvent) -> dict[str, Any]:
    """Return an event as plain data, from which `from_data` makes the same again.

    Raises:
        ValueError: if it is not in the vocabulary.
    """
    name = type(event).__name__.removesuffix("DpEvent")
    if VOCABULARY.get(name) is not type(event):
        raise ValueError(f"a ledger has no word for {event!r}")
    fields = {field.name: getattr(event, field.name) for field in attr.fields(type(event))}
    return {"type": name, **{key: _plain(value) for key, value in fields.items()}}


def from_data(data: Mapping[str, Any]) -> DpEvent:
    """Return the event that `to_data` wrote.

    Raises:
        InputError: if the data are of no event in the vocabulary.
    """
    try:
        cls = VOCABULARY[data["type"]]
        for key, value in data.items():
            _check(key, value)
        return cls(**{key: _event(value) for key, value in data.items() if key != "type"})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"a ledger's event is one of {', '.join(VOCABULARY)} with its fields, got {data}: "
            f"{error}"
        ) from error


def _check(key: str, value: Any) -> None:
    """Find numbers that no event has, before an accountant fails of them."""
    if isinstance(value, list):
        for part in value:
            _check(key, part)
    elif isinstance(value, int | float):
        most = 1.0 if key.startswith("sampling_prob") else sys.float_info.max
        if not 0 <= value <= most:
            raise ValueError(f"{key} cannot be {value}")


def history(events: Iterable[tuple[DpEvent, int]]) -> History:
    """Return what a sequence of releases, each with its count, is composed of."""
    found: Counter[DpEvent] = Counter()
    for event, count in events:
        _add(found, event, count)
    return found


def in_words(found: History) -> str:
    """Return a history in words.

    >>> from dp_accounting import dp_event
    >>> step = dp_event.PoissonSampledDpEvent(0.064, dp_event.GaussianDpEvent(1.1))
    >>> in_words({step: 120})
    '120 x Gaussian 1.1, q 0.064'
    """
    return "; ".join(f"{count} x {_words(event)}" for event, count in found.items())


def _add(found: Counter[DpEvent], event: DpEvent, count: int) -> None:
    match event:
        case dp_event.SelfComposedDpEvent():
            _add(found, event.event, event.count * count)
        case dp_event.ComposedDpEvent():
            for part in event.events:
                _add(found, part, count)
        case dp_event.PoissonSampledDpEvent() if event.sampling_probability == 1:
            _add(found, event.event, count)
        case _:
            found[event] += count


def _plain(value: Any) -> Any:
    if isinstance(value, DpEvent):
        return to_data(value)
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _event(value: Any) -> Any:
    """Return a field's value; sequences of numbers as tuples, for such events are keys."""
    if isinstance(value, list):
        return [from_data(one) for one in value] if _has_events(value) else tuple(value)
    return from_data(value) if isinstance(value, dict) else value


def _has_events(values: list[Any]) -> bool:
    return any(isinstance(one, dict) for one in values)


def _words(event: DpEvent) -> str:
    match event:
        case dp_event.NonPrivateDpEvent():
            return "no noise"
        case dp_event.GaussianDpEvent(z):
            return f"Gaussian {z:g}"
        case dp_event.LaplaceDpEvent(b):
            return f"Laplace {b:g}"
        case dp_event.DiscreteLaplaceDpEvent(a, _):
            return f"two-sided geometric {a:g}"
        case dp_event.RandomizedResponseDpEvent(rate, _):
            return f"randomised response, {rate:.4g} drawn"
        case dp_event.PoissonSampledDpEvent(q, inner):
            return f"{_words(inner)}, q {q:.4g}"
    return type(event).__name__.removesuffix("DpEvent")
