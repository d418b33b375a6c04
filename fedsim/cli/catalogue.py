"""What `fedsim list` says: families, kinds and their keys, read from the parts themselves."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Mapping

from pydantic import BaseModel

from clients.metrics import METRICS
from fedsim.errors import InputError
from fedsim.plugins import kind_of
from fedsim.scenario.expectation import Expectation, of
from fedsim.scenario.families import FAMILIES
from fedsim.scenario.messages import nearest

WIDTH = 96
USES = {
    "sources": ("data.source", "where images and labels come from"),
    "normalisations": ("data.normalisation", "how pixels become numbers"),
    "partitions": ("population.partition", "how examples are spread over sites"),
    "models": ("model", "the network that is trained"),
    "objectives": ("client.objective", "what a site minimises"),
    "optimizers": ("client.optimizer", "how a site takes its steps"),
    "schedules": ("client.schedule", "the learning rate over rounds"),
    "cohorts": ("cohort", "which sites take part in a round"),
    "strategies": ("strategy", "how the server aggregates the updates of the sites"),
    "server_optimizers": ("server_optimizer", "how the server steps along the aggregate"),
    "metrics": ("evaluation.metrics", "how well the global model predicts"),
}
"""Family -> the key of the scenario that chooses from it, and what it decides."""


def describe(name: str | None) -> str:
    """Return all families, one family, or the kinds of this name with their keys.

    Raises:
        InputError: if there is no such family, kind or metric.
    """
    if name is None:
        families = "\n\n".join(map(_family, USES))
        return f"{families}\n\n`fedsim list KIND` shows the keys of a kind."
    if name in USES:
        return _family(name)
    named = [
        _keys(part, family)
        for family, parts in FAMILIES.items()
        for part in parts
        if kind_of(part) == name
    ]
    if name in METRICS:
        named.append(_metric(name))
    if named:
        return "\n\n".join(named)
    known = [*USES, *(kind_of(part) for parts in FAMILIES.values() for part in parts), *METRICS]
    raise InputError(
        f"there is no family, kind or metric {name!r}{nearest(name, known)} "
        "(`fedsim list` shows them all)"
    )


def _family(family: str) -> str:
    key, purpose = USES[family]
    lines: Mapping[str, str] = (
        {name: _applies(name) for name in METRICS}
        if family == "metrics"
        else {kind_of(part): _summary(part) for part in FAMILIES[family]}
    )
    width = max(map(len, lines))
    listed = [
        textwrap.fill(
            text,
            WIDTH,
            initial_indent=f"  {name:{width}}  ",
            subsequent_indent=" " * (width + 4),
        )
        for name, text in lines.items()
    ]
    return "\n".join([f"{family} ({key}:) - {purpose}", *listed])


def _metric(name: str) -> str:
    about = inspect.getdoc(METRICS[name].function) or ""
    return f"{name} (evaluation.metrics:) - {_applies(name)}\n{textwrap.indent(about, '  ')}"


def _applies(name: str) -> str:
    metric = METRICS[name]
    better = "higher" if metric.higher_is_better else "lower"
    return f"{metric.title}, {better} is better; for {', '.join(metric.tasks)} tasks"


def _summary(part: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(part) or "").split("\n\n")[0].split())


def _keys(part: type[BaseModel], family: str) -> str:
    """Return what a kind is for and each of its keys: what it takes, its default, its meaning."""
    lines = [f"kind: {kind_of(part)}  ({USES[family][0]}:, one of the {family})"]
    lines += textwrap.wrap(_summary(part), WIDTH, initial_indent="  ", subsequent_indent="  ")
    expected = of(part)
    for key in (k for k in expected.keys({}) if k != "kind"):
        value = expected.child(key, {})
        if value is not None:
            meaning = value.schema.get("description")
            about = f"{value.words()}; {_default(part, key, value)}" + (
                f"; {meaning}" if meaning else ""
            )
            lines += textwrap.wrap(
                f"{key}: {about}", WIDTH, initial_indent="  - ", subsequent_indent="    "
            )
    return "\n".join(lines)


def _default(part: type[BaseModel], key: str, value: Expectation) -> str:
    if part.model_fields[key].is_required():
        return "required"
    default = value.schema.get("default")
    shown = default if isinstance(default, str) else json.dumps(default)
    return "not set by default" if default is None else f"default {shown}"
