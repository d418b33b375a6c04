"""A run repeats bit for bit, goes on after any death, and agrees with training by hand."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from clients.training import train
from fedsim.errors import InputError, RunError
from fedsim.flower.workplace import Workplace
from fedsim.records.checkpoint import load
from fedsim.records.files import read_lines
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams
from fedsim.simulate import resume, run
from fedsim.trained import load_model

Make = Callable[..., Scenario]
Broken = Callable[[Scenario, int], Path]
REPEATED = ("rounds.jsonl", "metrics.jsonl")
FEDLD = {
    "client": {
        "epochs": 1,
        "batch_size": 16,
        "optimizer": {"kind": "adam", "learning_rate": 0.01},
        "objective": {"kind": "margin", "weight": 0.1},
    },
    "strategy": {"kind": "principal_gradient"},
    "server_optimizer": {"kind": "sgd", "learning_rate": 1.0, "momentum": 0.5},
}


def bits(folder: Path) -> dict[str, bytes]:
    """Return every file that must repeat."""
    files = [folder / name for name in REPEATED] + sorted((folder / "checkpoints").iterdir())
    return {file.name: file.read_bytes() for file in files}


def final_model(folder: Path) -> dict[str, torch.Tensor]:
    last = max((folder / "checkpoints").iterdir())
    model: dict[str, torch.Tensor] = load(last)["model"]
    return model


@pytest.mark.parametrize(
    "sections",
    [
        {},
        FEDLD,
        {"cohort": {"kind": "poisson", "sampling_rate": 0.5}},
        {"strategy": {"kind": "flower", "name": "FedAdam", "options": {"eta": 0.01}}},
        {
            "data": {
                "source": {"kind": "synthetic", "image_size": 16, "num_examples": 120},
                "task": "ordinal",
                "augmentation": {"horizontal_flip": True, "max_shift": 2},
            }
        },
    ],
    ids=["fedavg", "fedld", "poisson", "flower", "augmented"],
)
def test_same_scenario_same_bits(tiny: Make, tmp_path: Path, sections: dict[str, Any]) -> None:
    scenario = tiny(**sections)
    first = run(scenario, out=tmp_path, name="first", device="cpu")
    torch.rand(7)
    np.random.default_rng().random()
    second = run(scenario, out=tmp_path, name="second", device="cpu")
    assert bits(first.folder) == bits(second.folder)
    assert first.finished


def test_another_seed_gives_other_bits(tiny: Make, tmp_path: Path) -> None:
    first = run(tiny(), out=tmp_path, name="first", device="cpu")
    second = run(tiny(seed=4), out=tmp_path, name="second", device="cpu")
    assert bits(first.folder) != bits(second.folder)


@pytest.mark.parametrize("sections", [{}, FEDLD], ids=["fedavg", "fedld"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_resumes_to_the_same_bits(
    tiny: Make, tmp_path: Path, broken: Broken, sections: dict[str, Any], after: int
) -> None:
    scenario = tiny(**sections)
    whole = run(scenario, out=tmp_path, name="whole", device="cpu")
    folder = broken(scenario, after)
    resumed = resume(folder)
    assert bits(resumed.folder) == bits(whole.folder)


def test_a_checkpoint_that_a_kill_kept_from_being_dropped_is_dropped_at_the_end(
    tiny: Make, tmp_path: Path, broken: Broken
) -> None:
    whole = run(tiny(), out=tmp_path, name="whole", device="cpu").folder
    every = run(tiny(), out=tmp_path, name="every", device="cpu", keep_every=1).folder
    folder = broken(tiny(), 3)
    for file in (every / "checkpoints").iterdir():
        shutil.copy(file, folder / "checkpoints")
    assert bits(resume(folder).folder) == bits(whole)
    assert len(bits(every)) > len(bits(whole))


def test_flower_strategy_memory_survives(tiny: Make, tmp_path: Path, broken: Broken) -> None:
    scenario = tiny(
        strategy={
            "kind": "flower",
            "name": "FedAvgM",
            "options": {"server_momentum": 0.9, "server_learning_rate": 0.5},
        }
    )
    whole = run(scenario, out=tmp_path, name="whole", device="cpu")
    folder = broken(scenario, 2)
    assert bits(resume(folder).folder) == bits(whole.folder)


def test_without_checkpoints_everything_is_replayed_and_compared(
    tiny: Make, tmp_path: Path
) -> None:
    whole = run(tiny(), out=tmp_path, name="whole", device="cpu")
    before = bits(whole.folder)
    shutil.rmtree(whole.folder / "checkpoints")
    rows = (whole.folder / "metrics.jsonl").read_bytes()
    (whole.folder / "metrics.jsonl").write_bytes(rows[:-10])
    assert bits(resume(whole.folder).folder) == before


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (
            lambda f: edit(f / "scenario.yaml", "learning_rate: 0.1", "learning_rate: 0.2"),
            r"scenario\.yaml: was changed since",
        ),
        (lambda f: (f / "rounds.jsonl").write_text(""), "missing or changed"),
        (
            lambda f: edit(f / "population.json", '"name": "site-00"', '"name": "site-x"'),
            "who holds which images changed",
        ),
        (
            lambda f: edit(f / "population.json", '"synthetic/chest": "', '"synthetic/chest": "0'),
            "the data changed",
        ),
        (lambda f: flip_a_bit(f / "checkpoints" / "round-00002.safetensors"), "checksum"),
    ],
    ids=["scenario", "rounds", "population", "data", "checkpoint"],
)
def test_a_folder_that_was_tampered_with_is_not_resumed(
    tiny: Make, broken: Broken, damage: Callable[[Path], None], complaint: str
) -> None:
    folder = broken(tiny(rounds=4), 2)
    damage(folder)
    with pytest.raises(InputError, match=complaint):
        resume(folder)


@pytest.mark.parametrize("kind", ["weighted_mean", "principal_gradient"])
def test_training_that_diverges_stops_with_site_and_round(
    tiny: Make, tmp_path: Path, kind: str
) -> None:
    scenario = tiny(
        strategy={"kind": kind},
        client={
            "epochs": 1,
            "batch_size": 16,
            "optimizer": {"kind": "sgd", "learning_rate": 1e30},
        },
    )
    with pytest.raises(RunError, match=r"round \d: training diverged at site-0.*learning_rate"):
        run(scenario, out=tmp_path, device="cpu")


def test_a_trained_model_can_be_loaded(tiny: Make, tmp_path: Path) -> None:
    record = run(tiny(), out=tmp_path, device="cpu")
    final = load_model(record.folder, "final")
    for name, tensor in final_model(record.folder).items():
        assert torch.equal(final.state_dict()[name], tensor)
    assert not final.training
    assert load_model(record.folder)(torch.zeros(2, 1, 16, 16)).shape == (2, 2)


def test_replay_notices_other_numbers(tiny: Make, tmp_path: Path) -> None:
    folder = run(tiny(), out=tmp_path, name="whole", device="cpu").folder
    for checkpoint in (folder / "checkpoints").iterdir():
        checkpoint.unlink()
    lines = (folder / "rounds.jsonl").read_text().splitlines(keepends=True)
    row = json.loads(lines[1])
    row["train_loss"] += 1e-9
    lines[1] = json.dumps(row) + "\n"
    (folder / "rounds.jsonl").write_text("".join(lines[:2]))
    with pytest.raises(RunError, match="differs from what is recorded on line 2"):
        resume(folder)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_a_random_moment_resumes_to_the_same_bits(
    tiny: Make, tmp_path: Path, seed: int
) -> None:
    scenario = tiny(rounds=30, **FEDLD)
    whole = run(scenario, out=tmp_path, name="whole", device="cpu")
    file = tmp_path / "scenario.yaml"
    file.write_text(yaml.safe_dump(scenario.resolved()))
    command = [sys.executable, "-m", "fedsim"]
    process = subprocess.Popen(
        [*command, "run", file, "--out", tmp_path, "--run-name", "killed", "--device", "cpu"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    folder, rng = tmp_path / "killed", np.random.default_rng(seed)
    wanted = rng.integers(1, 25)
    deadline = time.monotonic() + 120
    while len(read_lines(folder / "rounds.jsonl")) < wanted and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.03))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(read_lines(folder / "rounds.jsonl")) < 30
    subprocess.run([*command, "resume", folder, "--quiet"], check=True, capture_output=True)
    assert bits(folder) == bits(whole.folder)


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tiny: Make, tmp_path: Path) -> None:
    file, folder = tmp_path / "scenario.yaml", tmp_path / "stopped"
    file.write_text(yaml.safe_dump(tiny(rounds=400).resolved()))
    process = subprocess.Popen(
        [sys.executable, "-m", "fedsim", "run", file, "--out", tmp_path, "--run-name", "stopped"],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not read_lines(folder / "rounds.jsonl") and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"fedsim resume {folder}" in said
    assert "Stopping after this round" in said
    assert "Traceback" not in said
    assert f"round-{len(read_lines(folder / 'rounds.jsonl')):05d}" in str(
        max((folder / "checkpoints").iterdir())
    )
    assert "interrupted" in (folder / "log.txt").read_text()


def test_one_site_is_plain_training_bit_for_bit(tiny: Make, tmp_path: Path) -> None:
    scenario = tiny(population={"num_sites": 1})
    folder = run(scenario, out=tmp_path, device="cpu").folder
    workplace = Workplace(scenario, open_population(scenario), torch.device("cpu"))
    model, client, streams = workplace.network.module, scenario.client, Streams(scenario.seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for round in range(1, scenario.rounds + 1):
        train(
            model,
            workplace.examples(0, "train"),
            client.plan,
            client.objective,
            torch.optim.SGD(model.parameters(), 0.1),
            context=workplace.context(workplace.examples(0, "train"), round),
            generator=streams.torch("batches", round=round, site=0),
        )
    torch.set_num_threads(threads)
    for name, tensor in final_model(folder).items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_same_data_and_one_full_batch_step_is_gradient_descent(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = tiny(
        client={"steps": 1, "batch_size": 1000, "optimizer": {"kind": "sgd", "learning_rate": 0.1}}
    )
    alone = open_population(scenario).examples(0, "train")
    monkeypatch.setattr(
        "fedsim.data.population.Population.examples", lambda self, site, split: alone
    )
    monkeypatch.setattr(
        "fedsim.data.population.Population.truth", lambda self, site, split: alone.labels
    )
    folder = run(scenario, out=tmp_path, device="cpu").folder
    workplace = Workplace(scenario, open_population(scenario), torch.device("cpu"))
    weights = {name: p.double().requires_grad_() for name, p in workplace.network.initial.items()}
    images, labels = torch.from_numpy(alone.images).double(), torch.from_numpy(alone.labels)
    network = workplace.network.module.double()
    for _ in range(scenario.rounds):
        logits = torch.func.functional_call(network, weights, images)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, list(weights.values()))
        weights = {
            name: (w - 0.1 * g).detach().requires_grad_()
            for (name, w), g in zip(weights.items(), gradients, strict=True)
        }
    for name, tensor in final_model(folder).items():
        torch.testing.assert_close(tensor.double(), weights[name].detach(), rtol=1e-6, atol=1e-6)


def test_a_round_without_sites_changes_nothing(tiny: Make, tmp_path: Path) -> None:
    record = run(
        tiny(cohort={"kind": "poisson", "sampling_rate": 1e-9}), out=tmp_path, device="cpu"
    )
    assert [row["cohort"] for row in record.rounds] == [[], [], []]
    assert {row["train_loss"] for row in record.rounds} == {None}
    scenario = tiny()
    initial = Workplace(scenario, open_population(scenario), torch.device("cpu")).network.initial
    for name, tensor in final_model(record.folder).items():
        assert torch.equal(tensor, initial[name])


def test_an_existing_run_is_never_touched(tiny: Make, tmp_path: Path) -> None:
    folder = run(tiny(), out=tmp_path, name="mine", device="cpu").folder
    before = bits(folder)
    with pytest.raises(InputError, match="fedsim resume"):
        run(tiny(seed=9), out=tmp_path, name="mine", device="cpu")
    assert bits(folder) == before


def test_bad_input_leaves_no_folder(tiny: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="FedNothing"):
        run(tiny(strategy={"kind": "flower", "name": "FedNothing"}), out=tmp_path, device="cpu")
    with pytest.raises(InputError, match="device"):
        run(tiny(), out=tmp_path, device="cuda:99")
    with pytest.raises(InputError, match="run name"):
        run(tiny(), out=tmp_path, name="../elsewhere", device="cpu")
    assert not list(tmp_path.iterdir())


def test_going_on_with_other_versions_is_said_aloud(tiny: Make, tmp_path: Path) -> None:
    folder = run(tiny(), out=tmp_path, device="cpu").folder
    shutil.rmtree(folder / "checkpoints")
    edit(folder / "environment.jsonl", f'"torch": "{version("torch")}"', '"torch": "1.0"')
    command = [sys.executable, "-m", "fedsim", "resume", folder, "-q"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert "Warning: resumed elsewhere, bits may differ: torch: 1.0 -> " in said


def test_resume_computes_where_the_run_began(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(tiny(), out=tmp_path, device="cpu").folder
    shutil.rmtree(folder / "checkpoints")
    asked: list[str] = []

    def choose(names: str) -> tuple[torch.device, ...]:
        asked.append(names)
        return (torch.device("cpu"),)

    monkeypatch.setattr("fedsim.simulate.choose_devices", choose)
    resume(folder)
    shutil.rmtree(folder / "checkpoints")
    resume(folder, device="cuda:7")
    assert asked == ["cpu", "cuda:7"]


def test_threads_and_random_state_are_given_back(tiny: Make, tmp_path: Path) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    run(tiny(), out=tmp_path, device="cpu")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
