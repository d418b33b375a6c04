"""Small files that would grow or nest without end; run in a process with little memory and time.

`python bombs.py FOLDER` writes each into the folder, validates it, and prints a line of JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fedsim.cli import main

MEMORY = 3 * 2**30
"""Bytes of address space, most of which libraries reserve and never use."""
SIZE = 290_000
HEAD = "version: 1\nname: bomb\n"


def bombs(valid: str) -> Iterator[tuple[str, str]]:
    """Yield names and texts."""
    laughs = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    yield "billion laughs", "\n".join(["a0: &a0 [lol, lol]", *laughs])
    merges = [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 20)]
    yield "billion merges", "\n".join(["a0: &a0 {b: 1}", *merges])
    yield "quadratic text", f"a: &a {'x' * 90_000}\nb: [{', '.join(['*a'] * 40_000)}]"
    yield "quadratic keys", f"a: &a {{{'x' * 900}: 1}}\nb: [{', '.join(['*a'] * 60_000)}]"
    yield "quadratic list", f"a: &a [{'1,' * 20_000}]\nb: [{', '.join(['*a'] * 40_000)}]"
    yield "empty aliases", f"a: &a ''\nb: &b [{'*a,' * 60_000}]\nc: [*b, *b, *b, *b]"
    yield (
        "long merge",
        f"a: &a {{{', '.join(f'b{n}: 1' for n in range(9_000))}}}\n"
        + "\n".join(f"c{n}: {{<<: *a}}" for n in range(5_000)),
    )
    chain = [f"a{n}: &a{n} {{<<: *a{n - 1}}}" for n in range(1, 7_000)]
    yield "chain of merges", "\n".join(["a0: &a0 {b: 1}", *chain])
    chain = [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 9_000)]
    yield "chain of aliases", "\n".join(["a0: &a0 1", *chain])
    yield "deep lists", "a: " + "[" * 10_000 + "]" * 10_000
    yield "deep sections", "a: " + "{a: " * 10_000 + "}" * 10_000
    yield "deep lists in lines", "a:\n" + "[\n" * 90_000
    yield "deep block lists", "- " * (SIZE // 2)
    yield "deep block sections", "\n".join(f"{' ' * n}a:" for n in range(700))
    yield "deep keys", "? " * (SIZE // 2)
    yield "many keys", HEAD + "\n".join(f"key{n}: 1" for n in range(20_000))
    yield "many near keys", HEAD + "\n".join(f"rounds{n}: 1" for n in range(20_000))
    yield "many keys twice", "a: 1\n" * 50_000
    yield "many lines", HEAD + "\n" * (SIZE - 100)
    yield "many comments", HEAD + "# comment\n" * 28_000
    yield "many items", HEAD + f"rounds: [{'1,' * (SIZE // 2 - 50)}]"
    yield "many anchors", HEAD + "a: [" + ", ".join(f"&a{n} 1" for n in range(22_000)) + "]"
    yield "many numbers", HEAD + f"rounds: [{'.nan,' * (SIZE // 5 - 50)}]"
    for name, old, new in (
        ("metrics", "metrics: [auroc, loss]", f"metrics: [{'a,' * 130_000}]"),
        ("new metrics", "metrics: [auroc, loss]", f"metrics: [{_words(20_000)}]"),
        ("site names", "holdout_sites: []", f"holdout_sites: [{_words(20_000)}]"),
        ("equal names", "holdout_sites: []", f"holdout_sites: [{'site-00,' * 30_000}]"),
        ("classes", "class_names: [healthy, ill]", f"class_names: [{_words(20_000)}]"),
        ("label map", "label_map: {", f"label_map: {{{_numbered(18_000)}, "),
        ("widths", "widths: [8, 16]", f"widths: [{'8,' * 130_000}]"),
        ("sizes", "kind: dirichlet\n    alpha: 1.0", f"kind: sizes\n    sizes: [{'1,' * 130_000}]"),
        ("devices", "  devices:\n", "  devices:\n" + "    - {profile: l4, share: 1}\n" * 9_000),
        ("outages", "  outages:\n", "  outages:\n" + "    - {sites: [x]}\n" * 12_000),
        ("attacks", "adversaries:\n", "adversaries:\n" + "    - {kind: sign_flip}\n" * 9_000),
        ("description", "changed at one place", "x" * 280_000),
        ("site name", "holdout_sites: []", f"holdout_sites: [site-{'9' * 280_000}]"),
        ("digits", "rounds: 4", f"rounds: {'9' * 280_000}"),
        ("hexadecimal", "rounds: 4", f"rounds: 0x{'f' * 280_000}"),
        ("decimals", "signal: 1.0", f"signal: 0.{'1' * 280_000}"),
        ("exponent", "signal: 1.0", f"signal: 1e{'9' * 280_000}"),
        ("sexagesimal", "signal: 1.0", f"signal: !!float {'1:' * 140_000}1"),
        ("key", "rounds: 4", f"{'r' * 280_000}: 4"),
        ("odd key", "rounds: 4", f"? {'rounds' * 45_000}\n: 4"),
        ("kind", "kind: small_cnn", f"kind: {'small_cnn' * 30_000}"),
    ):
        assert old in valid, old
        yield name, valid.replace(old, new)
    yield "quotes", "a: '" + "''" * 140_000
    yield "escapes", 'a: "' + r"\x41" * 70_000 + '"'
    yield "tag", f"a: !{'x' * 280_000} b"
    yield "tags", "a: " + "!x " * 90_000
    yield "percent", "a: !" + "%41" * 90_000 + " b"
    yield "version", f"%YAML {'1' * 280_000}.1\n---\na: 1"
    yield "directives", "".join(f"%TAG !{n}! x\n" for n in range(15_000)) + "---\na: 1"
    yield "documents", "--- a\n" * 45_000
    yield "block text", "a: |\n" + "  x\n" * 70_000
    yield "folded text", "a: >\n" + "  x\n\n" * 55_000
    yield "plain text", "a:\n" + "  x\n" * 70_000
    yield "blanks", "a:" + " " * 280_000 + "b"
    yield "commas", "a: [" + "," * 280_000
    yield "colons", ":" * 280_000
    yield "brackets", "]" * 280_000


def _words(num: int) -> str:
    return ", ".join(f"word{n}" for n in range(num))


def _numbered(num: int) -> str:
    return ", ".join(f"{n}: {n}" for n in range(5, num))


def _validate(path: Path) -> tuple[int, str]:
    sys.argv = ["fedsim", "validate", str(path)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as exit_:
            return int(exit_.code or 0), said.getvalue()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for name, text in bombs((Path(__file__).parent / "scenario.yaml").read_text(encoding="utf-8")):
        path = folder / "bomb.yaml"
        path.write_text(text, encoding="utf-8")
        began = time.process_time()
        code, said = _validate(path)
        seconds = time.process_time() - began
        row = {"name": name, "size": len(text), "code": code, "seconds": seconds, "said": said}
        sys.stdout.write(json.dumps(row) + "\n")
