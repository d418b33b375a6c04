"""A damaged or foreign run folder is recognised before anything in it changes, with a way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fedsim
from fedsim import trained
from fedsim.errors import InputError
from fedsim.records import checkpoint, read
from fedsim.scenario import Scenario
from fedsim.simulate import resume, run

Make = Callable[..., Scenario]
CHECKPOINT = "checkpoints/round-{:05d}.safetensors"


def everything(folder: Path) -> dict[str, bytes]:
    """Return all that a run left, but for the lock and what is noted at every start."""
    noted = ("environment.jsonl", "log.txt", ".lock")
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name not in noted
    }


def complaint(folder: Path) -> str:
    """Return why a run cannot go on; nothing that it left changes."""
    before = everything(folder)
    with pytest.raises(InputError) as caught:
        resume(folder)
    assert everything(folder) == before
    return str(caught.value)


@pytest.fixture(scope="module")
def begun(tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four rounds that ended after the third, with the checkpoints of all its states."""

    class Ended(Exception):
        pass

    def end(progress: Any) -> None:
        if progress.round == 3:
            raise Ended

    folder = tmp_path_factory.mktemp("begun")
    with pytest.raises(Ended):
        run(tiny(rounds=4), out=folder, name="half", device="cpu", keep_every=1, watch=end)
    return folder / "half"


@pytest.fixture
def halfway(begun: Path, tmp_path: Path) -> Path:
    """A copy of that run to be damaged."""
    return Path(shutil.copytree(begun, tmp_path / "half"))


@pytest.fixture(scope="module")
def done(tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, undisturbed."""
    folder = tmp_path_factory.mktemp("done")
    return run(tiny(rounds=4), out=folder, name="own", device="cpu", keep_every=1).folder


@pytest.fixture(scope="module")
def stranger(tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with another seed: states of the same names and shapes."""
    folder = tmp_path_factory.mktemp("stranger")
    return run(tiny(rounds=4, seed=4), out=folder, device="cpu", keep_every=1).folder


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "bomb", "text", "folder"])
def test_a_damaged_checkpoint_is_told_with_those_that_are_whole(halfway: Path, damage: str) -> None:
    last = halfway / CHECKPOINT.format(3)
    content = last.read_bytes()
    middle = len(content) // 2
    changed = {
        "cut": content[:middle],
        "emptied": b"",
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "bomb": (2**63 - 1).to_bytes(8, "little") + content[8:],
        "text": b"[" * 100_000,
    }
    last.unlink()
    if damage == "folder":
        last.mkdir()
    else:
        last.write_bytes(changed[damage])
    said = complaint(halfway)
    assert f"{last}: is no checkpoint that can be read" in said
    assert "Whole are the checkpoints of the rounds 0, 1, 2: remove those after round 2" in said


def test_without_the_damaged_checkpoint_the_run_ends_with_the_same_bits(
    halfway: Path, done: Path
) -> None:
    (halfway / CHECKPOINT.format(3)).unlink()
    found, expected = everything(resume(halfway).folder), everything(done)
    for bits in (found, expected):
        del bits["timing.jsonl"]
    assert found == expected


@pytest.mark.parametrize("from_round", [2, 3])
def test_a_checkpoint_of_another_run_is_recognised(
    halfway: Path, stranger: Path, from_round: int
) -> None:
    shutil.copy(stranger / CHECKPOINT.format(from_round), halfway / CHECKPOINT.format(3))
    said = complaint(halfway)
    assert "was copied here or renamed: it is checkpoints/round-0000" in said
    assert f"of run {read(stranger).run['digest'][:10]}" in said
    assert "Whole are the checkpoints of the rounds 0, 1, 2" in said


def test_a_renamed_checkpoint_is_recognised(halfway: Path) -> None:
    shutil.copy(halfway / CHECKPOINT.format(2), halfway / CHECKPOINT.format(5))
    assert "it is checkpoints/round-00002.safetensors of run" in complaint(halfway)


def test_of_no_whole_checkpoint_the_beginning_is_the_way_out(halfway: Path) -> None:
    for file in (halfway / "checkpoints").iterdir():
        file.write_bytes(b"")
    said = complaint(halfway)
    assert "No other checkpoint is whole: remove" in said
    shutil.rmtree(halfway / "checkpoints")
    assert resume(halfway).finished


def test_the_model_of_another_run_is_never_taken_for_this_ones(
    done: Path, tmp_path: Path, stranger: Path
) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "own"))
    for round in range(5):
        shutil.copy(stranger / CHECKPOINT.format(round), folder / CHECKPOINT.format(round))
    for act in (trained.load, trained.load_model, fedsim.export):
        with pytest.raises(InputError, match="was copied here or renamed"):
            act(folder, which="final")
    assert not (folder / "export").exists()


def test_a_checkpoint_from_before_owners_were_recorded_is_taken(halfway: Path) -> None:
    for round in range(4):
        path = halfway / CHECKPOINT.format(round)
        state = checkpoint.load(path)
        del state[checkpoint.OWNER]
        checkpoint.save(path, state)
    assert resume(halfway).finished


