"""Running studies: what is there is used, what fails sinks nothing, and a stop changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import fedsim
from fedsim import simulate
from fedsim.comparison.tuning import validation_value
from fedsim.errors import DivergedError, InputError, InUseError, RunError
from fedsim.models import weights
from fedsim.records import read
from fedsim.records.study import StudyRecord, read_study
from fedsim.scenario import Scenario
from fedsim.study import folder, inventory
from fedsim.study.conclusion import write_report
from fedsim.study.design import Design
from fedsim.study.folder import StudyFolder
from fedsim.study.load import load_study
from fedsim.study.progress import StudyProgress
from fedsim.study.race import NO_TRIAL
from fedsim.study.runner import pilot, run

Make = Callable[..., Design]
HOME = Path(__file__).resolve().parents[2]

UNTUNED = {"mean": {}, "principal": {"set": {"strategy": {"kind": "principal_gradient"}}}}
COMPARED = ("rounds.jsonl", "metrics.jsonl", "baselines.jsonl", "intervals.jsonl")


def what_is_compared(record: StudyRecord) -> dict[str, Any]:
    """Return all of a study that a comparison reads, byte for byte."""
    found: dict[str, Any] = {
        name: (record.folder / name).read_bytes() for name in ("study.json", "comparison.json")
    }
    for cell in record.cells:
        files = [cell.folder / name for name in COMPARED]
        files += sorted(cell.folder.glob("predictions/*"))
        content = {file.name: file.read_bytes() for file in files if file.exists()}
        about = cell.status, cell.error, json.dumps(cell.values), cell.folder.name
        found[cell.cell] = (about, content)
    return found


class Counting:
    """Counts the runs that are begun, and lets some of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[str] = []
        self.failing: dict[str, Exception] = {}
        self._run = simulate.run
        monkeypatch.setattr(simulate, "run", self)

    def __call__(self, scenario: Any, **keys: Any) -> Any:
        self.begun.append(scenario.description)
        for part, error in self.failing.items():
            if f"{scenario.description}; seed {scenario.seed}" == part:
                raise error
        return self._run(scenario, **keys)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


