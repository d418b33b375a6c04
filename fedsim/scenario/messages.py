"""From pydantic's validation errors to problems in the words of someone who writes YAML."""

from __future__ import annotations

import difflib
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fedsim.errors import ScenarioError
from fedsim.scenario.expectation import Expectation
from fedsim.scenario.yaml_tree import DEEPEST, LONGEST_SHOWN, TOO_DEEP, Path, dotted

LARGEST_INT = 2**63 - 1
MOST_EXPLAINED = 100
"""Problems for which words are looked for; whoever has more needs no more."""

UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that steer a terminal, turn the direction of what follows, or are halves of one."""

NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
SEARCHED = 1000
"""Sites among which one with a similar name is looked for."""


@dataclass(frozen=True)
class Problem:
    """One thing to mend.

    Args:
        path: the key.
        message: what was expected and how to mend it.
    """

    path: Path
    message: str


class UnmetError(ScenarioError):
    """What the sites cannot do; `Draft.pointing` says where in its file the scenario asks for it.

    Args:
        name: of the scenario.
        problems: what to mend.
    """

    def __init__(self, name: str, problems: list[Problem]) -> None:
        super().__init__("\n".join(f"{name}: {dotted(p.path)}\n  {p.message}" for p in problems))
        self.problems = problems


def explain(error: ValidationError, expected: Expectation, data: Any) -> list[Problem]:
    """Return one problem per key, in the order of the error.

    Where a value may follow one of several alternatives, pydantic says for each why it does not.
    What lies inside the alternative that the author meant says more than that none fits.
    """
    problems: dict[Path, str] = {}
    unions: set[Path] = set()
    for details in error.errors(include_url=False)[:MOST_EXPLAINED]:
        if details["type"] == "json_invalid":
            continue  # the data hold what `unfit` names
        steps = list(_steps(details["loc"], expected, data))
        path = tuple(step.part for step in steps)
        last = steps[-1] if steps else _Step("", expected, data)
        above = steps[-2] if len(steps) > 1 else _Step("", expected, data)
        below, message = _message(details, last, above)
        if (*path, *below) not in problems or details["type"] == "value_error":
            problems[(*path, *below)] = message
        if last.expected is not None and last.expected.is_union:
            unions.add(path)
    return [
        Problem(path, message)
        for path, message in problems.items()
        if path not in unions or not any(o != path and o[: len(path)] == path for o in problems)
    ]


def unfit(data: Any, expected: Expectation | None, path: Path = ()) -> Iterator[Problem]:
    """Yield what no key takes, and numbers that Python takes for equal although YAML does not.

    Args:
        data: plain data whose keys are text.
        expected: of `data`, None if unknown.
        path: of `data`.
    """
    if len(path) > DEEPEST:
        yield Problem(path[:3], TOO_DEEP)
    elif isinstance(data, dict | list):
        for part, value in data.items() if isinstance(data, dict) else enumerate(data):
            if isinstance(part, str) and UNSHOWABLE.search(part):
                yield _unshowable(part, (*path, part))
            below = expected.child(part, data) if expected is not None else None
            yield from unfit(value, below, (*path, part))
    elif isinstance(data, float) and not math.isfinite(data):
        end = " (numbers end at 1.8e308)" if math.isinf(data) else ""
        yield Problem(path, f"expected a finite number, got {data}{end}")
    elif isinstance(data, int) and abs(data) > LARGEST_INT:
        yield Problem(path, "expected a whole number of at most 18 digits")
    elif isinstance(data, str) and UNSHOWABLE.search(data):
        yield _unshowable(data, path)
    elif (
        isinstance(data, bool | float)
        and expected is not None
        and any(type(c) is int and c == data for c in expected.constants)
    ):
        yield Problem(path, f"expected {expected.words()}, got {show(data)}")


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return "; did you mean ...?" if one of the choices is near."""
    known, word = list(choices), word.lower()[:LONGEST_SHOWN]
    part_of = [choice for choice in known if len(word) > 2 and word in choice.lower()]
    near = sorted(part_of, key=len) or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def no_site(name: str, names: Sequence[str]) -> str:
    """Return what is said of a site that is not there."""
    few = names[:SEARCHED]
    listed = ", ".join(names[:12]) + ", ..." * (len(names) > 12)
    return f"there is no site {name!r}{nearest(name, few)} (one of {listed})"


def mistaken(mapping: Mapping[int, int] | None, num_classes: int, path: Path) -> Iterator[Problem]:
    """Yield the classes of a mapping that are not taken for another class of the task."""
    for true, taken in (mapping or {}).items():
        if not (0 <= true < num_classes and 0 <= taken < num_classes and true != taken):
            yield Problem(
                (*path, str(true)),
                f"must take one class of the task, 0 to {num_classes - 1}, for another",
            )


