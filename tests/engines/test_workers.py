"""Workers give the same bits as one process, whatever becomes of them, and leave nothing behind."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedsim.engines import nursery, shared
from fedsim.engines.inline import flower_identity, site_of
from fedsim.engines.workers import WorkerGrid, _Exchange, _Worker
from fedsim.errors import RunError
from fedsim.flower.wire import to_arrays, to_tensor
from fedsim.records.files import read_lines
from fedsim.scenario import Scenario, open_population
from fedsim.simulate import resume, run

Make = Callable[..., Scenario]
pytestmark = pytest.mark.slow  # starting processes takes seconds
COMMAND = [sys.executable, "-m", "fedsim"]
SECTIONS = {
    "strategy": {"kind": "principal_gradient"},
    "client": {
        "epochs": 1,
        "batch_size": 16,
        "optimizer": {"kind": "adam", "learning_rate": 0.01},
        "objective": {"kind": "margin", "weight": 0.1},
    },
}


def bits(folder: Path) -> dict[str, bytes]:
    files = [folder / name for name in ("rounds.jsonl", "metrics.jsonl")]
    files += sorted((folder / "checkpoints").iterdir())
    return {file.name: file.read_bytes() for file in files}


def blocks(pid: int) -> set[str]:
    """Return the names of the shared memory that this process had made and that still exists."""
    folder = Path("/dev/shm")
    return {path.name for path in folder.glob(f"fedsim-{pid}-*")} if folder.is_dir() else set()


def kill(worker: Any) -> None:
    """End a worker's process before it is given anything more."""
    os.kill(worker._process.pid, signal.SIGKILL)
    worker._process.join()


@pytest.fixture
def one(tiny: Make, tmp_path: Path) -> tuple[Scenario, Path]:
    scenario = tiny(**SECTIONS)
    return scenario, run(scenario, out=tmp_path, name="one", device="cpu").folder


@pytest.mark.parametrize("workers", [2, 4])
def test_the_number_of_workers_changes_no_bit(
    one: tuple[Scenario, Path], tmp_path: Path, workers: int
) -> None:
    scenario, folder = one
    record = run(scenario, out=tmp_path, name="many", device="cpu", workers=workers)
    assert bits(record.folder) == bits(folder)
    assert multiprocessing.active_children() == []
    assert not blocks(os.getpid())


def test_a_run_goes_on_with_another_number_of_workers(
    one: tuple[Scenario, Path], tmp_path: Path
) -> None:
    class Died(Exception):
        pass

    def die(progress: Any) -> None:
        if progress.round == 1:
            raise Died

    scenario, folder = one
    with pytest.raises(Died):
        run(scenario, out=tmp_path, name="broken", device="cpu", workers=2, watch=die)
    assert multiprocessing.active_children() == []
    assert bits(resume(tmp_path / "broken", workers=3).folder) == bits(folder)


