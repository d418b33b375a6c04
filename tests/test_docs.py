"""What the documentation shows works: commands and code are executed, scenarios validated.

A fenced block is one of

    ```bash                     executed by bash, in the order of the page
    ```python                   executed, in one namespace for the page
    ```yaml title="study.yaml"  written to this file (any language)
    ```yaml                     a scenario, a study, or sections of a scenario: validated

Titled blocks of extending.md are the files of a package that another test installs and runs.
`<!-- not run: why -->` on the line before a block says that it is a sketch. Pages of `EXECUTED` are
run as a whole; of the others, bash is parsed as far as it calls fedsim.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from fedsim.cli import app
from fedsim.scenario import Scenario, from_data, load_scenario
from fedsim.scenario.written import fitted
from fedsim.scenario.yaml_tree import parse
from fedsim.study.study_file import Study

HOME = Path(__file__).resolve().parent.parent
DOCS = HOME / "docs"
PAGES = [HOME / "README.md", *sorted(DOCS.glob("*.md"))]
EXECUTED = [DOCS / "tutorial.md"]
PACKAGE = HOME / "tests" / "plugin_package"
"""What the titled blocks of docs/extending.md are, word for word."""
FENCE = re.compile(
    r"^(?P<mark><!-- not run: [^\n]+ -->\n)?(?P<indent> *)```(?P<language>\w+)"
    r'(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)\n(?P=indent)```$',
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str
    sketch: bool

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            found["title"],
            textwrap.dedent(found["text"]),
            bool(found["mark"]),
        )
        for found in FENCE.finditer(text)
    ]


def of_language(language: str) -> list[Block]:
    """Return the blocks of all pages that are no sketches and no files."""
    return [
        block
        for page in PAGES
        for block in blocks(page)
        if block.language == language and not (block.sketch or block.title)
    ]


def test_every_fence_is_understood() -> None:
    for page in PAGES:
        fences = re.findall(r"^ *```\w*", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), page


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with the scenarios, with `fedsim` and `python` on the path."""
    (tmp_path / "scenarios").symlink_to(HOME / "scenarios")
    (tmp_path / "bin").mkdir()
    for name, arguments in (("fedsim", "-m fedsim"), ("python", "")):
        command = tmp_path / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(HOME))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def execute(page: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.sketch:
            continue
        if block.title:
            file = Path(block.title)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text + "\n", encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
        elif block.language == "bash":
            command = ["bash", "-euo", "pipefail", "-c", block.text]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, f"{block}\n{block.text}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.stem)
def test_a_page_works_from_top_to_bottom(page: Path) -> None:
    execute(page)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "page",
    sorted({block.page for block in of_language("python")} - set(EXECUTED)),
    ids=lambda page: page.stem,
)
def test_python_of_other_pages_runs(page: Path) -> None:
    names: dict[str, Any] = {}
    for block in of_language("python"):
        if block.page == page:
            exec(compile(block.text, str(block), "exec"), names)


@pytest.mark.parametrize("block", of_language("yaml"), ids=str)
def test_yaml_says_what_a_scenario_can_say(block: Block) -> None:
    found = parse(block.text, str(block)).data
    if "version" not in found:
        check_sections(found)
    elif "methods" in found:
        study, problems = fitted(Study, found, HOME / "scenarios")
        assert study is not None, problems
    else:
        from_data(found, str(block))


def check_sections(found: Mapping[str, Any]) -> None:
    """Check that these sections fit the contract, in place of those of the quickstart."""
    whole = load_scenario(HOME / "scenarios" / "quickstart.yaml").resolved()
    for section, keys in found.items():
        plain = isinstance(keys, dict) and "kind" not in keys
        whole[section] = {**(whole.get(section) or {}), **keys} if plain else keys
    scenario, problems = fitted(Scenario, whole, HOME / "scenarios")
    assert scenario is not None, problems


def commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every call of fedsim in a block."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["fedsim"]:
            end = min((words.index(end) for end in (">", "|", "&&") if end in words), default=None)
            yield words[1:end]


@pytest.mark.parametrize("block", of_language("bash"), ids=str)
def test_commands_are_those_of_the_command_line(block: Block) -> None:
    root = typer.main.get_command(app)
    for arguments in commands(block.text):
        context, command = click.Context(root, info_name="fedsim"), root
        while isinstance(command, click.Group) and arguments and arguments[0] != "--help":
            name, *arguments = arguments
            known = command.get_command(context, name)
            assert known is not None, f"{block}: there is no command {name}"
            command, context = known, click.Context(known, parent=context)
        if arguments:
            command.make_context("fedsim", list(arguments))


def test_a_wrong_command_would_be_noticed() -> None:
    (found,) = commands("echo | cat\nfedsim run x.yaml --sett a=b  # why")
    assert found == ["run", "x.yaml", "--sett", "a=b"]
    block = Block(DOCS, 1, "bash", None, "fedsim run x.yaml --sett a=b", False)
    with pytest.raises(click.NoSuchOption):
        test_commands_are_those_of_the_command_line(block)


def test_a_wrong_key_would_be_noticed() -> None:
    with pytest.raises(AssertionError, match="epoch"):
        check_sections({"client": {"epoch": 1}})


def test_files_of_the_extension_page_are_those_of_the_package() -> None:
    shown = {b.title: b.text for b in blocks(DOCS / "extending.md") if b.title}
    assert {"scenario.yaml", "pyproject.toml", "test_my_parts.py"} < set(shown)
    for name, text in shown.items():
        assert (PACKAGE / str(name)).read_text(encoding="utf-8") == text + "\n"


def test_links_lead_to_what_is_there() -> None:
    broken = [
        f"{page.name}: {link}"
        for page in PAGES
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert not broken
