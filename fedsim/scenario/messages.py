"""From pydantic's validation errors to problems in a reader's words."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fedsim.plugins import kind_of
from fedsim.scenario.yaml_tree import Path


@dataclass(frozen=True)
class Problem:
    """One thing to mend.

    Args:
        path: the key.
        message: what was expected and how to mend it.
    """

    path: Path
    message: str


def explain(error: ValidationError, model: type[BaseModel], data: Any) -> list[Problem]:
    """Return one problem per key, in the order of the error."""
    problems: dict[Path, list[str]] = {}
    for details in error.errors(include_url=False):
        path, owner = _follow(details["loc"], model, data)
        message = _message(details, owner)
        if message not in problems.setdefault(path, []):
            problems[path].append(message)
    return [Problem(path, " or: ".join(texts)) for path, texts in problems.items()]


def _follow(
    loc: tuple[str | int, ...], model: type[BaseModel], data: Any
) -> tuple[Path, type[BaseModel] | None]:
    """Return the key that pydantic's location means and the model that holds this key.

    Pydantic adds to a location the `kind` of a union's member and the names of types it tried;
    these are no keys.
    """
    path: list[str | int] = []
    owners, owner = [model], model
    for number, part in enumerate(loc):
        last = number == len(loc) - 1
        tagged = [m for m in owners if "kind" in m.model_fields and kind_of(m) == part]
        if tagged and isinstance(data, dict) and part not in data:
            owner, owners = tagged[0], tagged
            continue
        known = isinstance(data, dict) and part in data
        listed = isinstance(data, list) and isinstance(part, int)
        if not (known or listed or (last and part in owner.model_fields)):
            continue
        path.append(part)
        if not last:
            data = data[part]
            field = owner.model_fields.get(str(part)) if isinstance(part, str) else None
            owners = list(_models(field.annotation, *field.metadata)) if field else []
            if owners:
                owner = owners[0]
    return tuple(path), owner


def _models(*annotations: Any) -> Iterator[type[BaseModel]]:
    """Yield every pydantic model that an annotation allows."""
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        elif typing.get_origin(annotation) in (typing.Union, UnionType, typing.Annotated):
            yield from _models(*typing.get_args(annotation))


def _message(details: ErrorDetails, owner: type[BaseModel] | None) -> str:
    context = details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            keys = [k for k in (owner.model_fields if owner else ()) if k != "kind"]
            return f"unknown key{_nearest(str(details['loc'][-1]), keys)}"
        case "missing":
            return "this key is required"
        case "union_tag_not_found":
            return "`kind` is required; one of " + str(context.get("expected_tags", ""))
        case "union_tag_invalid":
            tags = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
            return f"unknown kind {context['tag']!r}{_nearest(str(context['tag']), tags)}"
        case "value_error":
            return str(details["msg"]).removeprefix("Value error, ")
        case _:
            return f"{details['msg']}, got {details['input']!r}"


def _nearest(word: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (one of {', '.join(choices)})" if choices else hint
