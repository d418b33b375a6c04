"""Journals only grow and are never rewritten; whole files are there or not."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError, RunError
from fedsim.records.files import Journal, read_lines, sweep, to_line, write_text, write_whole

ROWS = [{"round": r, "value": v} for r, v in enumerate([0.1 + 0.2, None, -0.0, 5e-324])]
LINE_LIKE = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh\ni"
"""Everything that `str.splitlines` takes for the end of a line."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def test_rows_are_read_as_they_were_appended(file: Path) -> None:
    journal = Journal(file)
    assert read_lines(file) == []
    journal.append(ROWS[:1])
    journal.append([])
    journal.append(ROWS[1:])
    assert read_lines(file) == ROWS
    assert read_lines(file.with_name("missing")) == []


@given(st.recursive(st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
def test_a_row_is_one_line_and_keeps_every_bit(value: Any) -> None:
    line = to_line({"value": value})
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert repr(json.loads(line)) == repr({"value": value})


def test_equal_rows_are_not_written_again(file: Path) -> None:
    Journal(file).append(ROWS)
    before = file.read_bytes()
    again = Journal(file)
    again.append(ROWS[:2])
    again.append(ROWS[2:])
    assert file.read_bytes() == before
    again.append([{"round": 4}])
    assert file.read_bytes() == before + b'{"round": 4}\n'


def test_a_replay_may_go_from_recorded_rows_to_new_ones_in_one_call(file: Path) -> None:
    Journal(file).append(ROWS[:3])
    Journal(file).append(ROWS)
    assert read_lines(file) == ROWS


def test_a_different_replay_is_refused_with_file_line_and_both_rows(file: Path) -> None:
    Journal(file).append(ROWS)
    before = file.read_bytes()
    journal = Journal(file)
    changed = {"round": 1, "value": 7}
    with pytest.raises(RunError) as raised:
        journal.append([ROWS[0], changed, *ROWS[2:], {"round": 4}])
    for part in (str(file), "line 2", to_line(ROWS[1]).strip(), to_line(changed).strip()):
        assert part in str(raised.value)
    assert file.read_bytes() == before


def test_a_last_bit_is_a_difference(file: Path) -> None:
    Journal(file).append([{"round": 0, "value": 0.1}])
    with pytest.raises(RunError, match="line 1"):
        Journal(file).append([{"round": 0, "value": float(np.nextafter(0.1, 1))}])


@pytest.mark.parametrize("num", range(7))
def test_skip_goes_on_after_the_rows_of_a_seal(file: Path, num: int) -> None:
    rows = [{"round": r, "site": site} for r in (0, 2, 4) for site in ("a", "b")]
    first = Journal(file)
    first.append(rows[:num])
    seal = first.seal()
    first.append(rows[num:])
    before = file.read_bytes()
    journal = Journal(file)
    journal.skip(seal)
    journal.append(rows[num:])
    assert file.read_bytes() == before
    assert journal.seal() == first.seal()
    journal.append([{"round": 6}])
    assert read_lines(file) == [*rows, {"round": 6}]


@pytest.mark.parametrize("text", [LINE_LIKE, "Universität 大学 🏥", "\x7f\x00"])
def test_any_text_is_replayed_and_read(file: Path, text: str) -> None:
    rows = [{"round": r, "site": text} for r in range(3)]
    Journal(file).append(rows)
    before = file.read_bytes()
    assert before.count(b"\n") == 3
    again = Journal(file)
    again.append(rows)
    assert file.read_bytes() == before
    assert read_lines(file) == rows


@pytest.mark.parametrize("damage", ["emptied", "shortened", "changed"])
def test_rows_that_a_seal_covers_must_be_there(file: Path, damage: str) -> None:
    journal = Journal(file)
    journal.append([{"round": r, "value": 1} for r in range(3)])
    lines = file.read_text().splitlines(keepends=True)
    if damage == "changed":
        lines[0] = to_line({"round": 0, "value": 2})
    file.write_text("".join({"emptied": [], "shortened": lines[:2], "changed": lines}[damage]))
    with pytest.raises(InputError, match="rows that the checkpoint builds on are missing or"):
        Journal(file).skip(journal.seal())


def test_a_line_torn_anywhere_is_removed_and_written_anew(file: Path) -> None:
    rows = [{"round": 0, "site": "Genève"}, {"round": 1, "site": "Zürich 🏥"}]
    Journal(file).append(rows)
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        kept = rows[: cut >= first]
        assert read_lines(file) == kept
        journal = Journal(file)
        assert file.read_bytes() == (whole[:first] if kept else b"")
        journal.append(rows)
        assert file.read_bytes() == whole


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_number_that_json_lacks_is_written(file: Path, value: float) -> None:
    journal = Journal(file)
    with pytest.raises(ValueError, match="JSON"):
        journal.append([{"round": 0}, {"round": 1, "value": [value]}])
    assert file.read_bytes() == b""


def test_a_journal_that_cannot_be_written_is_named(file: Path) -> None:
    journal = Journal(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(RunError, match=r"rows\.jsonl: cannot be written: Is a directory"):
        journal.append(ROWS)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_text(file, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(file, fail)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_old_file_is_whole_until_the_new_one_is(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_text(file, "old")

    def look(temporary: Path) -> None:
        temporary.write_text("new")
        assert file.read_text() == "old"
        assert temporary.parent == file.parent  # one file system, so that replacing is atomic

    write_whole(file, look)
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_what_the_system_says_is_a_run_error_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"absent/file: cannot be written: No such file"):
        write_text(tmp_path / "absent" / "file", "text")


def test_text_is_utf_8_and_readable_as_other_files_are(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "Zürich\u2028")
    (tmp_path / "plain").touch()
    assert (tmp_path / "ours").read_bytes() == "Zürich\u2028".encode()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain")]
    assert modes[0] == modes[1]


def test_sweep_removes_leftovers_alone(tmp_path: Path) -> None:
    for name in (".file.123.tmp", "file", ".hidden", "other.tmp"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"file", ".hidden", "other.tmp"}