def test_a_model_that_does_not_fit_the_scenario_is_told(halfway: Path) -> None:
    path = halfway / CHECKPOINT.format(3)
    state = checkpoint.load(path)
    state["model"] = {name: tensor[..., :1] for name, tensor in state["model"].items()}
    checkpoint.save(path, state)
    with pytest.raises(InputError, match="does not fit the network of scenario"):
        trained.load_model(halfway, "final")


@pytest.mark.parametrize("name", ["rounds", "metrics", "timing", "environment"])
@pytest.mark.parametrize("torn", [b'{"round": 4, "co', b"\xff\xfe", b"{}", b'{"round": 4}'])
def test_a_line_that_a_crash_left_half_written_is_made_anew(
    halfway: Path, name: str, torn: bytes
) -> None:
    with (halfway / f"{name}.jsonl").open("ab") as file:
        file.write(torn)
    record = resume(halfway)
    assert record.finished
    assert len(record.rounds) == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.jsonl", "{}\n", "line 1 lacks round, split, site, metric, value"),
        ("metrics.jsonl", '{"round": 0}\n', "line 1 lacks split"),
        ("rounds.jsonl", '{"round": 1}\n[\n', "line 2 is no JSON"),
        ("rounds.jsonl", '{"round": 1}\n3\n', "line 2: expected an object"),
        ("timing.jsonl", "[" * 100_000 + "\n", "line 1 is no JSON"),
        ("population.json", "{}", "it lacks sites, class_names, images, checksums"),
        ("population.json", "[" * 100_000, "is damaged"),
        (
            "run.json",
            '{"format": 4, "digest": "x", "keep_every": "y", "chosen": {}}',
            "keep_every is no number",
        ),
        (
            "run.json",
            '{"format": 5, "digest": "x", "keep_every": 1, "chosen": {}}',
            "written in format 5, this",
        ),
        ("run.json", '{"digest": "x", "keep_every": 1}', "it lacks format"),
        ("scenario.yaml", "rounds: many\nevaluation: {select_by: auroc}\n", "rounds is no number"),
        ("scenario.yaml", "rounds: 3\nevaluation: 4\n", "select_by is no metric"),
        ("scenario.yaml", "rounds: 3\nevaluation: {}\n", "select_by is no metric"),
        ("scenario.yaml", "!!python/object/apply:os.system [true]\n", "is damaged"),
    ],
)
def test_damage_to_a_file_is_told_by_file_and_line(
    halfway: Path, name: str, content: str, message: str
) -> None:
    (halfway / name).write_text(content)
    said = complaint(halfway)
    assert str(halfway / name if "format 5" not in message else halfway) in said
    assert message in said


@pytest.mark.parametrize("name", ["scenario.yaml", "run.json", "population.json"])
def test_a_missing_file_is_told(halfway: Path, name: str) -> None:
    (halfway / name).unlink()
    assert name in complaint(halfway)


def test_an_edited_scenario_is_told(halfway: Path) -> None:
    file = halfway / "scenario.yaml"
    file.write_text(file.read_text().replace("epochs: 1", "epochs: 2"))
    assert "was changed since the run began" in complaint(halfway)


@pytest.mark.parametrize("name", ["run.json", "scenario.yaml"])
def test_a_file_in_place_of_the_folder_is_told(halfway: Path, name: str) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        resume(halfway / name)


def test_a_lock_that_is_a_link_does_not_empty_what_it_leads_to(
    halfway: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    (halfway / ".lock").unlink()
    (halfway / ".lock").symlink_to(tmp_path / "thesis.txt")
    assert resume(halfway).finished
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_an_export_that_was_changed_is_told(done: Path, tmp_path: Path) -> None:
    folder = fedsim.export(done, out=tmp_path / "export", programs=())
    file = folder / "model.json"
    known = json.loads(file.read_text())
    changes: list[dict[str, Any]] = [
        {"format": 2},
        {"model": {"kind": "nothing"}},
        {"num_channels": 10**9},
        {"image_size": 10**9},
        {"image_size": "28"[:0]},
        {"class_names": []},
        {"class_names": 3},
        {"fit": "shrink"},
        {"which": "worst"},
        {"normalisation": None},
        {"sha256": None},
    ]
    for change in changes:
        file.write_text(json.dumps({**known, **change}))
        with pytest.raises(InputError, match=r"model\.json: is damaged"):
            trained.load(folder)
    for key in ("model", "fit", "which", "class_names", "normalisation"):
        file.write_text(json.dumps({k: v for k, v in known.items() if k != key}))
        with pytest.raises(InputError, match=r"model\.json: is damaged"):
            trained.load(folder)
    file.write_text(json.dumps({**known, "image_size": 64}))
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be used"):
        trained.load(folder)
    file.write_text(json.dumps(known))
    assert trained.load(folder).description == known
