"""The one door through which parts come in, ours and those of other packages.

A part is a frozen pydantic model with a literal field `kind` and the behaviour that its numbers
drive. A family is a list of parts (`BUILTIN` of its package) plus the entry points of the group
`fedsim.<family>`. A package adds a part in its pyproject:

    [project.entry-points."fedsim.strategies"]
    my_rule = "my_package.my_rule:MyRule"
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Annotated, Any, Union

from pydantic import BaseModel, ConfigDict, Field

from fedsim.errors import InputError


class Part(BaseModel):
    """Base of fedsim's own parts: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def kind_of(part: type[BaseModel]) -> str:
    """Return the `kind` by which a scenario names this part."""
    return str(part.model_fields["kind"].default)


def load(family: str, builtin: tuple[type[BaseModel], ...]) -> tuple[type[BaseModel], ...]:
    """Return the family's parts: built-in ones, then those of installed packages by name.

    Raises:
        InputError: if a plug-in is no part, or takes a `kind` that is already in use.
    """
    found = list(builtin)
    for entry in sorted(entry_points(group=f"fedsim.{family}"), key=lambda e: e.name):
        part = entry.load()
        if not (isinstance(part, type) and issubclass(part, BaseModel)) or (
            "kind" not in part.model_fields
        ):
            raise InputError(
                f"plug-in {entry.name} ({entry.value}) is no part of the family {family}: "
                "expected a pydantic model with a literal field `kind`"
            )
        if kind_of(part) in {kind_of(p) for p in found}:
            raise InputError(
                f"plug-in {entry.name} ({entry.value}) uses the kind {kind_of(part)!r}, "
                f"which {family} already has"
            )
        found.append(part)
    return tuple(found)


def union(parts: tuple[type[BaseModel], ...]) -> Any:
    """Return the type "one of `parts`, told apart by `kind`" for use as a field."""
    if len(parts) == 1:
        return parts[0]
    return Annotated[Union[parts], Field(discriminator="kind")]  # noqa: UP007
