"""What a site keeps comes back in its next round, on every engine and after any death."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fedsim.engines.inline import flower_identity
from fedsim.errors import RunError
from fedsim.flower import client_app
from fedsim.flower.client_memory import ClientMemory
from fedsim.flower.local_training import Trained, train
from fedsim.flower.recollection import Recollection
from fedsim.flower.workplace import Workplace
from fedsim.records.checkpoint import load
from fedsim.scenario import Scenario
from fedsim.simulate import resume, run

Make = Callable[..., Scenario]
Broken = Callable[[Scenario, int], Path]
CLIENT = {"epochs": 1, "batch_size": 16, "optimizer": {"kind": "sgd", "learning_rate": 0.1}}
SOME = {"kind": "fixed_size", "num_sites": 2}
METHODS: dict[str, dict[str, Any]] = {
    "scaffold": {
        "client": {**CLIENT, "regulariser": {"kind": "control_variates"}},
        "strategy": {"kind": "scaffold"},
        "server_optimizer": {"kind": "sgd", "learning_rate": 0.5, "momentum": 0.5},
    },
    "fed_dyn": {
        "client": {**CLIENT, "regulariser": {"kind": "dynamic"}},
        "strategy": {"kind": "fed_dyn"},
    },
    "moon": {"client": {**CLIENT, "regulariser": {"kind": "contrastive"}}},
}
every_method = pytest.mark.parametrize("sections", METHODS.values(), ids=METHODS)
MOON = METHODS["moon"]


def bits(folder: Path) -> dict[str, bytes]:
    """Return every file that must repeat, and what the sites keep."""
    files = [folder / "rounds.jsonl", folder / "metrics.jsonl"]
    files += [*(folder / "checkpoints").iterdir(), *(folder / "memory").rglob("*.safetensors")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(files)}


def test_a_site_finds_what_it_kept_and_no_other(tmp_path: Path) -> None:
    memory = ClientMemory(tmp_path / "memory")
    assert memory.recall(3, []) == {}
    assert not (tmp_path / "memory").exists()
    for round in (2, 5):
        memory.keep(3, round, {"who": {"fc.weight": torch.full((2,), float(round))}}, [2])
    memory.keep(4, 5, {"who": {}}, [])
    assert memory.recall(3, [2])["who"]["fc.weight"].tolist() == [2.0, 2.0]
    assert memory.recall(3, [2, 5])["who"]["fc.weight"].tolist() == [5.0, 5.0]
    with pytest.raises(RunError, match="kept in round 2 is gone"):
        memory.recall(4, [2])


def test_what_nobody_needs_is_removed(tmp_path: Path) -> None:
    memory = ClientMemory(tmp_path)
    for round, needed in ((1, []), (2, [1]), (3, [1, 2]), (4, [3])):
        memory.keep(0, round, {}, needed)
    (tmp_path / "site-00000" / ".round-00005.safetensors.99.tmp").touch()
    memory.keep(0, 5, {}, [3])
    left = sorted(file.name for file in (tmp_path / "site-00000").iterdir())
    assert left == ["round-00003.safetensors", "round-00005.safetensors"]


def test_the_server_keeps_in_mind_what_checkpoints_lead_back_to() -> None:
    found = Recollection()
    assert found._kept(0, [0]) == ()
    for round in (1, 3, 4, 7):
        found.note(round, [0])
    assert found._kept(0, [7]) == (7,)
    assert found._kept(0, [0, 2, 6]) == (1, 4, 7)
    assert found._kept(0, [4, 5, 6]) == (4, 7)
    again = Recollection()
    again.restore(found.state())
    assert again._kept(0, [2]) == (1, 7)
    assert again._kept(1, [2]) == ()


def test_where_nothing_is_kept_there_is_no_folder_and_no_word_of_it(
    tiny: Make, tmp_path: Path
) -> None:
    record = run(tiny(rounds=1), out=tmp_path, device="cpu")
    assert not (record.folder / "memory").exists()
    assert "recollection" not in load(max((record.folder / "checkpoints").iterdir()))


@every_method
@pytest.mark.parametrize("after", [0, 2])
def test_resumes_to_the_same_bits_and_the_same_memory(
    tiny: Make, tmp_path: Path, broken: Broken, sections: dict[str, Any], after: int
) -> None:
    scenario = tiny(rounds=4, cohort=SOME, **sections)
    whole = run(scenario, out=tmp_path, name="whole", device="cpu")
    folder = broken(scenario, after)
    assert bits(resume(folder).folder) == bits(whole.folder)


def test_a_death_between_training_and_checkpoint_changes_nothing(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = tiny(rounds=4, **MOON)
    whole = run(scenario, out=tmp_path, name="whole", device="cpu")

    def fatal(place: Workplace, site: int, round: int, *rest: Any) -> Trained:
        if (site, round) == (2, 3):
            raise KeyboardInterrupt
        return train(place, site, round, *rest)

    monkeypatch.setattr(client_app, "train", fatal)
    with pytest.raises(KeyboardInterrupt):
        run(scenario, out=tmp_path, name="broken", device="cpu")
    assert (tmp_path / "broken/memory/site-00000/round-00003.safetensors").exists()
    monkeypatch.undo()
    assert bits(resume(tmp_path / "broken").folder) == bits(whole.folder)


def test_every_kept_checkpoint_can_be_gone_on_from(tiny: Make, tmp_path: Path) -> None:
    scenario = tiny(rounds=5, cohort=SOME, **MOON)
    whole = run(scenario, out=tmp_path, name="whole", device="cpu", keep_every=2)
    before = bits(whole.folder)
    for name in ("round-00005", "round-00004"):
        (whole.folder / "checkpoints" / f"{name}.safetensors").unlink()
    for name in ("intervals.jsonl", "baselines.jsonl"):
        (whole.folder / name).unlink()
    assert bits(resume(whole.folder).folder) == before


def test_a_lost_memory_stops_the_run_with_the_way_out(tiny: Make, broken: Broken) -> None:
    folder = broken(tiny(**MOON), 2)
    shutil.rmtree(folder / "memory/site-00001")
    with pytest.raises(RunError, match=r"site-01 failed to train: .*round 2 is gone"):
        resume(folder)


def test_a_training_that_did_not_count_is_not_remembered(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site fails after it kept something; the next round must not build on that."""
    asked: list[tuple[int, int, torch.Tensor]] = []
    keep = ClientMemory.keep

    def fail_late(self: ClientMemory, site: int, round: int, *rest: Any) -> None:
        keep(self, site, round, *rest)
        if (site, round) == (1, 2):
            raise OSError("the line is cut")

    def note(place: Workplace, site: int, round: int, *rest: Any) -> Trained:
        before = rest[4].get("regulariser", {}).get("1.bias", torch.zeros(0))
        trained = train(place, site, round, *rest)
        asked.append((site, round, before))
        made[site, round] = trained.memory["regulariser"]["1.bias"].clone()
        return trained

    made: dict[tuple[int, int], torch.Tensor] = {}
    monkeypatch.setattr(ClientMemory, "keep", fail_late)
    monkeypatch.setattr(client_app, "train", note)
    record = run(tiny(on_client_failure="drop", **MOON), out=tmp_path, device="cpu")
    assert [row["dropped"] for row in record.rounds] == [[], ["site-01"], []]
    told = {(site, round): before for site, round, before in asked}
    assert torch.equal(told[1, 3], made[1, 1])
    assert torch.equal(told[0, 3], made[0, 2])
    assert not torch.equal(made[1, 1], made[1, 2])