def test_a_worker_that_dies_is_replaced_and_its_site_trains_again(
    one: tuple[Scenario, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give, killed = _Worker.give, []

    def kill_once(self: Any, task: Any) -> None:
        if task.type == "train" and site_of(task.node) == 1 and not killed:
            killed.append(self._process.pid)
            kill(self)
        give(self, task)

    monkeypatch.setattr(_Worker, "give", kill_once)
    scenario, folder = one
    record = run(scenario, out=tmp_path, name="many", device="cpu", workers=2)
    assert len(killed) == 1
    assert bits(record.folder) == bits(folder)


def test_a_site_whose_process_dies_twice_fails_the_run(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give = _Worker.give

    def kill_always(self: Any, task: Any) -> None:
        if task.type == "train" and site_of(task.node) == 1:
            kill(self)
        give(self, task)

    monkeypatch.setattr(_Worker, "give", kill_always)
    with pytest.raises(RunError, match=r"site-01 failed to train: its process died twice \(signal"):
        run(tiny(**SECTIONS), out=tmp_path, device="cpu", workers=2)
    assert multiprocessing.active_children() == []
    assert not blocks(os.getpid())


def test_a_site_whose_process_dies_twice_is_dropped_where_the_scenario_says_so(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give = _Worker.give

    def kill_always(self: Any, task: Any) -> None:
        if task.type == "train" and site_of(task.node) == 1:
            kill(self)
        give(self, task)

    monkeypatch.setattr(_Worker, "give", kill_always)
    scenario = tiny(rounds=1, on_client_failure="drop", **SECTIONS)
    record = run(scenario, out=tmp_path, device="cpu", workers=2)
    assert record.finished
    assert [(row["cohort"], row["dropped"]) for row in record.rounds] == [
        (["site-00", "site-02"], ["site-01"])
    ]


def test_replies_wait_inside_a_window_alone(
    one: tuple[Scenario, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead: list[int] = []
    begin, hand_out = _Exchange.begin, WorkerGrid._hand_out

    def note_due(self: Any, exchange: Any, due: int) -> None:
        exchange.due = due
        hand_out(self, exchange, due)

    def note(self: Any, place: int, number: int) -> None:
        ahead.append(place - self.due)
        begin(self, place, number)

    monkeypatch.setattr(WorkerGrid, "_hand_out", note_due)
    monkeypatch.setattr(_Exchange, "begin", note)
    scenario = one[0].model_copy(
        update={"rounds": 1, "population": one[0].population.model_copy(update={"num_sites": 9})}
    )
    orders = {}
    for name, affordable in (("wide", 2**28), ("narrow", 1)):
        ahead.clear()
        monkeypatch.setattr("fedsim.engines.workers.WAITING_BYTES", affordable)
        folder = run(scenario, out=tmp_path, name=name, device="cpu", workers=2).folder
        orders[name] = (max(ahead), bits(folder))
    assert orders["narrow"][0] < 4 <= orders["wide"][0]
    assert orders["narrow"][1] == orders["wide"][1]


def test_messages_with_the_same_arrays_share_memory() -> None:
    model, other = to_arrays({"w": torch.ones(3)}), to_arrays({"w": torch.zeros(3)})
    contents = [
        RecordDict({"arrays": arrays, "memory": ConfigRecord({"kept": [n]})})
        for n, arrays in enumerate((model, model, other))
    ]
    with flower_identity():
        messages = [Message(content, 2 + n, "train") for n, content in enumerate(contents)]
        exchange = _Exchange(messages, shared.Blocks(), [0, 1, 2])
        found = [exchange.content(place) for place in range(3)]
        memory = shared.Attached()
        for (packed, block), content in zip(found, contents, strict=True):
            again = shared.unpack(packed, memory.memory(block))
            assert again["memory"] == content["memory"]
            assert torch.equal(*(to_tensor(c["arrays"]["w"]) for c in (again, content)))
        memory.close()
        exchange.close()
    assert [found[0][1] == found[place][1] for place in range(3)] == [True, True, False]


def test_a_death_is_reported_with_site_and_round(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give, killed = _Worker.give, []

    def kill_once(self: Any, task: Any) -> None:
        round = task.packed.configs.get("config", {}).get("server-round")
        if (task.type, site_of(task.node), round) == ("train", 2, 2) and not killed:
            killed.append(self._process.pid)
            kill(self)
        give(self, task)

    monkeypatch.setattr(_Worker, "give", kill_once)
    record = run(tiny(rounds=2), out=tmp_path, device="cpu", workers=2)
    told = "round 2: the process of site-02 (train) died (signal SIGKILL)"
    assert told in (record.folder / "log.txt").read_text()


def test_there_may_be_more_sites_than_open_files(tiny: Make, tmp_path: Path) -> None:
    scenario = tiny(
        data={
            "source": {"kind": "synthetic", "anatomy": "chest", "num_examples": 700},
            "task": "binary",
        },
        population={"num_sites": 80, "held_out": {"validation": 0.2, "test": 0.2}},
        rounds=1,
    )
    resource = pytest.importorskip("resource")  # not on Windows
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 60, hard))
    try:
        assert run(scenario, out=tmp_path, device="cpu", workers=2).finished
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_goes_wrong_at_a_site_is_told_as_without_workers(tiny: Make, tmp_path: Path) -> None:
    hot = {"epochs": 1, "batch_size": 16, "optimizer": {"kind": "sgd", "learning_rate": 1e30}}
    with pytest.raises(RunError, match="training diverged at site-0"):
        run(tiny(client=hot), out=tmp_path, device="cpu", workers=2)


def test_workers_do_not_outlive_a_main_process_that_is_killed(tiny: Make, tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(yaml.safe_dump(tiny(rounds=2000, **SECTIONS).resolved()))
    command = [*COMMAND, "run", file, "--out", tmp_path, "--workers", "2"]
    process = subprocess.Popen(
        [*command, "--run-name", "killed", "--quiet"], stderr=subprocess.DEVNULL
    )
    journal = tmp_path / "killed" / "rounds.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and read_lines(journal)):
        time.sleep(0.05)
    children = _descendants(process.pid)
    assert len(children) >= 3
    assert blocks(process.pid) or not Path("/dev/shm").is_dir()
    process.kill()
    process.wait()
    while time.monotonic() < deadline and any(map(_alive, children)):
        time.sleep(0.05)
    assert not any(map(_alive, children))
    while time.monotonic() < deadline and blocks(process.pid):
        time.sleep(0.05)
    assert not blocks(process.pid)


def test_ctrl_c_ends_the_workers_too(tiny: Make, tmp_path: Path) -> None:
    file, folder = tmp_path / "scenario.yaml", tmp_path / "stopped"
    file.write_text(yaml.safe_dump(tiny(rounds=2000, **SECTIONS).resolved()))
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "fedsim",
            "run",
            file,
            "--out",
            tmp_path,
            "--run-name",
            "stopped",
            "--workers",
            "2",
        ],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not read_lines(folder / "rounds.jsonl"):
        time.sleep(0.05)
    children = _descendants(process.pid)
    assert len(children) >= 3
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"fedsim resume {folder}" in said
    assert "Traceback" not in said
    assert "leaked" not in said
    deadline = time.monotonic() + 30  # Python's resource tracker follows a moment later
    while any(map(_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_alive, children))
    assert not blocks(process.pid)


def _descendants(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    children = [int(word) for word in found.stdout.split()]
    return [*children, *(one for child in children for one in _descendants(child))]


def _alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_content_goes_through_shared_memory_unchanged() -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7, np.int64)}
    content = RecordDict(
        {
            "arrays": ArrayRecord({n: Array(v) for n, v in arrays.items()}),
            "metrics": MetricRecord({"loss": 0.25, "n": 3}),
            "config": ConfigRecord({"round": 4, "name": "x", "on": True}),
        }
    )
    packed, parts = shared.pack(content)
    made = shared.Made(packed.num_bytes, shared.new_name())
    shared.fill(made.buffer, parts)
    found = shared.unpack(packed, made.buffer)
    made.close()
    assert dict(found.metric_records["metrics"]) == {"loss": 0.25, "n": 3}
    assert dict(found.config_records["config"]) == {"round": 4, "name": "x", "on": True}
    for name, values in arrays.items():
        np.testing.assert_array_equal(found.array_records["arrays"][name].numpy(), values)


SMALL = r"shared memory \(/dev/shm\) is too small for workers: .*--workers 1.*--shm-size"
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at Linux's shared memory")


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@linux
def test_a_block_that_finds_no_memory_is_an_error_and_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    here, made = blocks(os.getpid()), shared.Made(2_500_000, shared.new_name())
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match=SMALL) as told:
        made.take()
    assert "2.5 MB are needed" in str(told.value)
    assert blocks(os.getpid()) == here


@linux
def test_memory_of_a_block_is_there_before_it_is_written() -> None:
    made = shared.Made(10**6, shared.new_name())
    taken = [Path(f"/dev/shm/{made.take().memory.name}").stat().st_blocks * 512 for _ in range(2)]
    made.close()
    assert min(taken) >= 10**6


@linux
@pytest.mark.parametrize("num_blocks", [0, 100])
def test_examples_that_shared_memory_cannot_hold_are_refused_before_training(
    num_blocks: int, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = blocks(os.getpid())
    found = os.statvfs_result((4096, 4096, num_blocks, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    scenario = tiny(rounds=1)
    if not num_blocks:  # of a file system without a limit
        assert run(scenario, out=tmp_path, name="run", device="cpu", workers=2).finished
        return
    with pytest.raises(RunError, match=SMALL):
        run(scenario, out=tmp_path, name="run", device="cpu", workers=2)
    assert blocks(os.getpid()) == here
    assert multiprocessing.active_children() == []
    assert not read_lines(tmp_path / "run" / "rounds.jsonl")
    monkeypatch.undo()
    assert resume(tmp_path / "run", workers=2).finished


@linux
@pytest.mark.parametrize("who", ["main", "worker"])
def test_messages_that_find_no_memory_are_told_with_the_way_out(
    who: str, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, fork = os.getpid(), multiprocessing.get_context("fork")
    allocate = os.posix_fallocate

    def often_full(file: int, start: int, num_bytes: int) -> None:
        marks = num_bytes < 100
        is_full = not marks and (os.getpid() == main) == (who == "main")
        (full if is_full else allocate)(file, start, num_bytes)

    def forked(device: str, work: Callable[..., None], *arguments: Any) -> Any:
        process = fork.Process(target=work, args=arguments, daemon=True)
        process.start()
        return process

    monkeypatch.setattr(nursery, "start", forked)  # forks of this process have its full memory
    monkeypatch.setattr(os, "posix_fallocate", often_full)
    with pytest.raises(RunError, match=SMALL) as told:
        run(tiny(rounds=1), out=tmp_path, device="cpu", workers=2)
    assert "died" not in str(told.value)
    assert not blocks(main)


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), KeyboardInterrupt])
def test_workers_that_cannot_all_be_started_leave_nothing_behind(
    error: BaseException, tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = nursery.start, []

    def fail_second(*arguments: Any) -> Any:
        if started:
            raise error
        started.append(start(*arguments))
        return started[0]

    here, scenario = blocks(os.getpid()), tiny()
    monkeypatch.setattr(nursery, "start", fail_second)
    with pytest.raises((OSError, KeyboardInterrupt)):
        WorkerGrid(scenario, open_population(scenario), ["cpu", "cpu"])
    assert multiprocessing.active_children() == []
    assert blocks(os.getpid()) == here


@pytest.mark.parametrize("interrupted", ["fill", "unlink"])
def test_an_interruption_leaves_no_shared_memory(
    interrupted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    here, ours = blocks(os.getpid()), shared.Blocks()
    whole, half = ours.make(8), ours.make(8)
    if interrupted == "fill":
        monkeypatch.setattr(shared.Made, "__init__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ours.make(8)
    else:
        monkeypatch.setattr(shared.SharedMemory, "unlink", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ours.give_back(half)
    monkeypatch.undo()
    ours.give_back(whole)
    assert len(blocks(os.getpid()) - here) == 1
    ours.close()
    assert blocks(os.getpid()) == here
