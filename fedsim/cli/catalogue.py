"""What `fedsim list` says: sections, families, kinds and their keys, read from the parts."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel

from clients.metrics import METRICS
from fedsim.errors import InputError
from fedsim.plugins import kind_of
from fedsim.scenario import Scenario
from fedsim.scenario.expectation import Expectation, Schema, of
from fedsim.scenario.families import FAMILIES
from fedsim.scenario.messages import nearest

WIDTH = 96
USES = {
    "sources": ("data.source", "where images and labels come from"),
    "normalisations": ("data.normalisation", "how pixels become numbers"),
    "partitions": ("population.partition", "how examples are spread over sites"),
    "appearances": ("population.appearance", "how the images of a site look"),
    "label_noises": ("population.label_noise", "mistakes in training labels"),
    "supervisions": ("population.supervision", "what sites know of their labels"),
    "bag_draws": ("population.supervision.draw", "how examples come into bags"),
    "label_privacies": (
        "population.supervision.label_privacy",
        "noise that protects labels in what bags tell",
    ),
    "adversaries": ("population.adversaries", "how sites attack the training"),
    "models": ("model", "the network that is trained"),
    "objectives": ("client.objective", "what a site minimises"),
    "regularisers": ("client.regulariser", "what holds a site to the others while it trains"),
    "personalisations": ("client.personalisation", "a model for each site, by which it is judged"),
    "optimizers": ("client.optimizer", "how a site takes its steps"),
    "schedules": ("client.schedule", "the learning rate over rounds"),
    "mechanisms": ("privacy.mechanism", "how training hides who was trained on"),
    "cohorts": ("cohort", "which sites take part in a round"),
    "round_policies": ("round_policy", "when a round ends and whose updates count"),
    "strategies": ("strategy", "how the server aggregates the updates of the sites"),
    "server_optimizers": ("server_optimizer", "how the server steps along the aggregate"),
    "metrics": ("evaluation.metrics", "how well the global model predicts"),
}
"""Family -> the key of the scenario that chooses from it, and what it decides."""


@dataclass(frozen=True)
class Key:
    """What there is to say of a key: what it takes, its default in words, what it means."""

    name: str
    takes: str
    default: str
    meaning: str


def describe(name: str | None) -> str:
    """Return an overview, one family, or the sections and kinds of this name with their keys.

    Raises:
        InputError: if there is no such section, family, kind or metric.
    """
    found = sections()
    if name is None:
        summaries = {
            key: f"{f'({path}:) ' * ('.' in path)}{_summary(section)}"
            for key, (path, section) in found.items()
        }
        overview = ["sections - what a scenario is made of", *_listed(summaries)]
        families = "\n\n".join(["\n".join(overview), *map(_family, USES)])
        return f"{families}\n\n`fedsim list NAME` shows the keys of a section or kind."
    if name in USES:
        return _family(name)
    named = [_section(key, path, section) for key, (path, section) in found.items() if name == key]
    named += [
        _keys(part, family)
        for family, parts in FAMILIES.items()
        for part in parts
        if kind_of(part) == name
    ]
    if name in METRICS:
        named.append(_metric(name))
    if named:
        return "\n\n".join(named)
    raise InputError(
        f"there is no section, family, kind or metric {name!r}{nearest(name, known())} "
        "(`fedsim list` shows them all)"
    )


def known() -> list[str]:
    """Return every name that `describe` takes."""
    kinds = [kind_of(part) for parts in FAMILIES.values() for part in parts]
    return [*sections(), *USES, *kinds, *METRICS]


@cache
def sections() -> dict[str, tuple[str, Schema]]:
    """Return key path and schema of every section that is no family, by its last key."""
    expected = of(Scenario)
    return {"scenario": ("", expected.schema), **dict(_below(expected, ""))}


def _below(expected: Expectation, path: str) -> Iterator[tuple[str, tuple[str, Schema]]]:
    families = {key for key, _ in USES.values()}
    for key in expected.keys({}):
        place, child = f"{path}{key}", expected.child(key, {})
        if child is None or place in families:
            continue
        item = child.child(0, [])
        for option in [*child.options, *(item.options if item else [])]:
            if "properties" in option:
                yield key, (place, option)
                yield from _below(Expectation(option, expected.definitions), f"{place}.")


def _section(name: str, path: str, section: Schema) -> str:
    title = f"section: {name}  ({f'{path}:' if path else 'the whole file'})"
    expected = Expectation(section, of(Scenario).definitions)
    return "\n".join([title, *_about(expected, list(section["properties"]), path)])


def _family(family: str) -> str:
    key, purpose = USES[family]
    lines: Mapping[str, str] = (
        {name: _applies(name) for name in METRICS}
        if family == "metrics"
        else {kind_of(part): _summary(of(part).schema) for part in FAMILIES[family]}
    )
    return "\n".join([f"{family} ({key}:) - {purpose}", *_listed(lines)])


def _listed(lines: Mapping[str, str]) -> list[str]:
    width = max(map(len, lines))
    return [
        textwrap.fill(
            text,
            WIDTH,
            initial_indent=f"  {name:{width}}  ",
            subsequent_indent=" " * (width + 4),
        )
        for name, text in lines.items()
    ]


def _metric(name: str) -> str:
    about = inspect.getdoc(METRICS[name].function) or ""
    return f"{name} (evaluation.metrics:) - {_applies(name)}\n{textwrap.indent(about, '  ')}"


def _applies(name: str) -> str:
    metric = METRICS[name]
    better = "higher" if metric.higher_is_better else "lower"
    return f"{metric.title}, {better} is better; for {', '.join(metric.tasks)} tasks"


def _summary(section: Schema) -> str:
    return " ".join(section.get("description", "").split("\n\n")[0].split())


def _keys(part: type[BaseModel], family: str) -> str:
    """Return what a kind is for, each of its keys and the paper it is from, if it names one."""
    title = f"kind: {kind_of(part)}  ({USES[family][0]}:, one of the {family})"
    expected = of(part)
    keys = [key for key in expected.keys({}) if key != "kind"]
    lines = [title, *_about(expected, keys, USES[family][0])]
    if reference := getattr(part, "reference", ""):
        lines += ["  reference:", textwrap.indent(reference.strip(), "    ")]
    return "\n".join(lines)


def _about(expected: Expectation, keys: list[str], path: str) -> list[str]:
    """Return what a section is for and of each key what it takes, its default, its meaning."""
    lines = textwrap.wrap(
        _summary(expected.schema), WIDTH, initial_indent="  ", subsequent_indent="  "
    )
    for key in described(expected, keys, path):
        lines += textwrap.wrap(
            f"{key.name}: {'; '.join(filter(None, (key.takes, key.default, key.meaning)))}",
            WIDTH,
            initial_indent="  - ",
            subsequent_indent="    ",
        )
    return lines


def described(expected: Expectation, keys: Iterable[str], path: str) -> Iterator[Key]:
    """Yield what there is to say of the keys of a section.

    Args:
        expected: of the section.
        keys: of it, in the order in which they are wanted.
        path: of the section in the scenario.
    """
    section = expected.schema
    purposes = dict(USES.values())
    documented = _documented(section.get("description", ""))
    for key in keys:
        value = expected.child(key, {})
        if value is None:
            continue
        meanings = (
            value.schema.get("description"),
            documented.get(key) if key != "kind" else None,
            purposes.get(f"{path}.{key}".lstrip(".")),
            *(_summary(option) for option in value.options if "properties" in option),
        )
        words, meaning = value.words(), next(filter(None, meanings), "")
        default = _default(value, key in section.get("required", ()))
        yield Key(key, words, default, "" if meaning == words else meaning.rstrip("."))


def _documented(description: str) -> dict[str, str]:
    """Return what the part "Args" of a docstring says of each key."""
    _, _, arguments = description.partition("Args:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", arguments, re.MULTILINE)
    return {key: " ".join(text.split()) for key, text in found}


def _default(value: Expectation, required: bool) -> str:
    if required:
        return "required"
    default = value.schema.get("default")
    shown = default if isinstance(default, str) and default else json.dumps(default)
    return "not set by default" if default is None else f"default {shown}"
