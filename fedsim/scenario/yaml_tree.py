"""YAML text with the place of every key, so that an error can point at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from fedsim.errors import ScenarioError

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Tree:
    """A parsed YAML document.

    Args:
        data: plain data.
        places: (line, column), 1-based, of the key (or list item) at each path.
        origin: the file's name, as errors print it.
    """

    data: Any
    places: dict[Path, tuple[int, int]]
    origin: str

    def where(self, path: Path) -> str:
        """Return `file:line:column` of the path, or of the nearest place above it."""
        while path and path not in self.places:
            path = path[:-1]
        line, column = self.places.get(path, (1, 1))
        return f"{self.origin}:{line}:{column}"


def parse(text: str, origin: str) -> Tree:
    """Parse one YAML document.

    Raises:
        ScenarioError: if the text is no YAML or gives a key twice.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ScenarioError(f"{origin}:{line}:{column}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ScenarioError(f"{origin}:1:1: not valid YAML: {error}") from error
    tree = Tree(data, {}, origin)
    if node is not None:
        _locate(node, (), tree)
    return tree


def _locate(node: yaml.Node, path: Path, tree: Tree) -> None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = yaml.safe_load(yaml.serialize(key_node))
            here = (*path, key)
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if here in tree.places:
                first = tree.places[here]
                raise ScenarioError(
                    f"{tree.origin}:{place[0]}:{place[1]}: {dotted(here)}: this key is given "
                    f"twice, first on line {first[0]}; keep one"
                )
            tree.places[here] = place
            _locate(value_node, here, tree)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            tree.places[(*path, index)] = (item.start_mark.line + 1, item.start_mark.column + 1)
            _locate(item, (*path, index), tree)


def dotted(path: Path) -> str:
    """Return the path as `--set` takes it.

    >>> dotted(("model", "widths", 0))
    'model.widths.0'
    """
    return ".".join(map(str, path))
