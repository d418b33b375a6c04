"""Names of files behind which is no scenario: told at once, whatever is there."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Refused = Callable[..., str]
COMMANDS = ["validate", "run", "plan", "study", "cite"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/dev/null", "is a pipe or device, which is read once; expected a scenario file (YAML)"),
        ("/dev/zero", "is a pipe or device"),
        ("/dev/full", "is a pipe or device"),
        ("/dev/urandom", "is a pipe or device"),
        ("/proc/self/mem", "cannot be read: "),
        ("/proc/self/environ", "not valid YAML: a character that text cannot hold"),
        ("/proc/version", ":1:"),
        ("/", ""),
        (".", ""),
        ("", ""),
        ("none.yaml", "No such file or directory"),
        ("none/none.yaml", "No such file or directory"),
        ("x" * 300, "File name too long"),
        ("x/" * 3000, "File name too long"),
        ("a\nb\x1b[2J\u202e.yaml", "a\nb\\x1b[2J\\u202e.yaml: cannot be read"),
        ("\udcff.yaml", "No such file or directory"),
    ],
)
def test_what_is_no_file_is_refused(refused: Refused, name: str, says: str, command: str) -> None:
    if name.startswith("/") and not Path(name).exists():
        pytest.skip(f"needs {name}")
    assert says in refused(command, name)


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_waits_for_a_pipe(refused: Refused, tmp_path: Path, command: str) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "is a pipe or device" in refused(command, "pipe.yaml")


@pytest.mark.parametrize("command", COMMANDS)
def test_links_that_lead_nowhere_or_in_a_circle_are_refused(
    refused: Refused, tmp_path: Path, command: str
) -> None:
    (tmp_path / "broken.yaml").symlink_to("nowhere.yaml")
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    (tmp_path / "folder.yaml").symlink_to(".")
    assert "No such file or directory" in refused(command, "broken.yaml")
    assert "Too many levels of symbolic links" in refused(command, "circle.yaml")
    assert "folder" in refused(command, "folder.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(
    refused: Refused, tmp_path: Path, valid: str
) -> None:
    (tmp_path / "secret.yaml").write_text(valid, encoding="utf-8")
    (tmp_path / "secret.yaml").chmod(0)
    assert "secret.yaml: cannot be read: Permission denied" in refused("validate", "secret.yaml")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (codecs.BOM_UTF16_LE + "version: 1".encode("utf-16-le"), "1:1"),
        (codecs.BOM_UTF16_BE + "version: 1".encode("utf-16-be"), "1:1"),
        (codecs.BOM_UTF32_LE + "version: 1".encode("utf-32-le"), "1:1"),
        ("version: 1\nname: é\n".encode("latin-1"), "2:7"),
        ("version: 1\nname: ä-é\n".encode()[:-2], "2:9"),
        (b"\x89PNG\r\n\x1a\n", "1:1"),
        (b"\x1f\x8b\x08\x00", "1:2"),
        (b"name: \xc0\xaf", "1:7"),
        (b"name: \xed\xa0\x80", "1:7"),
        (b"name: \xf5\x80\x80\x80", "1:7"),
    ],
)
def test_what_is_no_text_in_utf_8_is_refused_where_it_begins(
    refused: Refused, tmp_path: Path, content: bytes, place: str
) -> None:
    (tmp_path / "bytes.yaml").write_bytes(content)
    says = f"bytes.yaml:{place}: is not text in UTF-8; expected a scenario file (YAML), saved as"
    assert refused("validate", "bytes.yaml").startswith(says)


def test_utf_16_without_a_mark_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes("version: 1".encode("utf-16-le"))
    assert "bytes.yaml:1:2: not valid YAML" in refused("validate", "bytes.yaml")


@pytest.mark.parametrize("num_bytes", [300_001, 10_000_000, 2**40])
def test_a_large_file_is_refused_unread(
    refused: Refused, tmp_path: Path, valid: str, num_bytes: int
) -> None:
    with (tmp_path / "large.yaml").open("w", encoding="utf-8") as file:
        file.write(valid)
        file.truncate(num_bytes)
    assert refused("validate", "large.yaml").startswith("large.yaml: has more than 300 kB")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_any_end_of_line_will_do(ask: Any, tmp_path: Path, valid: str, newline: str) -> None:
    (tmp_path / "lines.yaml").write_bytes(valid.replace("\n", newline).encode())
    assert ask("validate", "lines.yaml").code == 0
    text = valid.replace("rounds:", "ronds:").replace("\n", newline)
    (tmp_path / "lines.yaml").write_bytes(text.encode())
    assert ":6:1: ronds" in ask("validate", "lines.yaml").err


def test_a_file_that_changes_is_read_once(
    ask: Any, tmp_path: Path, valid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "changing.yaml"
    path.write_text(valid, encoding="utf-8")
    from fedsim.scenario import written

    def read_and_spoil(path: Path) -> str:
        text = path.read_text(encoding="utf-8")
        path.write_text("[", encoding="utf-8")
        return text

    monkeypatch.setattr(written, "read_text", read_and_spoil)
    assert ask("validate", path).code == 0


def test_a_study_is_no_scenario_and_a_scenario_no_study(
    refused: Refused, tmp_path: Path, valid: str, valid_study: str, base: str
) -> None:
    for name, text in (("a", valid), ("study", valid_study), ("base", base)):
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    assert "is a study; expected a scenario. Run it with `fedsim study`" in refused(
        "run", "study.yaml"
    )
    assert "is a study; expected a scenario" in refused("plan", "study.yaml")
    assert "is a scenario; expected a study. Run it with `fedsim run`" in refused("study", "a.yaml")
