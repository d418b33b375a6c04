"""What `fedsim list` says: families, kinds and their keys, read from the parts themselves."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from clients.metrics import METRICS
from fedsim.errors import InputError
from fedsim.plugins import kind_of
from fedsim.scenario.families import FAMILIES


def describe(kind: str | None) -> str:
    """Return all families, one family, or one kind with its keys.

    Raises:
        InputError: if there is no such family or kind.
    """
    families = {name: [_line(part) for part in parts] for name, parts in FAMILIES.items()}
    families["metrics"] = [
        f"  {m.name:24} {m.title}; for {', '.join(m.tasks)} tasks" for m in METRICS.values()
    ]
    if kind is None:
        return "\n".join("\n".join([name, *lines]) for name, lines in families.items())
    if kind in families:
        return "\n".join([kind, *families[kind]])
    kinds = {kind_of(part): part for parts in FAMILIES.values() for part in parts}
    if kind not in kinds:
        raise InputError(
            f"there is no family or kind {kind!r}; families: {', '.join(families)}; "
            f"kinds: {', '.join(kinds)}"
        )
    return _keys(kinds[kind])


def _line(part: type[BaseModel]) -> str:
    return f"  {kind_of(part):24} {_summary(part)}"


def _summary(part: type[BaseModel]) -> str:
    return (part.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


def _keys(part: type[BaseModel]) -> str:
    lines = [f"kind: {kind_of(part)}", f"  {_summary(part)}"]
    for name, properties in part.model_json_schema()["properties"].items():
        if name == "kind":
            continue
        default = part.model_fields[name].default
        shown = "required" if default is PydanticUndefined else f"default {default!r}"
        meaning = properties.get("description", "")
        lines.append(f"  {name}: {_type(properties)}, {shown}" + (f"; {meaning}" * bool(meaning)))
    return "\n".join(lines)


def _type(properties: dict[str, object]) -> str:
    """Return a JSON Schema type in words."""
    if "enum" in properties:
        return " | ".join(map(str, properties["enum"]))  # type: ignore[call-overload]
    if "const" in properties:
        return str(properties["const"])
    options = properties.get("anyOf")
    if isinstance(options, list):
        return " | ".join(dict.fromkeys(map(_type, options)))
    return str(properties.get("type", "section"))
