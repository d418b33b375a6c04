"""`fedsim audit`, as it is used."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from clients.dpsgd import train_private
from fedsim.audit import benches
from fedsim.records import RunRecord, read
from fedsim.report import write
from fedsim.scenario import Scenario
from fedsim.simulate import run

Fedsim = Callable[..., tuple[int, str, str]]
PRIVACY = {"mechanism": {"kind": "example_level", "noise_multiplier": 2.0}, "delta": 1e-4}


@pytest.fixture(scope="module")
def made(tiny: Callable[..., Scenario], tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """Return a finished private run."""
    return run(tiny(privacy=PRIVACY), out=tmp_path_factory.mktemp("runs"), device="cpu")


@pytest.fixture
def folder(made: RunRecord, tmp_path: Path) -> Path:
    """Return a run folder that may be changed."""
    return Path(shutil.copytree(made.folder, tmp_path / "run"))


def sums(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(f.relative_to(folder)): hashlib.md5(f.read_bytes()).hexdigest() for f in files}


@pytest.mark.slow
def test_an_audit_adds_its_own_file_alone(fedsim: Fedsim, folder: Path) -> None:
    before = sums(folder)
    code, out, err = fedsim("audit", folder, "--only", "mechanism", "--only", "one-run")
    assert code == 0, err
    after = sums(folder)
    assert before.items() <= after.items()
    assert set(after) - set(before) == {"audit.json"}
    assert "takes about" in err
    assert "noise, one release" in out
    assert "epsilon" in out
    content = json.loads((folder / "audit.json").read_text())
    assert set(content["tests"]) == {"mechanism", "one-run"}
    (verdict,) = content["accounted"]
    assert verdict["unit"] == "example"


@pytest.mark.slow
def test_what_was_found_is_kept_until_it_is_tested_again(fedsim: Fedsim, folder: Path) -> None:
    fedsim("audit", folder, "--only", "one-run", "--canaries", 20)
    first = json.loads((folder / "audit.json").read_text())["tests"]
    fedsim("audit", folder, "--only", "membership")
    both = json.loads((folder / "audit.json").read_text())["tests"]
    assert both["one-run"] == first["one-run"]
    assert "membership" in both
    code, out, _ = fedsim("audit", folder, "--only", "one-run", "--canaries", 20, "--json")
    assert code == 0
    assert json.loads(out)["tests"] == both


@pytest.mark.slow
def test_too_little_noise_fails_and_stands_on_the_page(
    fedsim: Fedsim, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def less(model: Any, examples: Any, said: Any, *rest: Any, **more: Any) -> Any:
        done = replace(said, noise_multiplier=0.8 * said.noise_multiplier)
        return train_private(model, examples, done, *rest, **more)

    bench = benches.TrainingBench

    def planted(*rest: Any, **more: Any) -> benches.TrainingBench:
        return bench(*rest, **more, train=less)

    monkeypatch.setattr(benches, "TrainingBench", planted)
    code, out, err = fedsim("audit", folder, "--only", "mechanism")
    assert code == 1
    assert "ALARM" in out
    assert "too little noise" in err
    page = write(read(folder))[-1].read_text()
    assert "The audit found what cannot be" in page
    assert 'id="audit"' in page


@pytest.mark.slow
def test_a_ledger_that_the_scenario_does_not_plan_is_found(
    fedsim: Fedsim, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run that wrote it so, and whose checkpoints therefore vouch for it."""
    monkeypatch.setattr(RunRecord, "check_ledger", lambda record: True)
    file = folder / "ledger.jsonl"
    file.write_text(file.read_text().replace('"noise_multiplier": 2.0', '"noise_multiplier": 4.0'))
    code, _, err = fedsim("audit", folder, "--only", "mechanism")
    assert code == 1
    assert "rows that the scenario does not plan" in err


def test_where_nothing_is_private_it_is_said(
    fedsim: Fedsim, tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    record = run(tiny(), out=tmp_path, device="cpu")
    chosen = [part for name in ("mechanism", "one-run", "membership") for part in ("--only", name)]
    code, out, _ = fedsim("audit", record.folder, *chosen)
    assert code == 0
    assert "no ledger bounds" in " ".join(out.split())
    assert out.count("Does not apply") == 2
    assert "loss threshold" in " ".join(out.split())


def test_labels_that_are_told_with_noise_are_accounted(
    fedsim: Fedsim, tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    told = {"kind": "labels", "label_privacy": {"kind": "randomised_response", "epsilon": 2.0}}
    scenario = tiny(
        rounds=1,
        population={"num_sites": 3, "supervision": [told]},
        client={"epochs": 1, "batch_size": 16, "objective": {"kind": "forward_corrected"}},
    )
    record = run(scenario, out=tmp_path, device="cpu")
    code, out, err = fedsim("audit", record.folder, "--only", "mechanism")
    assert code == 0, err
    assert "the training of this run is not private" in " ".join(out.split())
    (verdict,) = json.loads((record.folder / "audit.json").read_text())["accounted"]
    assert (verdict["unit"], verdict["delta"]) == ("label", 0.0)
    assert verdict["epsilon"] == pytest.approx(2.0, rel=1e-9)


def test_what_is_not_finished_is_refused(
    fedsim: Fedsim, tiny: Callable[..., Scenario], broken: Callable[[Scenario, int], Path]
) -> None:
    code, _, err = fedsim("audit", broken(tiny(privacy=PRIVACY), 2))
    assert code == 2
    assert "fedsim resume" in err


def test_a_damaged_audit_is_said(fedsim: Fedsim, folder: Path) -> None:
    (folder / "audit.json").write_text('{"format": 1, "tests": 3}')
    code, _, err = fedsim("audit", folder, "--only", "mechanism")
    assert code == 2
    assert "remove it" in err


def study_file(base: Scenario, methods: dict[str, Any], folder: Path) -> Path:
    primary = {"metric": "auroc", "reference": "open", "smallest_difference_of_interest": 0.05}
    content = {"version": 1, "name": "small", "question": "What does privacy cost?", "seeds": 2}
    content |= {"base": base.resolved(), "primary": primary, "methods": methods}
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.slow
def test_of_a_study_one_private_run_of_each_method_is_audited(
    fedsim: Fedsim, tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    methods = {"open": {}, "private": {"set": {"privacy": PRIVACY}}}
    file = study_file(tiny(rounds=2), methods, tmp_path)
    code, out, err = fedsim("study", file, "--out", tmp_path / "runs", "--device", "cpu")
    assert code == 0, err
    study = Path(out.splitlines()[-1])
    code, out, err = fedsim("audit", study, "--only", "mechanism")
    assert code == 0, err
    (audited,) = (tmp_path / "runs").rglob("audit.json")
    record = read(audited.parent)
    assert ("privacy" in record.scenario, record.scenario["seed"]) == (True, 0)
    assert str(audited) in out
    assert fedsim("report", study)[0] == 0
    assert "What audits found" in (study / "report" / "index.html").read_text()


def test_a_study_that_hides_nothing_is_refused(
    fedsim: Fedsim, tiny: Callable[..., Scenario], tmp_path: Path
) -> None:
    mean, other = {}, {"set": {"strategy": {"kind": "principal_gradient"}}}
    file = study_file(tiny(rounds=1), {"open": mean, "other": other}, tmp_path)
    code, out, _ = fedsim("study", file, "--out", tmp_path / "runs", "--device", "cpu")
    assert code == 0
    code, _, err = fedsim("audit", out.splitlines()[-1])
    assert code == 2
    assert "has no finished run that hides anything" in err
