"""YAML text with the place of every key, so that an error can point at it.

Scalars are those of YAML 1.2, which editors check: `1e-5` is a number, `yes` and `on` are text,
and `010` is ten. Anchors, aliases and the merge key `<<` work; a key that comes in by a merge has
its place where it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from fedsim.errors import ScenarioError
from fedsim.scenario.yaml_mistakes import explained, unprintable

Path = tuple[str | int, ...]
Place = tuple[int, int]

MERGE = "tag:yaml.org,2002:merge"
TAGS = {
    yaml.ScalarNode: {f"tag:yaml.org,2002:{t}" for t in ("null", "bool", "int", "float", "str")},
    yaml.SequenceNode: {"tag:yaml.org,2002:seq"},
    yaml.MappingNode: {"tag:yaml.org,2002:map"},
}
DEEPEST = 30
"""Sections and lists inside each other."""
MOST_SAID = 1_000_000
"""Characters and `OVERHEAD` of all keys and values, those of an alias wherever it stands: what no
file says that is not too large itself."""
OVERHEAD = 4
LONGEST_NUMBER = 1_000
"""Digits; Python needs long for more, and writes no more than a few thousand."""
TOO_DEEP = f"nested too deeply; nothing has more than {DEEPEST} levels"
LONGEST_SHOWN, MOST_SHOWN = 60, 20
"""Characters of a key, and keys, that a message names."""


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
        ScenarioError: if the text is no YAML, gives a key twice, is nested too deeply, or grows
            without measure by its aliases.
    """
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        raise unprintable(error, text, origin) from error
    builder = _Builder(loader)
    try:
        node = loader.get_single_node()
        data, places = (None, {}) if node is None else builder.build(node, ())
    except (yaml.MarkedYAMLError, OverflowError, ValueError) as error:
        raise explained(error, loader.get_mark(), origin) from error
    if builder.twice:
        raise ScenarioError("\n".join(_twice(builder.twice, origin)))
    return Tree(data, {(): (1, 1), **places}, origin)


def plain(text: str) -> Any:
    """Return the data of a document that fedsim wrote, read as carefully as any other.

    Raises:
        ScenarioError: as `parse`.
    """
    return parse(text, "the text").data


def write(data: dict[str, Any]) -> str:
    r"""Return plain data as a document that `parse` reads back as they are.

    >>> write({"name": "1e5", "rate": 1e-5})
    "name: '1e5'\nrate: 1.0e-05\n"
    """
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def dotted(path: Path) -> str:
    """Return the path as `--set` takes it; what is invisible is escaped, what is long is cut.

    >>> dotted(("model", "widths", 0))
    'model.widths.0'
    """
    return ".".join(_visible(str(part)) for part in path)


def _visible(key: str) -> str:
    shown = key if key and key.isprintable() else repr(key)[1:-1] or "''"
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[: LONGEST_SHOWN - 3]}..."


class _Loader(yaml.SafeLoader):
    """PyYAML with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, or refuse it before a deep one takes Python's whole stack."""
        if self.depth > DEEPEST:
            raise _error(self.peek_event(), TOO_DEEP)  # type: ignore[no-untyped-call]
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """Return a whole number; one with too many digits to be read is too large in any case."""
        text = str(node.value)
        if len(text) > LONGEST_NUMBER:
            return int(10**LONGEST_NUMBER)
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


class _Dumper(yaml.SafeDumper):
    """PyYAML that quotes text which either version of YAML takes for something else."""


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
        )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


class _Builder:
    """Turns nodes into data with places, and collects the keys that are given twice."""

    def __init__(self, loader: _Loader) -> None:
        self.twice: list[tuple[Path, Place, int]] = []
        self._loader = loader
        self._said = 0

    def build(self, node: yaml.Node, path: Path) -> tuple[Any, dict[Path, Place]]:
        """Return the node's data and the places of all keys in it."""
        self._measure(node, len(path))
        if node.tag not in TAGS[type(node)]:
            raise _error(node, f"the tag {_name_of_tag(node)} means nothing here; leave it out")
        if isinstance(node, yaml.ScalarNode):
            try:
                return self._loader.construct_object(node), {}
            except (ArithmeticError, LookupError, ValueError):
                shown = repr(str(node.value)[:LONGEST_SHOWN])
                raise _error(node, f"{shown} is not what its tag says") from None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        items: list[Any] = []
        places: dict[Path, Place] = {}
        for index, item in enumerate(node.value):
            here = (*path, index)
            data, below = self.build(item, here)
            items.append(data)
            places |= {here: _place(item), **below}
        return items, places

    def _mapping(
        self, node: yaml.MappingNode, path: Path, merges: int = 0
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
            self._measure(key_node, len(path))
            key = str(key_node.value)
            here = (*path, key)
            if key in data:
                self.twice.append((here, _place(key_node), places[here][0]))
            data[key], below = self.build(value_node, here)
            places |= {here: _place(key_node), **below}
        for source in merged:
            if not isinstance(source, yaml.MappingNode):
                raise _error(source, "`<<` takes a section, such as `<<: *name`")
            self._measure(source, merges)
            more, below = self._mapping(source, path, merges + 1)
            new = more.keys() - data.keys()
            data |= {key: more[key] for key in more if key in new}
            places |= {p: place for p, place in below.items() if p[len(path)] in new}
        return data, places

    def _measure(self, node: yaml.Node, depth: int) -> None:
        """Bound what few aliases can say: without end, or more than any memory holds."""
        if depth > DEEPEST:
            raise _error(node, TOO_DEEP)
        self._said += OVERHEAD + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
        if self._said > MOST_SAID:
            raise _error(node, "aliases repeat this too often; write out what is meant")


def _twice(found: list[tuple[Path, Place, int]], origin: str) -> Iterator[str]:
    """Yield what is said of keys that are given twice."""
    for path, (line, column), first in found[:MOST_SHOWN]:
        yield (
            f"{origin}:{line}:{column}: {dotted(path)}\n"
            f"  this key is given twice, first on line {first}; keep one"
        )
    if len(found) > MOST_SHOWN:
        yield f"... and {len(found) - MOST_SHOWN:,} more"


def _name_of_tag(node: yaml.Node) -> str:
    return _visible(str(node.tag).replace("tag:yaml.org,2002:", "!!"))


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _error(node: yaml.Node | yaml.Event, problem: str) -> yaml.MarkedYAMLError:
    mark: Any = node.start_mark
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
