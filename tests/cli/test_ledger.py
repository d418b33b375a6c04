"""`fedsim ledger` and the privacy part of `fedsim plan`, as they are used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedsim.cli import app, ledger_command
from fedsim.errors import InputError, RunError
from fedsim.privacy import balance, cross_checks
from fedsim.privacy.dp_sgd import Steps
from fedsim.privacy.ledger import Entry
from fedsim.records import RunFolder, read
from fedsim.scenario import Scenario
from fedsim.simulate import run


def entry(round: int, site: str, noise: float) -> Entry:
    event = Steps(noise, 0.1, 10).event()
    return Entry(round, site, "local model", "example", "replace_special", 500, "x", event)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a ledger without its run."""
    rows = [
        Entry(0, None, "losses"),
        *(entry(round, site, noise) for round in (1, 2) for site, noise in (("a", 1), ("b", 2))),
        entry(2, "b", 2),
    ]
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(json.dumps(row.row()) + "\n" for row in rows))
    return path


def printed(*arguments: Any) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None, result.exception
    return result.stdout


def test_it_needs_nothing_but_the_file(file: Path) -> None:
    text = printed("ledger", file, "--delta", 1e-5)
    assert "20 x Gaussian 1, q 0.1" in text
    for accountant in ("RDP", "Opacus RDP", "Opacus PRV"):
        assert accountant in " ".join(text.split())
    assert "that of a" in " ".join(text.split())
    assert "times in a hundred" in " ".join(text.split())
    assert "- losses" in text
    assert printed("ledger", file.parent, "--delta", 1e-5) == text


def test_as_data_it_says_the_same_at_any_delta(file: Path) -> None:
    said = [
        json.loads(printed("ledger", file, "--delta", delta, "--json")) for delta in (1e-5, 1e-3)
    ]
    for found in said:
        assert [account["site"] for account in found["accounts"]] == ["a", "b"]
        assert [account["num_rounds"] for account in found["accounts"]] == [2, 2]
        (verdict,) = found["federation"]
        assert verdict["account"]["site"] == "a"
        assert verdict["bounds"]["high"] == found["accounts"][0]["epsilon"]
    assert said[0]["accounts"][0]["epsilon"] > said[1]["accounts"][0]["epsilon"]


def test_a_delta_that_means_nothing_is_warned_of(file: Path) -> None:
    result = CliRunner().invoke(app, ["ledger", str(file), "--delta", "0.01"])
    assert "is not below 1 / 500" in result.stderr


def test_accountants_that_contradict_each_other_are_an_alarm(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "cross_checks", lambda *_: {cross_checks.RDP: 0.1})
    balance._figures.cache_clear()
    result = CliRunner().invoke(app, ["ledger", str(file), "--delta", "1e-5"])
    balance._figures.cache_clear()
    assert isinstance(result.exception, RunError)
    assert "one of the accountants is wrong" in str(result.exception)


def test_what_is_no_ledger_is_said(tmp_path: Path, file: Path) -> None:
    with pytest.raises(InputError, match="there is no such file or folder"):
        ledger_command.ledger(tmp_path / "none")
    (tmp_path / "study").mkdir()
    with pytest.raises(InputError, match="is no run folder"):
        ledger_command.ledger(tmp_path / "study")
    (tmp_path / "study" / "study.json").touch()
    with pytest.raises(InputError, match=f"give one of its runs, which lie in {tmp_path}/cells"):
        ledger_command.ledger(tmp_path / "study")
    with pytest.raises(InputError, match="give --delta"):
        ledger_command.ledger(file)
    for delta in (2.0, 1.0, 1e-14, 0.0, -1.0):
        with pytest.raises(InputError, match="below 1 and at least 1e-09"):
            ledger_command.ledger(file, delta=delta)


