"""What is wrong with a text that is no YAML, in the words of someone who writes it."""

from __future__ import annotations

import yaml

from fedsim.errors import ScenarioError

MEANINGS = {
    "'\\t'": "a tab; indent with spaces",
    "mapping values are not allowed here": "a key cannot begin here; check the indentation and "
    "the `: ` of this line and of the one above, and put text with `: ` in it in quotes",
    "could not find expected ':'": "a key without `: `; is it, or its space, missing here?",
    "sequence entries are not allowed here": "a `- ` where no list can begin; give it its own line",
    "expected <block end>": "this cannot follow what is above; is it indented like its neighbours?",
    "expected '<document start>'": "this cannot follow what is above; is it indented wrongly?",
    "but found '<stream end>'": "the text ends where a value is expected; is a bracket not closed?",
    "expected ',' or ']'": "no `,` or `]` where one is expected; the `[` is on line {opened}",
    "expected ',' or '}'": "no `,` or `}}` where one is expected; the `{{` is on line {opened}",
    "found unexpected end of stream": "the quotes that open on line {opened} are not closed",
    "but found another document": "another document; a file has one, take the line `---` away",
    "second occurrence": "an anchor (&) whose name is taken; call it something else",
}
"""What PyYAML says -> what is meant."""
ADVICE = {
    "that cannot start any token": "put text that begins with it in quotes",
    "found unknown escape character": "use single quotes, in which a backslash is one",
    "hexadecimal numbers": "use single quotes, in which a backslash is one",
    "found undefined alias": "put text that begins with * in quotes",
    "expected alphabetic or numeric": "put text that begins with *, & or % in quotes",
    "expected the node content": "a value is missing, or text needs quotes",
}
"""What PyYAML says -> what to do."""


def unprintable(error: yaml.reader.ReaderError, text: str, origin: str) -> ScenarioError:
    """Return the error that says where a character is that no text has, such as NUL."""
    before = text[: error.position]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return _error(origin, line, column, "a character that text cannot hold; take it out")


def explained(error: Exception, here: yaml.Mark, origin: str) -> ScenarioError:
    """Return the error that says where and how to mend the text.

    Args:
        error: raised by PyYAML.
        here: how far it has read.
        origin: the file's name, as errors print it.
    """
    if not isinstance(error, yaml.MarkedYAMLError):
        what = "an escape or version whose number is too large"
        return _error(origin, here.line + 1, here.column + 1, what)
    mark = error.problem_mark or error.context_mark or here
    if error.context == "while scanning a simple key" and error.context_mark:
        mark = error.context_mark  # the key, not where the search for its colon ended
    return _error(origin, mark.line + 1, mark.column + 1, _meaning(error))


def _error(origin: str, line: int, column: int, what: str) -> ScenarioError:
    return ScenarioError(f"{origin}:{line}:{column}: not valid YAML: {what}")


def _meaning(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem)
    opened = error.context_mark.line + 1 if error.context_mark else 0
    for said, meant in MEANINGS.items():
        if said in problem:
            return meant.format(opened=opened)
    advice = next((advice for said, advice in ADVICE.items() if said in problem), "")
    return f"{problem}; {advice}" if advice else problem
