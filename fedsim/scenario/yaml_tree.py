"""YAML text with the place of every key, so that an error can point at it.

Scalars are those of YAML 1.2, which editors check: `1e-5` is a number, `yes` and `on` are text,
and `010` is ten. Anchors, aliases and the merge key `<<` work; a key that comes in by a merge has
its place where it is written.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import yaml

from fedsim.errors import ScenarioError

Path = tuple[str | int, ...]
Place = tuple[int, int]

MERGE = "tag:yaml.org,2002:merge"
TAGS = {f"tag:yaml.org,2002:{t}" for t in ("null", "bool", "int", "float", "str", "map", "seq")}


@dataclass(frozen=True)
class Tree:
    """A parsed YAML document.

    Args:
        data: plain data; keys are text, as written.
        places: (line, column), 1-based, of the key (or list item) at each path.
        origin: the file's name, as errors print it.
    """

    data: Any
    places: dict[Path, Place]
    origin: str

    def place(self, path: Path) -> Place:
        """Return line and column of the path, or of the nearest place above it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))

    def where(self, path: Path) -> str:
        """Return `file:line:column` of the path, or the origin alone if no places are known."""
        return ":".join([self.origin, *map(str, self.place(path) if self.places else ())])


def parse(text: str, origin: str) -> Tree:
    """Parse one YAML document.

    Raises:
        ScenarioError: if the text is no YAML or gives a key twice.
    """
    builder = _Builder()
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data, places = (None, {}) if node is None else builder.build(loader, node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = str(error.problem)
        if "'\\t'" in what:
            what = "a tab; indent with spaces"
        raise ScenarioError(f"{origin}:{line}:{column}: not valid YAML: {what}") from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise ScenarioError(
            f"{origin}:{line}:{column}: not valid YAML: a character that text cannot hold"
        ) from error
    except RecursionError as error:
        raise ScenarioError(f"{origin}: not valid YAML: nested endlessly") from error
    if builder.twice:
        raise ScenarioError(
            "\n".join(
                f"{origin}:{line}:{column}: {dotted(path)}\n"
                f"  this key is given twice, first on line {first}; keep one"
                for path, (line, column), first in builder.twice
            )
        )
    return Tree(data, places, origin)


def dotted(path: Path) -> str:
    """Return the path as `--set` takes it.

    >>> dotted(("model", "widths", 0))
    'model.widths.0'
    """
    return ".".join(map(str, path))


class _Loader(yaml.SafeLoader):
    """PyYAML with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_integer(self, node: yaml.ScalarNode) -> int | float:
        """Return a whole number; one with too many digits to be read is infinite."""
        text = str(node.value)
        try:
            return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        except ValueError:
            return math.inf


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


class _Builder:
    """Turns nodes into data with places, and collects the keys that are given twice."""

    def __init__(self) -> None:
        self.twice: list[tuple[Path, Place, int]] = []

    def build(self, loader: _Loader, node: yaml.Node, path: Path) -> tuple[Any, dict[Path, Place]]:
        """Return the node's data and the places of all keys in it."""
        if node.tag not in TAGS:
            raise _error(node, f"the tag {node.tag} means nothing here")
        if isinstance(node, yaml.ScalarNode):
            try:
                return loader.construct_object(node), {}
            except (KeyError, ValueError):
                raise _error(node, f"{node.value!r} is not what its tag says") from None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        items: list[Any] = []
        places: dict[Path, Place] = {}
        for index, item in enumerate(node.value):
            here = (*path, index)
            data, below = self.build(loader, item, here)
            items.append(data)
            places |= {here: _place(item), **below}
        return items, places

    def _mapping(
        self, loader: _Loader, node: yaml.MappingNode, path: Path
    ) -> tuple[dict[str, Any], dict[Path, Place]]:
        data: dict[str, Any] = {}
        places: dict[Path, Place] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == MERGE:
                listed = isinstance(value_node, yaml.SequenceNode)
                merged += value_node.value if listed else [value_node]
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise _error(key_node, "a key must be one word or number")
            key = str(key_node.value)
            here = (*path, key)
            if key in data:
                self.twice.append((here, _place(key_node), places[here][0]))
            data[key], below = self.build(loader, value_node, here)
            places |= {here: _place(key_node), **below}
        for source in merged:
            if not isinstance(source, yaml.MappingNode):
                raise _error(source, "`<<` takes a section, such as `<<: *name`")
            more, below = self._mapping(loader, source, path)
            new = more.keys() - data.keys()
            data |= {key: more[key] for key in more if key in new}
            places |= {p: place for p, place in below.items() if p[len(path)] in new}
        return data, places


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _error(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
