"""Pages of the site that are no files of docs/: the README, the reference, and what pages link to.

Pages link to files of the repository by relative paths, which work where the repository is read.
Here such a file becomes a page of its own, and the link leads there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files
from reference import pages

HOME = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".json": "json"}
AS_THEY_ARE = (".html", ".png", ".svg")
"""What a browser shows without a page around it."""
FILES = "files"
"""Folder of the site that holds the pages of repository files."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    files.append(File.generated(config, "index.md", content=_read(HOME / "README.md")))
    waiting = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))]
    seen = set(waiting)
    while waiting:
        for target in _linked(waiting.pop()):
            if target in seen or target.is_relative_to(HOME / "docs"):
                continue
            seen.add(target)
            place = _place(target)
            if target.suffix in AS_THEY_ARE:
                files.append(File.generated(config, place, abs_src_path=str(target)))
                continue
            files.append(File.generated(config, place, content=_page(target)))
            if target.suffix == ".md":
                waiting.append(target)
    return files


def on_config(config: Any) -> Any:
    """Put the reference into the navigation."""
    config.nav.append({"Reference": list(pages())})
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to files of the repository lead to their pages."""
    origin = _origin(page.file.src_uri)
    if origin is None:
        return markdown
    folder = PurePosixPath(page.file.src_uri).parent

    def place(found: re.Match[str]) -> str:
        target = (origin.parent / found[1]).resolve()
        return os.path.relpath(_place(target), folder) if target.exists() else found[1]

    return LINK.sub(place, markdown)


def _origin(place: str) -> Path | None:
    """Return the Markdown file of the repository that a page shows, if it does."""
    if place == "index.md":
        return HOME / "README.md"
    if place.startswith(f"{FILES}/"):
        file = HOME / place.removeprefix(f"{FILES}/")
        return file if file.is_file() else None
    file = HOME / "docs" / place
    return file if file.is_file() else None


def _linked(page: Path) -> Iterator[Path]:
    for link in LINK.findall(_read(page)):
        target = (page.parent / link).resolve()
        if target.exists() and target.is_relative_to(HOME):
            yield target


def _place(target: Path) -> str:
    """Return where in the site a file or folder of the repository is."""
    if target == HOME / "README.md":
        return "index.md"
    if target.is_relative_to(HOME / "docs"):
        return target.relative_to(HOME / "docs").as_posix()
    place = f"{FILES}/{target.relative_to(HOME).as_posix()}"
    return place if target.suffix in (".md", *AS_THEY_ARE) else f"{place}.md"


def _page(target: Path) -> str:
    """Return a page that shows a file, or the files of a folder."""
    if target.suffix == ".md":
        return _read(target)
    files = [target] if target.is_file() else sorted(target.rglob("*.py"))
    shown = [f"# {target.relative_to(HOME).as_posix()}"]
    for file in files:
        if target.is_dir():
            shown.append(f"## {file.relative_to(target).as_posix()}")
        shown.append(f"~~~~~{LANGUAGES.get(file.suffix, 'text')}\n{_read(file)}\n~~~~~")
    return "\n\n".join(shown)


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")