@pytest.fixture(scope="module")
def whole(make_in: Make, tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    """The record of the small study, run at one go in this process."""
    folder = tmp_path_factory.mktemp("whole")
    return run(make_in(folder), out=folder / "runs", device="cpu")


def test_every_cell_is_an_ordinary_finished_run(whole: StudyRecord) -> None:
    assert Counter(cell.purpose for cell in whole.cells) == {"trial": 8, "final": 8}
    for cell in whole.cells:
        record = read(cell.folder)
        assert (cell.status, record.finished) == ("done", True)
        assert record.scenario["seed"] == cell.seed
        assert record.run["digest"].startswith(cell.folder.name)
        assert cell.folder.resolve().parent == whole.folder.resolve().parent / "cells"


def test_cells_are_told_in_the_order_of_the_plan(whole: StudyRecord) -> None:
    assert [cell.cell for cell in whole.cells[:3]] == [
        "trial/mean/population.partition.alpha=0.5/trial 0/seed 1000",
        "trial/mean/population.partition.alpha=0.5/trial 1/seed 1000",
        "trial/mean/population.partition.alpha=5.0/trial 0/seed 1000",
    ]
    assert whole.cells[-1].cell == "final/principal/population.partition.alpha=5.0/seed 1"


def test_final_cells_have_the_values_that_validation_chose(whole: StudyRecord) -> None:
    for method in whole.methods:
        for setting in whole.settings:
            own = [c for c in whole.cells if (c.method, c.setting) == (method, setting)]
            tried = [c for c in own if c.purpose == "trial"]
            values = [
                validation_value(read(c.folder), "auroc", "final", pooled=True) for c in tried
            ]
            best = tried[values.index(max(values))]
            assert {c.purpose: c.values for c in own}["final"] == best.values


def test_what_is_there_is_not_run_again(
    make: Make, tmp_path: Path, runs: Counting, whole: StudyRecord
) -> None:
    out = whole.folder.parent
    before = (whole.folder / "cells.jsonl").read_bytes()
    again = run(make(), out=out, device="cpu")
    assert runs.begun == []
    assert again.folder == whole.folder
    assert (whole.folder / "cells.jsonl").read_bytes() == before


def test_a_study_folder_is_a_study(whole: StudyRecord, runs: Counting) -> None:
    again = run(load_study(whole.folder), out=whole.folder.parent, device="cpu")
    assert (again.folder, runs.begun) == (whole.folder, [])


def test_a_seed_more_runs_its_own_cells_alone(
    make: Make, runs: Counting, whole: StudyRecord
) -> None:
    more = run(make(seeds=3), out=whole.folder.parent, device="cpu")
    assert more.folder != whole.folder
    assert len(runs.begun) == 4  # methods x settings
    assert {c.folder.name for c in whole.cells} < {c.folder.name for c in more.cells}


def test_another_study_uses_the_runs_that_it_needs_too(
    make: Make, runs: Counting, whole: StudyRecord
) -> None:
    methods = {
        "mean": {
            "tune": {"client.optimizer.learning_rate": {"low": 0.01, "high": 1.0, "scale": "log"}}
        },
        "median": {"set": {"server_optimizer": {"kind": "sgd", "learning_rate": 0.5}}},
    }
    other = run(
        make(name="other", question="Another?", methods=methods),
        out=whole.folder.parent,
        device="cpu",
    )
    assert set(runs.begun) == {f"median; {setting}" for setting in other.settings}
    shared = [c for c in other.cells if c.method == "mean"]
    assert {c.folder.resolve() for c in shared} <= {c.folder.resolve() for c in whole.cells}


@pytest.mark.parametrize("after", [1, 5, 9, 13])
def test_a_stopped_study_goes_on_to_the_same_bytes(
    make: Make, tmp_path: Path, whole: StudyRecord, after: int
) -> None:
    def stop(progress: StudyProgress) -> None:
        midway = any(running.round == 1 for running in progress.running)
        if progress.num_done >= after and midway:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(make(), out=tmp_path / "runs", device="cpu", watch=stop)
    assert len(read_study(next((tmp_path / "runs").glob("small-*"))).cells) == after
    gone_on = run(make(), out=tmp_path / "runs", device="cpu")
    assert what_is_compared(gone_on) == what_is_compared(whole)


def test_a_failed_cell_sinks_no_other(
    make: Make, tmp_path: Path, runs: Counting, whole: StudyRecord
) -> None:
    runs.failing["principal; population.partition.alpha=5.0; seed 1"] = RunError("disk full")
    record = run(make(), out=tmp_path / "runs", device="cpu")
    (failed,) = (cell for cell in record.cells if cell.status == "failed")
    assert failed.cell == "final/principal/population.partition.alpha=5.0/seed 1"
    assert failed.error == "RunError: disk full"
    assert sum(cell.status == "done" for cell in record.cells) == 15
    runs.failing.clear()
    begun = len(runs.begun)
    mended = run(make(), out=tmp_path / "runs", device="cpu")
    assert len(runs.begun) == begun + 1
    assert what_is_compared(mended) == what_is_compared(whole)


def test_a_diverged_run_is_a_failed_trial_and_is_not_tried_again(
    make: Make, tmp_path: Path, runs: Counting
) -> None:
    runs.failing["principal; population.partition.alpha=5.0; seed 1000"] = DivergedError("nan")
    record = run(make(), out=tmp_path / "runs", device="cpu")
    failed = [cell for cell in record.cells if cell.status == "failed"]
    assert [c.error for c in failed] == ["diverged: nan"] * 2 + [NO_TRIAL] * 2
    assert {c.method for c in failed} == {"principal"}
    begun = len(runs.begun)
    assert run(make(), out=tmp_path / "runs", device="cpu").cells == record.cells
    assert len(runs.begun) == begun


def test_the_analysis_is_fixed_before_the_first_cell(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "runs"

    def stop(progress: StudyProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(make(), out=out, device="cpu", watch=stop)
    (folder,) = out.glob("small-*")
    assert json.loads((folder / "study.json").read_text())["analysis"]["reference"] == "mean"
    assert read_study(folder).cells == ()


def test_a_folder_with_another_analysis_is_refused(
    make: Make, tmp_path: Path, whole: StudyRecord
) -> None:
    out = tmp_path / "runs"
    folder = out / whole.folder.name
    folder.mkdir(parents=True)
    for name in ("study.json", "study.yaml", "cells.jsonl"):
        (folder / name).write_bytes((whole.folder / name).read_bytes())
    head = json.loads((folder / "study.json").read_text())
    head["analysis"]["reference"] = "principal"
    (folder / "study.json").write_text(json.dumps(head))
    with pytest.raises(InputError, match="analysis changed since the study began"):
        run(make(), out=out, device="cpu")
    text = (folder / "study.yaml").read_text().replace("reference: mean", "reference: principal")
    (folder / "study.yaml").write_text(text)
    with pytest.raises(InputError, match="does not say what it did when the study began"):
        load_study(folder)


def test_a_run_of_another_scenario_in_the_place_of_a_cell_is_refused(
    make: Make, tmp_path: Path
) -> None:
    design = make()
    first, second = design.first_cells()[:2]
    simulate.run(second.scenario, out=tmp_path / "runs/cells", name=first.run, device="cpu")
    with pytest.raises(InputError, match="is the run of another scenario"):
        run(design, out=tmp_path / "runs", device="cpu")


def test_what_is_damaged_is_told_with_the_way_out(make: Make, tmp_path: Path) -> None:
    design = make(vary={}, tune=None, methods=UNTUNED, seeds=1)
    record = run(design, out=tmp_path / "runs", device="cpu")
    comparison = record.folder / "comparison.json"
    whole = comparison.read_bytes()
    comparison.write_bytes(whole[:100])
    with pytest.raises(InputError, match="remove it, and `fedsim study` makes it again"):
        run(design, out=tmp_path / "runs", device="cpu")
    comparison.unlink()
    run(design, out=tmp_path / "runs", device="cpu")
    assert comparison.read_bytes() == whole
    (record.cells[0].folder / "run.json").unlink()
    with pytest.raises(InputError, match=r"Move .* away, and it is run again"):
        run(design, out=tmp_path / "runs", device="cpu")


def test_tables_and_page_are_made_again_of_the_comparison(make: Make, tmp_path: Path) -> None:
    design = make(vary={}, tune=None, methods=UNTUNED, seeds=1)
    record = run(design, out=tmp_path / "runs", device="cpu")
    report = record.folder / "report"
    before = {file.name: file.read_bytes() for file in report.iterdir()}
    for file in report.iterdir():
        file.unlink()
    assert write_report(read_study(record.folder)) == report / "index.html"
    assert {file.name: file.read_bytes() for file in report.iterdir()} == before


@pytest.mark.parametrize("name", ["pixels", "start.safetensors"])
def test_runs_on_other_data_or_weights_are_not_compared(
    make: Make, tmp_path: Path, name: str
) -> None:
    first = simulate.run(make().first_cells()[0].scenario, out=tmp_path, name="first", device="cpu")
    save_file(fedsim.load_model(first.folder).state_dict(), tmp_path / "start.safetensors")
    design = make(set={"model.weights": str(tmp_path / "start.safetensors")})
    cell = design.first_cells()[0]
    record = simulate.run(cell.scenario, out=tmp_path / "runs/cells", name=cell.run, device="cpu")
    checksums = record.population["checksums"]
    assert name in checksums
    population = {**record.population, "checksums": {**checksums, name: "another"}}
    (record.folder / "population.json").write_text(json.dumps(population))
    with pytest.raises(InputError, match=rf"was run on other data \({name}\)"):
        run(design, out=tmp_path / "runs", device="cpu")


def test_sites_that_cannot_do_it_are_told_before_anything_runs(
    make: Make, tmp_path: Path, runs: Counting
) -> None:
    design = make(
        set={"client.drop_last": True, "client.batch_size": 64, "population.num_sites": 6}
    )
    with pytest.raises(InputError, match=r"(?s)trial/mean/.*never fills a batch of 64"):
        run(design, out=tmp_path / "runs", device="cpu")
    assert (runs.begun, (tmp_path / "runs").exists()) == ([], False)


def test_a_pilot_has_seeds_of_its_own(make: Make, tmp_path: Path) -> None:
    record = pilot(make(), 2, out=tmp_path / "runs", device="cpu")
    assert Counter(cell.purpose for cell in record.cells) == {"pilot": 8}
    assert {cell.seed for cell in record.cells} == {1_000_000, 1_000_001}


def test_one_process_runs_a_study_at_a_time(make: Make, tmp_path: Path) -> None:
    def again(progress: StudyProgress) -> None:
        with pytest.raises(InputError, match="another process is running this"):
            run(make(), out=tmp_path / "runs", device="cpu")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(make(), out=tmp_path / "runs", device="cpu", watch=again)


@pytest.mark.slow
def test_workers_give_the_same_bytes(make: Make, tmp_path: Path, whole: StudyRecord) -> None:
    record = run(make(), out=tmp_path / "runs", device="cpu", workers=2)
    assert what_is_compared(record) == what_is_compared(whole)


def children(process: int) -> list[int]:
    """Return the processes that a process started by `multiprocessing`."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_bytes()
        except (OSError, IndexError, ValueError):
            continue
        if parent == process and b"spawn_main" in command:
            found.append(int(path.name))
    return found


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Run the study in a folder with two workers, in a process of its own."""
    command = [sys.executable, "-m", "fedsim", "study", str(folder / "study.yaml")]
    return subprocess.Popen(
        [*command, "--out", str(folder / "runs"), "--workers", "2", "--device", "cpu", "--json"],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def after_cells(process: subprocess.Popen[bytes], num: int) -> None:
    assert process.stdout is not None
    for _ in range(num):
        assert process.stdout.readline()


def all_gone(processes: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{process}").exists() for process in processes):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_killed_goes_on_to_the_same_bytes(
    make: Make, tmp_path: Path, whole: StudyRecord, how: signal.Signals
) -> None:
    design = make()
    process = start(tmp_path)
    after_cells(process, 3)
    workers = children(process.pid)
    assert len(workers) == 2
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert all_gone(workers)
    if how != signal.SIGKILL:
        assert process.returncode == 130
        assert b"Go on with: fedsim study" in said
        assert b"Traceback" not in said
    gone_on = run(design, out=tmp_path / "runs", device="cpu")
    assert what_is_compared(gone_on) == what_is_compared(whole)


@pytest.mark.slow
def test_a_worker_that_dies_once_is_replaced(
    make: Make, tmp_path: Path, whole: StudyRecord
) -> None:
    make()
    process = start(tmp_path)
    after_cells(process, 1)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=300)
    assert (process.returncode, said) == (0, b"")
    (folder,) = (tmp_path / "runs").glob("small-*")
    assert what_is_compared(read_study(folder)) == what_is_compared(whole)


def test_a_run_that_another_process_has_is_not_settled(make: Make, tmp_path: Path) -> None:
    """Settled as failed, a trial would leave the choice to the others."""
    design = make()
    cell = design.first_cells()[0]

    def again(progress: object) -> None:
        with pytest.raises(InUseError, match="give the same command again"):
            run(design, out=tmp_path / "runs", device="cpu")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate.run(
            cell.scenario,
            out=tmp_path / "runs/cells",
            name=cell.run,
            device="cpu",
            watch=again,
        )
    assert run(design, out=tmp_path / "runs", device="cpu").comparison is not None


def test_a_run_that_another_process_begins_meanwhile_is_not_settled(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    design, theirs, prepare = make(), [], simulate.prepare
    names = {cell.scenario.digest: cell.run for cell in design.first_cells()}

    def slow(scenario: Scenario, device: Any) -> Any:
        prepared = prepare(scenario, device)
        path = tmp_path / "runs/cells" / names[scenario.digest]
        theirs.append(simulate.create(scenario, prepared[1], path, None))
        return prepared

    with monkeypatch.context() as patch:
        patch.setattr(simulate, "prepare", slow)
        with pytest.raises(InUseError, match="give the same command again"):
            run(design, out=tmp_path / "runs", device="cpu")
    theirs[0].close()
    record = run(design, out=tmp_path / "runs", device="cpu")
    assert {cell.status for cell in record.cells} == {"done"}


def test_data_and_weights_are_read_once_for_all_cells_that_share_them(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = make().first_cells()[0]
    first = simulate.run(cell.scenario, out=tmp_path, name="first", device="cpu")
    save_file(fedsim.load_model(first.folder).state_dict(), tmp_path / "start.safetensors")
    design = make(set={"model.weights": str(tmp_path / "start.safetensors")})
    cell = design.first_cells()[0]
    record = simulate.run(cell.scenario, out=tmp_path, name="second", device="cpu")
    read_of: list[str] = []

    def counted(name: str, function: Any) -> Any:
        return lambda what: (read_of.append(name), function(what))[1]

    monkeypatch.setattr(inventory, "look_at", counted("pixels", inventory.look_at))
    monkeypatch.setattr(weights, "sha256", counted("weights", weights.sha256))
    sites = inventory.Sites(design)
    for _ in range(3):
        sites.unchanged(cell, record)
    assert sorted(read_of) == ["pixels", "weights"]


def test_a_study_folder_that_another_process_makes_meanwhile_is_in_use(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    design, theirs, text = make(), [], folder._text

    def slow(design: Design) -> str:
        monkeypatch.setattr(folder, "_text", text)
        theirs.append(StudyFolder(design, tmp_path))
        return text(design)

    monkeypatch.setattr(folder, "_text", slow)
    with pytest.raises(InUseError, match="another process is running this"):
        StudyFolder(design, tmp_path)
    theirs[0].close()
    StudyFolder(design, tmp_path).close()
