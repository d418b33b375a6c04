"""Options and surroundings that nobody should give: told before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Refused = Callable[..., str]
LONG = "x" * 5000


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, base: str, valid_study: str) -> None:
    (tmp_path / "base.yaml").write_text(base, encoding="utf-8")
    (tmp_path / "study.yaml").write_text(valid_study, encoding="utf-8")
    (tmp_path / "file").write_text("mine", encoding="utf-8")


RUN = [
    (["--workers", "0"], "--workers 0: expected a number above 0, or auto"),
    (["--workers", "-1"], "--workers -1: expected a number above 0, or auto"),
    (["--workers", "abc"], "expected a number above 0, or auto"),
    (["--workers", "1.5"], "expected a number above 0, or auto"),
    (["--workers", ""], "expected a number above 0, or auto"),
    (["--workers", "²"], "expected a number above 0, or auto"),
    (["--workers", "9" * 5000], "expected a number above 0"),
    (["--device", "tpu"], "device 'tpu' cannot be used here"),
    (["--device", ""], "device '' cannot be used here"),
    (["--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
    (["--device", "cpu,cpu"], "name different devices of one type"),
    (["--device", "meta"], "expected cpu, cuda or mps"),
    (["--device", "cpu,"], "device '' cannot be used here"),
    (["--device", "../x"], "device '../x' cannot be used here"),
    (["--run-name", "a/b"], "run name 'a/b': use up to 100 letters"),
    (["--run-name", ""], "run name '': use up to 100 letters"),
    (["--run-name", ".."], "run name '..': use up to 100 letters"),
    (["--run-name", ".hidden"], "run name '.hidden': use up to"),
    (["--run-name", "x" * 101], "use up to 100 letters"),
    (["--run-name", "a\nb"], "run name 'a\\nb'"),
    (["--run-name=-rf"], "run name '-rf'"),
    (["--run-name", "é"], "use up to 100 letters"),
    (["--out", "file"], "file: is a file; expected a folder for run folders"),
    (["--out", "file/runs"], "Not a directory"),
    (["--out", "/dev/null"], "/dev/null"),
    (["--out", "/dev/null/runs"], "Not a directory"),
    (["--out", "/proc/runs"], "/proc/runs"),
    (["--out", LONG], "File name too long"),
    (["--keep-every", "0"], "Invalid value"),
    (["--keep-every", "-1"], "Invalid value"),
    (["--keep-every", "x"], "Invalid value"),
    (["--engine", "spark"], "Invalid value"),
    (["--engine", "spark"], "'own', 'flower'"),
    (["--set", ""], "expected key.path=value, such as --set rounds=3"),
    (["--set", "="], "expected key.path=value"),
    (["--set", "rounds"], "expected key.path=value"),
    (["--set", ".=1"], "expected key.path=value"),
    (["--set", "rounds=["], "--set rounds=[: value:1:2: not valid YAML"),
    (["--set", "rounds=a: b: c"], "not valid YAML"),
    (["--set", "rounds=!!python/object/apply:os.system ['touch canary']"], "means nothing here"),
    (["--set", "rounds=" + "[" * 5000], "nested too deeply"),
    (["--set", "a." * 5000 + "a=1"], "nested too deeply"),
    (["--set", "model.widths." + "9" * 5000 + "=8"], "model.widths has 2 entries"),
    (["--set", f"{LONG}=1"], "unknown key"),
    (["--set", "rounds=\udcff"], "not valid YAML: a character that text cannot hold"),
    (["--set", "\x1b[2J=1"], "--set \\x1b[2J=1: \\x1b[2J\n  expected text that can be shown"),
    (["--set", "rounds=0", "--set", "seed=-1"], "seed"),
    (["--nonsense"], "No such option"),
    (["base.yaml"], "unexpected extra argument"),
]


@pytest.mark.parametrize(("options", "says"), RUN, ids=lambda value: str(value)[:50])
def test_a_run_is_refused(refused: Refused, options: list[str], says: str) -> None:
    assert says in refused("run", "base.yaml", *options)


STUDY = [
    (["--workers", "0"], "--workers 0: expected a number above 0, or auto"),
    (["--workers", "abc", "--dry-run"], "expected a number above 0, or auto"),
    (["--device", "tpu"], "device 'tpu' cannot be used here"),
    (["--device", "tpu", "--dry-run"], "device 'tpu' cannot be used here"),
    (["--pilot", "0"], "Invalid value"),
    (["--pilot", "1"], "Invalid value"),
    (["--pilot", "x"], "Invalid value"),
    (["--pilot", "1000000000"], "Invalid value"),
    (["--out", "file"], "file"),
    (["--out", "/dev/null"], "/dev/null"),
    (["--out", LONG], "File name too long"),
    (["--set", "seeds=0"], "--set seeds=0: seeds\n  expected a whole number > 0"),
    (["--set", "rounds=3"], "unknown key"),
    (["--set", "vary.client\\.epochs=[1]"], ""),
]


@pytest.mark.parametrize(("options", "says"), STUDY, ids=lambda value: str(value)[:50])
def test_a_study_is_refused(refused: Refused, options: list[str], says: str) -> None:
    assert says in refused("study", "study.yaml", *options)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan", "base.yaml", "--device", "tpu"], "device 'tpu' cannot be used here"),
        (["plan", "base.yaml", "--out", LONG], "File name too long"),
        (["plan", "base.yaml", "--run-name", "a/b"], "run name 'a/b'"),
        (["resume", "nowhere"], "nowhere"),
        (["resume", "file"], "file"),
        (["resume", "/dev/null"], "/dev/null"),
        (["resume", "."], "."),
        (["resume", LONG], "File name too long"),
        (["report", LONG], "File name too long"),
        (["report", "file"], "file"),
        (["cite", "file"], "file"),
        (["export", "file"], "file"),
        (["predict", "file", "file"], "file"),
        (["list", "../../etc/passwd"], "there is no section, family, kind or metric"),
        (["list", "\x1b[2J"], "'\\x1b[2J'"),
        (["data", "preview", "base.yaml", "--per-class", "0"], "Invalid value"),
        (["data", "preview", "base.yaml", "--split", "x"], "Invalid value"),
        (["data", "preview", "base.yaml", "--out", "."], "exists"),
        (["data", "unpack", "base.yaml", "file"], "file"),
        (["validate"], "Missing argument"),
        (["validate", "base.yaml", "file"], "unexpected extra argument"),
        (["vaildate", "base.yaml"], "No such command"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_other_commands_are_refused(refused: Refused, arguments: list[str], says: str) -> None:
    assert says in refused(*arguments)


REAL = (
    "version: 1\nname: real\nrounds: 1\n"
    "data: {source: {kind: medmnist, name: pneumoniamnist}, task: binary}\n"
    "population: {num_sites: 2, held_out: official}\nclient: {epochs: 1, batch_size: 8}\n"
)


@pytest.mark.parametrize("command", ["validate", "run", "plan"])
@pytest.mark.parametrize("folder", ["file", "nowhere", "base.yaml/x"])
def test_a_data_folder_that_is_none_is_refused(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, command: str
) -> None:
    (tmp_path / "real.yaml").write_text(REAL, encoding="utf-8")
    monkeypatch.setenv("FEDSIM_DATA_DIR", folder)
    said = refused(command, "real.yaml")
    assert "FEDSIM_DATA_DIR" in said


def test_a_cache_folder_that_is_none_costs_the_cache_alone(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSIM_CACHE_DIR", "file")
    answer = ask("plan", "base.yaml", "--json")
    assert answer.code == 0
    assert "Warning: cannot keep" in answer.err