def test_a_ledger_that_ends_within_a_line_is_not_read_as_a_shorter_one(file: Path) -> None:
    whole = file.read_bytes()
    for part in (whole[:-1], whole[:-9], whole[:9], b""):
        file.write_bytes(part)
        with pytest.raises(InputError, match="its last line is cut off"):
            ledger_command.ledger(file, delta=1e-5)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Return the folder of a run of three private rounds whose last checkpoint is of the second."""
    folder = RunFolder.create(
        tmp_path / "run",
        scenario={
            "rounds": 3,
            "evaluation": {"select_by": "auroc"},
            "privacy": {"delta": 1e-5},
        },
        digest="d1",
        population={"sites": [], "class_names": [], "images": {}, "checksums": {}},
        keep_every=None,
    )
    for round in (1, 2, 3):
        folder.add_releases([entry(round, "a", 1).row()])
        folder.add_round({"round": round})
        if round < 3:
            folder.save_checkpoint(round, {})
    folder.close()
    return folder.path


def test_a_ledger_that_the_checkpoint_contradicts_is_refused(recorded: Path) -> None:
    file = recorded / "ledger.jsonl"
    first, second, third = file.read_bytes().splitlines(keepends=True)
    cheaper = first.replace(b'"noise_multiplier": 1', b'"noise_multiplier": 5')
    assert cheaper != first
    for wrong in ([first], [second, third], [second, first], [cheaper, second, third]):
        file.write_bytes(b"".join(wrong))
        with pytest.raises(InputError, match=r"ledger\.jsonl: rows .* are missing or changed"):
            ledger_command.ledger(recorded)


def test_nobody_reports_audits_or_exports_a_finished_run_whose_ledger_was_changed(
    tiny: Callable[..., Scenario], tmp_path: Path, fedsim: Any
) -> None:
    mechanism = {"kind": "example_level", "noise_multiplier": 1.0}
    scenario = tiny(privacy={"mechanism": mechanism, "delta": 1e-4}, rounds=2)
    folder = run(scenario, out=tmp_path, device="cpu").folder
    file = folder / "ledger.jsonl"
    as_it_was = file.read_bytes()
    first, *others = as_it_was.splitlines(keepends=True)
    cheaper = as_it_was.replace(b'"noise_multiplier": 1.0', b'"noise_multiplier": 9.0')
    assert cheaper != as_it_was
    for wrong in (cheaper, b"".join(others), as_it_was[:-1], as_it_was + first[:9]):
        file.write_bytes(wrong)
        for command in ("report", "audit", "export", "ledger"):
            code, _, err = fedsim(command, folder)
            assert (code, "ledger.jsonl" in " ".join(err.split())) == (2, True), command
    file.write_bytes(as_it_was)
    assert read(folder).finished


def test_a_private_run_without_its_ledger_is_no_run_without_privacy(recorded: Path) -> None:
    (recorded / "ledger.jsonl").unlink()
    with pytest.raises(InputError, match=r"is missing .* although the run is private"):
        ledger_command.ledger(recorded)


def test_an_event_that_is_none_is_told_by_its_line(file: Path) -> None:
    first, *others = file.read_text().splitlines(keepends=True)
    wrong = others[0].replace('"Gaussian"', '"Gausian"')
    assert wrong != others[0]
    file.write_text("".join([first, wrong, *others[1:]]))
    with pytest.raises(InputError, match="line 2: a ledger's event is one of"):
        ledger_command.ledger(file, delta=1e-5)


def test_no_accountant_goes_below_zero(file: Path) -> None:
    """At so large a delta Opacus' PRV accountant does, and its GDP finds no root."""
    result = CliRunner().invoke(app, ["ledger", str(file), "--delta", "0.5"])
    assert result.exit_code == 0, result.stderr


def test_what_no_checkpoint_vouches_for_is_said(recorded: Path, file: Path) -> None:
    said = "taken as complete"
    assert said not in CliRunner().invoke(app, ["ledger", str(recorded)]).stderr
    assert said in CliRunner().invoke(app, ["ledger", str(file), "--delta", "1e-5"]).stderr
    (recorded / "checkpoints" / "round-00002.safetensors").unlink()
    (recorded / "checkpoints" / "round-00001.safetensors").unlink(missing_ok=True)
    assert said in CliRunner().invoke(app, ["ledger", str(recorded)]).stderr


@pytest.mark.parametrize(
    "content", [b"version: 1\nname: x\n", b"3\n", b"[1]\n", b"{}\n", b'{"round": "\xff"}\n']
)
def test_what_is_no_ledger_is_said_to_be_none(fedsim: Any, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ledger.jsonl"
    file.write_bytes(content)
    code, _, err = fedsim("ledger", file)
    assert code == 2
    assert f"{file}: is no ledger of a run" in err