DEVICES = [
    {"profile": "h100-sxm", "sites": ["site-00"], "latency_s": 0},
    {"profile": "t4", "sites": ["site-01"], "uplink_mbps": 1, "jitter": 0.3},
    {"profile": "cpu-16c", "share": 1, "uplink_mbps": 0.3},
]
POLICIES: dict[str, dict[str, Any]] = {
    "buffered": {
        "round_policy": {"kind": "buffered_async", "buffer_size": 2},
        "cohort": {"kind": "fixed_size", "num_sites": 3},
    },
    "deadline": {"round_policy": {"kind": "deadline", "seconds": 0.4}},
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_late_and_stale_sites_remember_their_last_update_that_counted(
    tiny: Make,
    tmp_path: Path,
    broken: Broken,
    monkeypatch: pytest.MonkeyPatch,
    policy: dict[str, Any],
) -> None:
    made: dict[int, torch.Tensor] = {}
    num_old = []

    def note(place: Workplace, site: int, round: int, *rest: Any) -> Trained:
        before = rest[4].get("regulariser", {}).get("1.bias")
        assert (before is None) == (site not in made)
        assert before is None or torch.equal(before, made[site])
        trained = train(place, site, round, *rest)
        made[site] = trained.memory["regulariser"]["1.bias"].clone()
        num_old.append(before is not None)
        return trained

    monkeypatch.setattr(client_app, "train", note)
    population = {"num_sites": 5, "devices": DEVICES}
    scenario = tiny(rounds=8, population=population, **policy, **MOON)
    whole = run(scenario, out=tmp_path, name="whole", device="cpu")
    assert sum(num_old) > 3
    if "cohort" in policy:
        tasks = [task for row in whole.rounds for task in row["virtual"]["tasks"]]
        assert any(task["staleness"] for task in tasks)
    made.clear()
    monkeypatch.undo()
    folder = broken(scenario, 5)
    assert bits(resume(folder).folder) == bits(whole.folder)


@pytest.mark.slow
@every_method
def test_workers_keep_the_same(tiny: Make, tmp_path: Path, sections: dict[str, Any]) -> None:
    scenario = tiny(rounds=4, cohort=SOME, **sections)
    one, two = (run(scenario, out=tmp_path, name=f"w{n}", device="cpu", workers=n) for n in (1, 2))
    assert bits(one.folder) == bits(two.folder)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_bits(tiny: Make, tmp_path: Path) -> None:
    sections = METHODS["scaffold"]
    scenario = tiny(rounds=60, evaluation={"every": 60}, **sections)
    whole = run(scenario, out=tmp_path, name="whole", device="cpu")
    file = tmp_path / "scenario.yaml"
    file.write_text(yaml.safe_dump(scenario.resolved()))
    command = [sys.executable, "-m", "fedsim", "run", file, "--out", tmp_path, "--run-name", "dead"]
    process = subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "dead").glob("memory/site-00001/round-000[1-4]?.*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert bits(resume(tmp_path / "dead").folder) == bits(whole.folder)


@pytest.mark.slow
def test_flowers_simulation_runtime_keeps_the_same(tiny: Make, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    scenario = tiny(rounds=3, cohort=SOME, **METHODS["scaffold"])
    here = run(scenario, out=tmp_path, name="here", device="cpu")
    there = run(scenario, out=tmp_path, name="there", device="cpu", engine="flower", workers=2)
    assert bits(there.folder) == bits(here.folder)


def test_messages_of_sites_with_the_same_history_share_their_content(tiny: Make) -> None:
    from flwr.app import Message, RecordDict

    found, content = Recollection(), RecordDict()
    found.note(1, [0, 1, 2])
    found.note(2, [2])
    with flower_identity():
        messages = {site: Message(content, site + 2, "train") for site in range(4)}
    found.address(3, messages, [2])
    contents = [messages[site].content for site in range(4)]
    assert contents[0] is contents[1]
    assert len({id(content) for content in contents}) == 3
    assert "memory" not in content