def show(value: Any) -> str:
    """Return a value as YAML has it, on one short line."""
    if value is None:
        return "nothing"
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unshowable(text: str, path: Path) -> Problem:
    odd = "".join(dict.fromkeys(UNSHOWABLE.findall(text)))[:5]
    return Problem(path, f"expected text that can be shown, got {odd!r} in it; take that out")


@dataclass(frozen=True)
class _Step:
    """A key on the way to an error, what is expected there (None: nothing), and its value."""

    part: str | int
    expected: Expectation | None
    value: Any


def _steps(loc: tuple[str | int, ...], expected: Expectation, data: Any) -> Iterator[_Step]:
    """Yield the keys that pydantic's location means.

    Where there are kinds or other alternatives, pydantic puts into the location which it tried.
    """
    here: Expectation | None = expected
    named = False
    for part in loc:
        if part == "[key]":
            return
        if here is not None and here.is_union and not named:
            named = True
            continue
        here, named = here.child(part, data) if here is not None else None, False
        if isinstance(data, dict):
            data = data.get(part)
        else:
            data = data[part] if isinstance(data, list) and isinstance(part, int) else None
        yield _Step(part, here, data)


def _message(details: ErrorDetails, step: _Step, above: _Step) -> tuple[Path, str]:
    """Return where below the step the problem is, and what to say."""
    expected = step.expected
    match details["type"]:
        case "extra_forbidden" if above.expected is not None:
            return (), _unknown(str(step.part), above.expected, above.value)
        case "missing" if expected is not None:
            return (), f"this key is required: {expected.words()}"
        case "union_tag_not_found" if expected is not None:
            near = difflib.get_close_matches("kind", step.value, n=1, cutoff=0.5)
            hint = f"; is {near[0]!r} meant to be it?" if near else ""
            return (), f"`kind` is required, one of {', '.join(expected.kinds)}{hint}"
        case "union_tag_invalid" if expected is not None:
            kind, kinds = step.value["kind"], expected.kinds
            hint = nearest(str(kind), kinds)
            return ("kind",), f"unknown kind {show(kind)}{hint} (one of {', '.join(kinds)})"
        case "value_error":
            return (), str(details["msg"]).removeprefix("Value error, ")
        case kind if details["loc"][-1:] == ("[key]",):
            number = kind.startswith("int")
            return (), f"expected {'a whole number' if number else 'text'} as key"
    if expected is None:
        return (), f"cannot be {show(step.value)}"
    return (), f"expected {expected.words()}, got {show(step.value)}{_hint(expected, step)}"


def _unknown(key: str, section: Expectation, value: Any) -> str:
    keys = section.keys(value)
    hint = _below(key, section, value) or nearest(key, sorted(keys, key=value.__contains__))
    if hint and not key.isascii():
        odd = next(c for c in key if not c.isascii())
        hint += f" ({odd!r} in it is {unicodedata.name(odd, 'no letter')})"
    of_kind = f" of kind {value['kind']}" if "kind" in keys and "kind" in value else ""
    listed = ", ".join(k for k in keys if k != "kind")
    return f"unknown key{of_kind}{hint} " + (f"(one of {listed})" if listed else "(it has none)")


def _below(key: str, section: Expectation, value: Any) -> str:
    """Return "; did you mean ...?" if one section below has this key."""
    found = []
    for part in section.keys(value):
        child, given = section.child(part, value), value.get(part)
        kinds = [] if given or child is None or child.takes_null else child.kinds
        tried = [{"kind": kind} for kind in kinds] or [given]
        if child is not None and any(key in child.keys(one) for one in tried):
            found.append(part)
    return f"; did you mean '{found[0]}.{key}'?" if len(found) == 1 and key != "kind" else ""


def _hint(expected: Expectation, step: _Step) -> str:
    """Return how to mend a value, if that can be guessed."""
    value = step.value
    types = {option.get("type") for option in expected.options}
    if value is None:
        return "; leave the key out for its default" if "default" in expected.schema else ""
    if isinstance(value, str):
        if value in expected.kinds:
            return f"; write {{kind: {value}}}"
        if types & {"integer", "number"} and NUMBER.fullmatch(value.strip()):
            return "; leave out the quotes"
        if expected.takes_null and value.lower() in ("none", "no", "off"):
            return "; write null for none"
        if types == {"boolean"} and value.lower() in ("yes", "no", "on", "off"):
            return "; write true or false"
        return nearest(value, expected.choices)
    if types == {"string"} and isinstance(value, int | float):
        return "; put it in quotes"
    return ""
