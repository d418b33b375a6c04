"""The door for parts of other packages."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from fedsim.errors import InputError
from fedsim.plugins import Part, kind_of, load, union
from strategies import BUILTIN, Strategy, WeightedMean


class Median(WeightedMean):
    """A rule of another package."""

    kind: Literal["median"] = "median"  # type: ignore[assignment]


class Taken(WeightedMean):
    """A part with the kind of a built-in one."""


class Unfinished(Strategy):
    """A strategy without a rule."""

    kind: Literal["unfinished"] = "unfinished"

    @abstractmethod
    def rule(self) -> None:
        """Nothing yet."""


class Vague(WeightedMean):
    """A part whose kind can be anything."""

    kind: str = "vague"  # type: ignore[assignment]


class Nameless(BaseModel):
    """A model, but no part."""


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Pretend that packages bring these parts to the family of strategies."""

    def pretend(**parts: object) -> None:
        class Entry(EntryPoint):
            def load(self) -> Any:
                if isinstance(parts[self.name], Exception):
                    raise parts[self.name]  # type: ignore[misc]
                return parts[self.name]

        entries = [Entry(name, f"package:{name}", "fedsim.strategies") for name in parts]
        monkeypatch.setattr(
            "fedsim.plugins.entry_points",
            lambda *, group: entries if group == "fedsim.strategies" else [],
        )

    return pretend


def test_without_plugins_a_family_is_what_is_built_in(install: Install) -> None:
    install()
    assert load("strategies", BUILTIN, Strategy) == BUILTIN


def test_a_plugin_comes_after_the_built_in_parts(install: Install) -> None:
    install(median=Median)
    assert load("strategies", BUILTIN, Strategy) == (*BUILTIN, Median)


def test_a_plugin_of_another_family_stays_away(install: Install) -> None:
    install(median=Median)
    assert load("models", BUILTIN) == BUILTIN


def test_plugins_come_in_the_order_of_their_names(install: Install) -> None:
    class Another(WeightedMean):
        kind: Literal["another"] = "another"  # type: ignore[assignment]

    install(median=Median, another=Another)
    assert [kind_of(p) for p in load("strategies", (), Strategy)] == ["another", "median"]


def test_a_plugin_can_be_chosen_by_its_kind(install: Install) -> None:
    install(median=Median)
    adapter: TypeAdapter[Any] = TypeAdapter(union(load("strategies", BUILTIN, Strategy)))
    assert isinstance(adapter.validate_python({"kind": "median", "weights": "uniform"}), Median)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (Taken, "uses the kind 'weighted_mean', which strategies already has"),
        (Nameless, "is no part of strategies: expected a subclass of strategies.base.Strategy"),
        (Unfinished, "with all its methods"),
        (Vague, 'expected a field such as kind: Literal["odd"] = "odd"'),
        ("a text", "is no part of strategies"),
        (Median(), "is no part of strategies"),
        (ImportError("no module named torchx"), "cannot be loaded: ImportError: no module named"),
        (AttributeError("MyRule"), "cannot be loaded: AttributeError: MyRule"),
    ],
)
def test_what_is_no_part_is_refused_by_name(install: Install, part: object, says: str) -> None:
    install(odd=part)
    with pytest.raises(InputError, match=r"^plug-in odd \(package:odd\) ") as caught:
        load("strategies", BUILTIN, Strategy)
    assert says in str(caught.value)


def test_two_plugins_of_one_kind_are_refused(install: Install) -> None:
    install(first=Median, second=Median)
    with pytest.raises(InputError, match=r"plug-in second .* uses the kind 'median'"):
        load("strategies", BUILTIN, Strategy)


def test_a_family_of_one_needs_no_kind() -> None:
    assert union((WeightedMean,)) is WeightedMean


def test_parts_are_frozen_and_refuse_unknown_keys() -> None:
    class Thing(Part):
        size: int = 1

    with pytest.raises(ValidationError, match="frozen"):
        Thing().size = 2  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Thing.model_validate({"colour": "red"})
