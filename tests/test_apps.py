"""The apps give the bits of the in-process engine on nodes that behave as Flower's do."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from PIL import Image

from fedsim import apps
from fedsim.engines.inline import failure, flower_identity
from fedsim.errors import DivergedError, InputError, RunError
from fedsim.flower import roll_call
from fedsim.records import RunRecord
from fedsim.scenario import Scenario, load_scenario
from fedsim.simulate import run

Make = Callable[..., Scenario]
SITES, CLASSES, SPLITS = ("ward 2", "ward 10"), ("normal", "opacity"), ("train", "test")
OPTIONS = {"resume": "", "run-name": "", "device": "cpu", "keep-every": 0}


class Runtime(Grid):
    """Nodes as Flower's runtimes have them: random ids, replies in any order, content by value.

    Args:
        configs: of the nodes.
        late: looks for nodes that show one node alone.
    """

    def __init__(self, configs: Sequence[dict[str, Any]], late: int = 0) -> None:
        ids = np.random.default_rng(1).permutation(10**6)[: len(configs)].tolist()
        self.contexts = {
            node: Context(0, node, config, RecordDict(), {})
            for node, config in zip(ids, configs, strict=True)
        }
        self.waiting: dict[str, Message] = {}
        self.num_pushed, self.late = 0, late
        self.fails: Callable[[Message], bool] = lambda message: False

    def get_node_ids(self) -> Iterable[int]:
        self.late -= 1
        return list(self.contexts)[: 1 if self.late >= 0 else None]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            self.num_pushed += 1
            ids.append(str(self.num_pushed))
            content = pickle.loads(pickle.dumps(message.content))
            copy = Message(content, message.metadata.dst_node_id, message.metadata.message_type)
            copy.metadata.__dict__["_message_id"] = ids[-1]
            self.waiting[ids[-1]] = copy
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        last = max(message_ids, key=int)
        message = self.waiting.pop(last)
        context = self.contexts[message.metadata.dst_node_id]
        if self.fails(message):
            reply = Message(Error(3, "node unavailable"), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = 1
            return [reply]
        return [pickle.loads(pickle.dumps(apps.client(message, context)))]

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any: ...

    def create_message(self, *args: Any, **kwargs: Any) -> Any: ...

    def send_and_receive(self, *args: Any, **kwargs: Any) -> Any: ...


def simulated(num: int) -> Runtime:
    return Runtime([{"partition-id": n, "num-partitions": num} for n in range(num)])


def with_folders(folders: Sequence[Path]) -> Runtime:
    return Runtime(
        [
            {"partition-id": n, "num-partitions": len(folders), "data-dir": str(folder)}
            for n, folder in enumerate(folders)
        ]
    )


def serve(grid: Grid, tmp_path: Path, scenario: Scenario | None = None, **more: Any) -> RunRecord:
    file = tmp_path / "scenario.yaml"
    if scenario is not None:
        file.write_text(yaml.safe_dump(scenario.resolved()))
    options = {**OPTIONS, "scenario": str(file), "out": str(tmp_path / "served"), **more}
    with flower_identity():
        return apps.serve(grid, options)


def bits(record: RunRecord) -> dict[str, bytes]:
    files = [record.folder / name for name in ("rounds.jsonl", "metrics.jsonl")]
    files += sorted((record.folder / "checkpoints").iterdir())
    return {file.name: file.read_bytes() for file in files}


def paint(path: Path, site: int, label: int, number: int) -> None:
    """Save a picture that shows its class a little, and its site."""
    rng = np.random.default_rng([site, label, number])
    pixels = rng.integers(0, 200, (16, 16)) + 40 * label + 10 * site
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def pictures(root: Path, sites: Iterable[int]) -> None:
    """Fill folders site/split/class/*, with other numbers of pictures at every site."""
    for site in sites:
        for split, least in zip(SPLITS, (14, 6), strict=True):
            for label, name in enumerate(CLASSES):
                for number in range(least + 3 * site + label):
                    place = root / SITES[site] / split / name / f"{split}{number}.png"
                    paint(place, site, label, number)


def manifest(root: Path, sites: Iterable[int]) -> None:
    """Fill a folder of pictures of known patients, listed in a CSV manifest."""
    root.mkdir(parents=True)
    with (root / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "site", "patient"])
        for site in sites:
            for number in range(50 + 6 * site):
                label = number % 2
                paint(root / f"{site}-{number}.png", site, label, number)
                patient = f"{site}-{number // 4}" if number % 7 else ""
                writer.writerow([f"{site}-{number}.png", CLASSES[label], SITES[site], patient])


def arrays(root: Path, sites: Iterable[int]) -> None:
    """Fill an npz file."""
    held = [(s, n % 2, n) for s in sites for n in range(50 + 6 * s)]
    rng = [np.random.default_rng([7, *one]) for one in held]
    root.mkdir(parents=True)
    np.savez(
        root / "study.npz",
        x=np.array([r.integers(0, 200, (16, 16)) for r in rng], np.uint8),
        y=np.array([label for _, label, _ in held]),
        hospital=np.array([SITES[site] for site, _, _ in held]),
    )


KINDS: dict[str, tuple[Callable[[Path, Iterable[int]], None], dict[str, Any], Any]] = {
    "folders": (
        pictures,
        {"kind": "images", "path": "whole", "image_size": 16},
        {"validation": 0.25, "test": "official"},
    ),
    "manifest": (
        manifest,
        {"kind": "images", "path": "whole/list.csv", "image_size": 16},
        {"validation": 0.2, "test": 0.25},
    ),
    "arrays": (
        arrays,
        {
            "kind": "npz",
            "path": "whole/study.npz",
            "images": "x",
            "labels": "y",
            "columns": {"site": "hospital"},
        },
        {"validation": 0.2, "test": 0.25},
    ),
}


def study(tmp_path: Path, source: dict[str, Any], held_out: Any, **sections: Any) -> Scenario:
    """Return a scenario on the pictures in the folder `whole`."""
    data = {
        "version": 1,
        "name": "study",
        "seed": 5,
        "rounds": 2,
        "data": {"source": {**source, "class_names": list(CLASSES)}, "task": "binary"},
        "population": {"partition": {"kind": "by_column"}, "held_out": held_out},
        "model": {"kind": "mlp", "widths": [8]},
        "client": {
            "epochs": 1,
            "batch_size": 8,
            "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        },
        "evaluation": {"num_resamples": 20, "loss_decomposition": False},
        **sections,
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(data))
    return load_scenario(file)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Make the data of all sites in one folder, and those of each in one of its own."""
    pictures(tmp_path / "whole", (0, 1))
    homes = [tmp_path / "a", tmp_path / "b"]
    for site, home in enumerate(homes):
        pictures(home, [site])
    return homes


def on_folders(tmp_path: Path, **sections: Any) -> Scenario:
    _, source, held_out = KINDS["folders"]
    return study(tmp_path, source, held_out, **sections)


def test_simulated_nodes_give_the_bits_of_this_process(tiny: Make, tmp_path: Path) -> None:
    scenario = tiny(cohort={"kind": "fixed_size", "num_sites": 2})
    here = run(scenario, out=tmp_path, device="cpu")
    served = serve(simulated(3), tmp_path, scenario)
    assert bits(served) == bits(here)
    assert served.population == here.population


@pytest.mark.parametrize("kind", KINDS)
def test_sites_with_their_own_images_give_the_bits_of_a_simulation(
    tmp_path: Path, kind: str
) -> None:
    fill, source, held_out = KINDS[kind]
    homes = [tmp_path / "a", tmp_path / "b"]
    for site, home in enumerate(homes):
        fill(home, [site])
    fill(tmp_path / "whole", (0, 1))
    arrays(tmp_path / "elsewhere", [0])
    source_of_test = {
        "kind": "npz",
        "path": "elsewhere/study.npz",
        "images": "x",
        "labels": "y",
    }
    evaluation = {
        "num_resamples": 20,
        "loss_decomposition": False,
        "external": [{"name": "elsewhere", "source": source_of_test}],
    }
    scenario = study(tmp_path, source, held_out, evaluation=evaluation)
    here = run(scenario, out=tmp_path, device="cpu")
    assert {row["split"] for row in here.metrics} == {"validation", "test", "external"}
    (tmp_path / "whole").rename(tmp_path / "away")
    served = serve(with_folders(homes), tmp_path, scenario)
    assert bits(served) == bits(here)
    assert served.run["digest"] == here.run["digest"]
    for part in ("sites", "external", "class_names", "images"):
        assert served.population[part] == here.population[part]


def test_numbers_that_sites_keep_to_themselves_are_learned_to_the_same_bits(
    tmp_path: Path,
) -> None:
    homes = {tmp_path / "a": [0], tmp_path / "b": [1], tmp_path / "whole": [0, 1]}
    for home, sites in homes.items():
        arrays(home, sites)
        with np.load(home / "study.npz") as file:
            found = dict(file)
        brightness = found["x"].mean(axis=(1, 2)) / 7 + found["y"]
        np.savez(home / "study.npz", **found, brightness=brightness)
    _, source, held_out = KINDS["arrays"]
    source = {**source, "targets": {"light": "brightness"}, "class_names": list(CLASSES)}
    data = {"source": source, "task": "regression", "target": "light", "target_range": [10, 18]}
    scenario = study(tmp_path, source, held_out, data=data)
    here = run(scenario, out=tmp_path, device="cpu")
    (tmp_path / "whole").rename(tmp_path / "away")
    served = serve(with_folders([tmp_path / "a", tmp_path / "b"]), tmp_path, scenario)
    assert bits(served) == bits(here)
    assert {row["metric"] for row in served.metrics} == {"rmse", "mae", "r2", "spearman"}


def test_where_patients_are_known_to_sites_alone_intervals_are_over_images(
    tmp_path: Path,
) -> None:
    fill, source, held_out = KINDS["manifest"]
    homes = [tmp_path / "a", tmp_path / "b"]
    for site, home in enumerate(homes):
        fill(home, [site])
    fill(tmp_path / "whole", (0, 1))
    scenario = study(tmp_path, source, held_out)
    assert {r["unit"] for r in run(scenario, out=tmp_path, device="cpu").intervals} == {"patient"}
    served = serve(with_folders(homes), tmp_path, scenario)
    assert {row["unit"] for row in served.intervals} == {"image"}


def serve_with_a_stop(
    folders: list[Path],
    tmp_path: Path,
    scenario: Scenario,
    after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> RunRecord:
    """Serve a scenario until this round is done, then go on with it."""

    def die(progress: Any) -> None:
        if progress.round == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(apps, "_tell", die)
    with pytest.raises(KeyboardInterrupt):
        serve(with_folders(folders), tmp_path, scenario)
    monkeypatch.undo()
    (folder,) = (tmp_path / "served").iterdir()
    return serve(with_folders(folders), tmp_path, scenario=None, resume=str(folder))


def test_a_run_on_nodes_goes_on_to_the_same_bits(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = on_folders(tmp_path)
    here = run(scenario, out=tmp_path, device="cpu")
    served = serve_with_a_stop(folders, tmp_path, scenario, 1, monkeypatch)
    assert bits(served) == bits(here)


CLIENT = {"epochs": 1, "batch_size": 8, "optimizer": {"kind": "sgd", "learning_rate": 0.1}}
KEEPING: dict[str, dict[str, Any]] = {
    "scaffold and ditto": {
        "client": {
            **CLIENT,
            "regulariser": {"kind": "control_variates"},
            "personalisation": {"kind": "ditto"},
        },
        "strategy": {"kind": "scaffold"},
    },
    "moon and private parameters": {
        "client": {
            **CLIENT,
            "regulariser": {"kind": "contrastive"},
            "personalisation": {"kind": "private_parameters", "names": ["3.*"]},
        }
    },
    "fine-tuning": {"client": {**CLIENT, "personalisation": {"kind": "fine_tuning"}}},
}


def kept(folder: Path) -> dict[str, bytes]:
    files = folder.rglob("*.safetensors")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("sections", KEEPING.values(), ids=KEEPING)
def test_what_a_site_keeps_lies_beside_its_images_and_nowhere_else(
    folders: list[Path], tmp_path: Path, sections: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = on_folders(tmp_path, **{"rounds": 3, **sections})
    here = run(scenario, out=tmp_path, device="cpu")
    served = serve_with_a_stop(folders, tmp_path, scenario, 2, monkeypatch)
    assert bits(served) == bits(here)
    assert not (served.folder / "memory").exists()
    expected = kept(here.folder / "memory")
    assert bool(expected) == scenario.client.remembers
    own = [kept(home / ".fedsim" / scenario.digest[:16]) for home in folders]
    assert own[0] | own[1] == expected
    assert all(name.startswith(f"site-0000{n}/") for n in (0, 1) for name in own[n])


def test_a_site_may_keep_what_is_its_own_elsewhere(folders: list[Path], tmp_path: Path) -> None:
    scenario = on_folders(tmp_path, **KEEPING["scaffold and ditto"])
    grid = with_folders(folders)
    for context in grid.contexts.values():
        context.node_config["memory-dir"] = str(tmp_path / "kept")
    serve(grid, tmp_path, scenario)
    assert len(kept(tmp_path / "kept")) >= 2
    assert not any((home / ".fedsim").exists() for home in folders)


def test_a_server_cannot_choose_where_a_site_writes(folders: list[Path]) -> None:
    context = Context(0, 1, {}, RecordDict(), {})
    own = apps.OwnData(folders[0], 0, 2)
    for place in ("../../elsewhere", "/tmp/elsewhere", "0" * 15):
        with pytest.raises(InputError, match="expected 16 hexadecimal digits"):
            apps._memory(ConfigRecord({"place": place}), own, context)


def test_simulated_nodes_keep_what_is_theirs_in_the_run_folder(tiny: Make, tmp_path: Path) -> None:
    scenario = tiny(cohort={"kind": "fixed_size", "num_sites": 2}, **KEEPING["scaffold and ditto"])
    here = run(scenario, out=tmp_path, device="cpu")
    served = serve(simulated(3), tmp_path, scenario)
    assert bits(served) == bits(here)
    assert kept(served.folder / "memory") == kept(here.folder / "memory") != {}


def test_a_run_on_nodes_does_not_go_on_with_other_images(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(progress: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(apps, "_tell", die)
    with pytest.raises(KeyboardInterrupt):
        serve(with_folders(folders), tmp_path, on_folders(tmp_path))
    paint(folders[0] / SITES[0] / "train" / CLASSES[0] / "train0.png", 9, 9, 9)
    (folder,) = (tmp_path / "served").iterdir()
    with pytest.raises(InputError, match="the data changed since the run began"):
        serve(with_folders(folders), tmp_path, scenario=None, resume=str(folder))


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"data": {"source": {"kind": "synthetic", "anatomy": "chest", "num_examples": 90}}},
         "synthetic has no part for one site alone"),
        ({"data": {"source": {"class_names": None}}}, "no site can know the labels of the others"),
        ({"data": {"source": {"root": "whole"}}}, "leave this key out"),
        ({"population": {"num_sites": 2, "partition": {"kind": "iid"}}},
         "iid divides the images of all sites"),
        ({"population": {"appearance": {"kind": "scanner"}}}, "sites have real scanners"),
        ({"population": {"devices": [{"profile": "t4", "share": 1.0}]}}, "have real computers"),
        ({"population": {"outages": [{"probability": 0.5}]}}, "sites have real computers"),
        ({"population": {"label_noise": [{"kind": "symmetric", "rate": 0.1}]}},
         "sites have real labels"),
        (
            {"population": {"adversaries": [{"kind": "sign_flip", "sites": [SITES[0]]}]}},
            "would tell real sites to attack",
        ),
        ({"population": {"holdout_sites": [SITES[0]]}}, "start no SuperNode there"),
        ({"evaluation": {"loss_decomposition": True}}, "set it to false"),
        ({"baselines": ["pooled"]}, "train at the server on images of the sites"),
    ],
)  # fmt: skip
def test_what_needs_all_images_in_one_place_is_refused_with_file_and_line(
    folders: list[Path], tmp_path: Path, sections: dict[str, Any], told: str
) -> None:
    data = on_folders(tmp_path).resolved()
    for section, changes in sections.items():
        if not isinstance(changes, dict):
            data[section] = changes
            continue
        for key, value in changes.items():
            old = data[section].get(key)
            merged = isinstance(old, dict) and isinstance(value, dict) and "kind" not in value
            data[section][key] = {**old, **value} if merged else value
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match=told) as error:
        serve(with_folders(folders), tmp_path)
    assert "scenario.yaml:" in str(error.value)
    assert not (tmp_path / "served").exists()


def test_a_rule_is_checked_on_what_the_sites_say(folders: list[Path], tmp_path: Path) -> None:
    data = on_folders(tmp_path).resolved()
    data["cohort"] = {"kind": "fixed_size", "num_sites": 3}
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match="needs as many sites, there are 2"):
        serve(with_folders(folders), tmp_path)


def test_what_is_wrong_at_a_site_is_told_before_training(
    folders: list[Path], tmp_path: Path
) -> None:
    scenario = on_folders(tmp_path)
    for homes, told in (
        ([folders[0], tmp_path / "none"], "site 1: DataError: .*none"),
        ([folders[0], tmp_path / "whole"], "site 1: .*holds images of 2 sites"),
        (folders[::-1], "call themselves ward 10, ward 2, expected .* ward 2, ward 10"),
        ([folders[0], folders[0]], "call themselves ward 2, ward 2, expected different names"),
    ):
        with pytest.raises(InputError, match=told):
            serve(with_folders(homes), tmp_path, scenario)
    data = scenario.resolved()
    data["population"]["partition"]["min_examples"] = 30
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match=r"site 0: .*fewer than 30 examples of train"):
        serve(with_folders(folders), tmp_path)
    assert not (tmp_path / "served").exists()


def test_nodes_with_and_without_images_do_not_mix(folders: list[Path], tmp_path: Path) -> None:
    grid = with_folders(folders)
    del list(grid.contexts.values())[1].node_config["data-dir"]
    with pytest.raises(InputError, match="site 1: has no data-dir"):
        serve(grid, tmp_path, on_folders(tmp_path))


def test_another_number_of_simulated_nodes_is_refused_with_the_way_out(
    tiny: Make, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="--federation-config 'num-supernodes=3'"):
        serve(simulated(2), tmp_path, tiny())


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name, told in (
        ("", "no scenario: add --run-config"),
        ("nowhere.yaml", r"nowhere\.yaml: not found in .*SuperLink was started"),
    ):
        with pytest.raises(InputError, match=told):
            apps.serve(simulated(2), {**OPTIONS, "scenario": name, "out": str(tmp_path)})


def test_a_node_that_is_gone_fails_its_site(tiny: Make, tmp_path: Path) -> None:
    grid = simulated(3)
    gone = list(grid.contexts)[1]

    def fails(message: Message) -> bool:
        return message.metadata.dst_node_id == gone and message.metadata.message_type == "train"

    grid.fails = fails
    with pytest.raises(RunError, match="round 1: site-01 failed to train: node unavailable"):
        serve(grid, tmp_path, tiny())
    served = serve(grid, tmp_path, tiny(rounds=1, on_client_failure="drop"))
    assert served.rounds[0]["dropped"] == ["site-01"]


def test_what_goes_wrong_at_a_site_is_told_as_in_this_process(tiny: Make, tmp_path: Path) -> None:
    hot = {"epochs": 1, "batch_size": 16, "optimizer": {"kind": "sgd", "learning_rate": 1e30}}
    with pytest.raises(DivergedError, match="round 1: training diverged at site-0"):
        serve(simulated(3), tmp_path, tiny(client=hot))


def test_the_roll_call_waits_for_late_nodes(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roll_call, "LOOK_S", 0.0)
    grid = simulated(3)
    grid.late = 3
    assert serve(grid, tmp_path, tiny(rounds=1)).finished
    grid.late = 10**9
    monkeypatch.setattr(roll_call, "WAIT_S", 0.0)
    with pytest.raises(InputError, match="after 0 s, 1 of 3 sites are there: 0"):
        serve(grid, tmp_path, tiny(rounds=1, seed=4))


def test_two_nodes_that_are_the_same_site_are_refused(tiny: Make, tmp_path: Path) -> None:
    grid = Runtime([{"partition-id": 0, "num-partitions": 2}] * 2)
    with pytest.raises(InputError, match="2 nodes must be the sites 0 to 1, they say"):
        serve(grid, tmp_path, tiny())


def test_a_run_that_fails_says_how_to_go_on_and_not_where_in_the_code(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(message: Message, context: Context) -> Message:
        return failure(message, "no \x1b[2J disk")

    monkeypatch.setattr(apps, "_answer", fail)
    with pytest.raises(RunError, match="disk"), apps._shown():
        serve(simulated(3), tmp_path, tiny(rounds=1, evaluation={"every": 1}))
    said = capsys.readouterr().err
    (folder,) = (tmp_path / "served").iterdir()
    assert r"no \x1b[2J disk" in said
    assert f"go on with: flwr run . --stream --run-config \"resume='{folder}'\"" in said
    assert "Traceback" not in said
    assert "Traceback" in (folder / "log.txt").read_text()
