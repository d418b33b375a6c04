"""The one door through which parts come in, ours and those of other packages.

A part is a frozen pydantic model with a literal field `kind` and the behaviour that its numbers
drive. A family is a list of parts (`BUILTIN` of its package) plus the entry points of the group
`fedsim.<family>`. A package adds a part in its pyproject:

    [project.entry-points."fedsim.strategies"]
    my_rule = "my_package.my_rule:MyRule"
"""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Literal, Union, get_origin

from pydantic import BaseModel, ConfigDict, Field

from fedsim.errors import InputError


class Part(BaseModel):
    """Base of fedsim's own parts: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def kind_of(part: type[BaseModel]) -> str:
    """Return the `kind` by which a scenario names this part."""
    return str(part.model_fields["kind"].default)


def load(
    family: str, builtin: tuple[type[BaseModel], ...], base: type[BaseModel] = BaseModel
) -> tuple[type[BaseModel], ...]:
    """Return the family's parts: built-in ones, then those of installed packages by name.

    Args:
        family: its name.
        builtin: the parts that are always there.
        base: what every part of the family is.

    Raises:
        InputError: if a plug-in cannot be imported, is no part of this family, or takes a `kind`
            that is already in use.
    """
    found = {kind_of(part): part for part in builtin}
    for entry in sorted(entry_points(group=f"fedsim.{family}"), key=lambda e: e.name):
        part = _part(entry, family, base)
        if kind_of(part) in found:
            raise InputError(
                f"plug-in {entry.name} ({entry.value}) uses the kind {kind_of(part)!r}, "
                f"which {family} already has"
            )
        found[kind_of(part)] = part
    return tuple(found.values())


def union(parts: tuple[type[BaseModel], ...]) -> Any:
    """Return the type "one of `parts`, told apart by `kind`" for use as a field."""
    if len(parts) == 1:
        return parts[0]
    return Annotated[Union[parts], Field(discriminator="kind")]  # noqa: UP007


def _part(entry: EntryPoint, family: str, base: type[BaseModel]) -> type[BaseModel]:
    """Return what the entry point names.

    Raises:
        InputError: if that is no part of the family.
    """
    plugin = f"plug-in {entry.name} ({entry.value})"
    try:
        part = entry.load()
    except Exception as error:  # whatever a package does when it is imported
        raise InputError(
            f"{plugin} of {family} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(part, type) and issubclass(part, base)) or inspect.isabstract(part):
        raise InputError(
            f"{plugin} is no part of {family}: expected a subclass of "
            f"{base.__module__}.{base.__name__} with all its methods"
        )
    kind = part.model_fields.get("kind")
    if kind is None or get_origin(kind.annotation) is not Literal or kind.is_required():
        raise InputError(
            f"{plugin} is no part of {family}: expected a field such as "
            f'kind: Literal["{entry.name}"] = "{entry.name}"'
        )
    return part
