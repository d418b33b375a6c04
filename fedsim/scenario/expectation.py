"""What a key of a scenario expects, in the words of someone who writes YAML.

Everything is read from the JSON Schema, so a part says it once, in its fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]
NAMES = {
    "integer": ("a whole number", "whole numbers"),
    "number": ("a number", "numbers"),
    "string": ("text", "texts"),
    "boolean": ("true or false", "true or false"),
}
BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


@dataclass(frozen=True)
class Expectation:
    """One place of the schema.

    Args:
        schema: what is said of this place.
        definitions: of the whole schema.
    """

    schema: Schema
    definitions: Schema

    @cached_property
    def options(self) -> list[Schema]:
        """The alternatives that a value may follow, null left out; kinds of a family are one."""
        return [s for s in self._flat(self.schema) if s.get("type") != "null"]

    @property
    def takes_null(self) -> bool:
        """Whether null is a value."""
        return any(s.get("type") == "null" for s in self._flat(self.schema))

    @property
    def is_union(self) -> bool:
        """Whether pydantic names the alternative it tried in the location of an error."""
        return len(self.options) > 1 or "discriminator" in self.options[0]

    @property
    def kinds(self) -> list[str]:
        """The kinds to choose from, if this is a family."""
        return [k for s in self.options for k in s.get("discriminator", {}).get("mapping", {})]

    def keys(self, data: Any) -> dict[str, Schema]:
        """Return the keys of this section, those of the kind that `data` names."""
        kind = data.get("kind") if isinstance(data, dict) else None
        for option in self.options:
            if "discriminator" in option:
                reference = option["discriminator"]["mapping"].get(str(kind))
                option = self._resolved({"$ref": reference}) if reference else {}
            if "properties" in option:
                return dict(option["properties"])
        return {}

    def child(self, part: str | int, data: Any) -> Expectation | None:
        """Return what is expected of a key or list item below, None if it is unknown."""
        found: Schema | None = None
        if isinstance(part, int):
            found = next((s["items"] for s in self.options if "items" in s), None)
        elif part in (keys := self.keys(data)):
            found = keys[part]
        else:
            values = (s.get("additionalProperties") for s in self.options)
            found = next((v for v in values if isinstance(v, dict)), None)
        return None if found is None else Expectation(found, self.definitions)

    def words(self) -> str:
        """Return what is expected, such as "a whole number > 0"."""
        options = self.options
        if {s.get("type") for s in options} >= {"integer", "number"}:
            options = [s for s in options if s.get("type") != "integer"]
        return " or ".join(dict.fromkeys(map(self._words, options)))

    @property
    def constants(self) -> list[Any]:
        """The fixed values to choose from, if there are any."""
        return [c for option in self.options for c in _constants(option)]

    @property
    def choices(self) -> list[str]:
        """The words to choose from, if there are any."""
        return [*self.kinds, *(c for c in self.constants if isinstance(c, str))]

    def _words(self, option: Schema) -> str:
        if constants := _constants(option):
            shown = ", ".join(map(str, constants))
            return f"`{shown}`" if len(constants) == 1 else f"one of {shown}"
        if self.kinds:
            return f"a section with `kind`, one of {', '.join(self.kinds)}"
        if "properties" in option:
            return f"a section with the keys {', '.join(option['properties'])}"
        if "items" in option and (kinds := Expectation(option["items"], self.definitions).kinds):
            return f"a list of sections with `kind`, one of {', '.join(kinds)}"
        if "items" in option:
            least = ", at least one" * bool(option.get("minItems"))
            return f"a list of {self._plural(option['items'])}{least}"
        if option.get("type") == "object" and not isinstance(option["additionalProperties"], dict):
            return "a section"
        if option.get("type") == "object":
            return f"a section whose values are {self._plural(option['additionalProperties'])}"
        if "pattern" in option and "description" in self.schema:
            return str(self.schema["description"])
        return NAMES.get(str(option.get("type")), ("something else", ""))[0] + _range(option)

    def _plural(self, item: Schema) -> str:
        resolved = self._flat(item)
        if len(resolved) > 1:
            return "numbers, texts, true or false"
        if not resolved[0]:
            return "values"
        return NAMES.get(str(resolved[0].get("type")), ("", "sections"))[1] + _range(resolved[0])

    def _flat(self, schema: Schema) -> list[Schema]:
        resolved = self._resolved(schema)
        if "anyOf" in resolved:
            return [s for option in resolved["anyOf"] for s in self._flat(option)]
        return [resolved]

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self.definitions[schema["$ref"].rpartition("/")[2]]
        return schema


@cache
def of(model: type[BaseModel]) -> Expectation:
    """Return what a model expects as a whole."""
    schema = model.model_json_schema()
    return Expectation(schema, schema.get("$defs", {}))


def _constants(option: Schema) -> list[Any]:
    return [option["const"]] if "const" in option else list(option.get("enum", []))


def _range(option: Schema) -> str:
    bounds = [f"{sign} {option[name]:.15g}" for name, sign in BOUNDS.items() if name in option]
    return " " * bool(bounds) + " and ".join(bounds)
