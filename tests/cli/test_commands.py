"""The commands: what they print, with which exit code, and how little they load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from fedsim.cli.catalogue import USES
from fedsim.errors import DataError, FedsimError
from fedsim.plugins import kind_of
from fedsim.scenario.families import FAMILIES

COMMANDS = [
    "run",
    "resume",
    "validate",
    "plan",
    "data",
    "schema",
    "list",
    "report",
    "cite",
    "export",
    "predict",
]
HEAVY = ["torch", "monai", "flwr", "matplotlib", "sklearn", "ray", "pandas"]


def test_help_names_every_command(fedsim: Any) -> None:
    code, out, _ = fedsim("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)


def test_without_arguments_help_is_shown(fedsim: Any) -> None:
    _, out, err = fedsim()
    assert "validate" in out + err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(fedsim: Any, command: str) -> None:
    code, out, _ = fedsim(command, "--help")
    assert code == 0
    assert "Usage" in out


def test_short_help_and_version(fedsim: Any) -> None:
    assert fedsim("list", "-h") == fedsim("list", "--help")
    assert fedsim("--version") == (0, f"fedsim {version('fedsim-medical')}\n", "")


def test_validate_says_what_the_sites_would_hold(fedsim: Any, quickstart: Path) -> None:
    code, out, err = fedsim("validate", quickstart)
    assert (code, err) == (0, "")
    assert f"{quickstart}: valid; digest " in out
    assert " sites with " in out


def test_validate_takes_changes(fedsim: Any, quickstart: Path) -> None:
    code, out, _ = fedsim("validate", quickstart, "--set", "population.num_sites=4")
    assert code == 0
    assert "4 sites with " in out


def test_validate_needs_no_file_of_real_data(
    fedsim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDSIM_DATA_DIR", raising=False)
    path = tmp_path / "real.yaml"
    path.write_text(
        "version: 1\nname: real\nrounds: 2\n"
        "data: {source: {kind: medmnist, name: pneumoniamnist}, task: binary}\n"
        "population: {num_sites: 4, held_out: official}\nclient: {epochs: 1, batch_size: 8}\n"
    )
    code, out, _ = fedsim("validate", path)
    assert code == 0
    assert "the data are not on this computer" in out


def test_validate_calls_valid_only_what_the_labels_allow(
    fedsim: Any, quickstart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DataError("too few images")

    monkeypatch.setattr("fedsim.scenario.open_population", refuse)
    assert fedsim("validate", quickstart) == (2, "", f"Error: {quickstart}: too few images\n")


@pytest.mark.parametrize("command", ["validate", "run"])
def test_what_the_sites_cannot_do_is_pointed_at(
    fedsim: Any, quickstart: Path, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "study.yaml"
    text = quickstart.read_text(encoding="utf-8")
    size = next(line for line in text.splitlines() if "batch_size:" in line)
    path.write_text(text.replace(size, f"{size.partition(':')[0]}: 9999"), encoding="utf-8")
    out = ["--out", tmp_path] if command == "run" else []
    code, _, err = fedsim(command, path, *out, "--set", "client.drop_last=true")
    place = f"{text.splitlines().index(size) + 1}:{len(size) - len(size.lstrip()) + 1}"
    assert code == 2
    assert f"{path}:{place}: client.batch_size\n  with drop_last, site-" in err
    changes = ["client.drop_last=true", "client.batch_size=8888"]
    _, _, err = fedsim(command, path, *out, *(a for c in changes for a in ("--set", c)))
    assert "--set client.batch_size=8888: client.batch_size\n  with drop_last" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["validate", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["validate", "QUICKSTART", "--set", "ronds=3"], "did you mean 'rounds'?"),
        (["validate", "QUICKSTART", "--set", "rounds"], "expected key.path=value"),
        (["validate", "QUICKSTART", "--set", "population.num_sites=999999"], "there are "),
        (["list", "nonsense"], "there is no section, family, kind or metric 'nonsense'"),
        (["list", "dirichlt"], "did you mean 'dirichlet'?"),
        (["nonsense"], "No such command"),
        (["run"], "Missing argument"),
        (["run", "QUICKSTART", "--nonsense"], "No such option"),
        (["run", "QUICKSTART", "--keep-every", "0"], "Invalid value"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_code_2_and_says_what_to_mend(
    fedsim: Any, quickstart: Path, arguments: list[str], says: str
) -> None:
    code, out, err = fedsim(*(quickstart if a == "QUICKSTART" else a for a in arguments))
    assert code == 2
    assert says in " ".join(err.split())
    assert "Traceback" not in out + err


def test_a_failure_is_code_1(
    fedsim: Any, quickstart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FedsimError("the disk is full")

    monkeypatch.setattr("fedsim.scenario.load.read_draft", fail)
    assert fedsim("validate", quickstart) == (1, "", "Error: the disk is full\n")


def test_an_interruption_is_code_130(
    fedsim: Any, quickstart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedsim.scenario.load.read_draft", interrupt)
    assert fedsim("validate", quickstart)[0] == 130


def test_schema_is_json(fedsim: Any) -> None:
    code, out, _ = fedsim("schema")
    assert code == 0
    assert json.loads(out)["properties"].keys() >= {"version", "data", "population", "client"}


def test_list_says_for_each_family_where_it_is_used(fedsim: Any) -> None:
    code, out, _ = fedsim("list")
    assert code == 0
    assert "strategies (strategy:) - how the server aggregates" in out
    assert set(USES) == {*FAMILIES, "metrics"}
    for family, parts in FAMILIES.items():
        assert f"{family} ({USES[family][0]}:)" in out
        assert all(f"  {kind_of(part)} " in out for part in parts)


@pytest.mark.parametrize("family", USES)
def test_a_family_is_used_where_the_catalogue_says(fedsim: Any, family: str) -> None:
    schema = json.loads(fedsim("schema")[1])

    def sections(here: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the sections that may stand at a place, in a list or not."""
        if "$ref" in here:
            here = schema["$defs"][here["$ref"].rpartition("/")[2]]
        inside = [*here.get("anyOf", []), *here.get("oneOf", [])]
        inside += [here["items"]] if "items" in here else []
        return [here, *(found for part in inside for found in sections(part))]

    there = [schema]
    for key in USES[family][0].split("."):
        found = [part for here in there for part in sections(here)]
        there = [part["properties"][key] for part in found if key in part.get("properties", {})]
        assert there, key
    assert fedsim("list", family)[1].startswith(f"{family} ({USES[family][0]}:) - ")


def test_a_kind_is_listed_with_its_keys(fedsim: Any) -> None:
    code, out, _ = fedsim("list", "dirichlet")
    assert code == 0
    assert out.startswith("kind: dirichlet  (population.partition:, one of the partitions)\n")
    assert "- alpha: a number > 0 and <= 1000000; required" in out
    assert "- min_examples: a whole number > 0; default 8" in out


def test_a_kind_is_listed_with_the_paper_it_is_from(fedsim: Any) -> None:
    out = fedsim("list", "principal_gradient")[1]
    assert "  reference:\n    @inproceedings{zeng2024fedld,\n" in out
    assert out.endswith("}\n")
    assert "reference" not in fedsim("list", "dirichlet")[1]


def test_a_kind_of_two_families_is_listed_twice(fedsim: Any) -> None:
    out = fedsim("list", "sgd")[1]
    assert "(client.optimizer:" in out
    assert "(server_optimizer:" in out


@pytest.mark.parametrize("kind", [kind_of(part) for parts in FAMILIES.values() for part in parts])
def test_every_kind_can_be_looked_up(fedsim: Any, kind: str) -> None:
    code, out, _ = fedsim("list", kind)
    assert code == 0
    assert "something else" not in out
    assert max(map(len, out.splitlines())) <= 100


SECTIONS = {
    "scenario": "- rounds: a whole number > 0 and <= 1000000; required",
    "data": "- positive_class: a whole number >= 0; default 1; binary tasks: the disease",
    "augmentation": "- max_shift: a whole number >= 0; default 0; pixels",
    "population": "- num_sites: a whole number > 0 and <= 1000000000; not set by default",
    "held_out": "- test: a number > 0 and < 1 or `official`; default 0.2",
    "devices": "- uplink_mbps: a number > 0; default 100.0; 10^6 bits per second from the site",
    "profile": "- fp32_tflops: a number > 0; required; 10^12 floating-point operations per second",
    "outages": "- to_round: a whole number >= 1; not set by default; the last round; null for good",
    "client": "how a site takes its steps",
    "privacy": "- delta: a number >= 1e-09 and < 1; required; of every epsilon",
    "budget": "- epsilon: a number > 0 and <= 1000000; required; at the section's delta",
    "evaluation": "- every: a whole number > 0; default 1; rounds",
    "external": "- name: text; required; as tables and figures call it",
}


@pytest.mark.parametrize(("section", "says"), SECTIONS.items())
def test_a_section_is_listed_with_its_keys(fedsim: Any, section: str, says: str) -> None:
    code, out, _ = fedsim("list", section)
    assert code == 0
    assert says in " ".join(out.split())
    assert out.startswith(f"section: {section}  (")
    assert "something else" not in out


def test_the_list_begins_with_every_section(fedsim: Any) -> None:
    first = fedsim("list")[1].split("\n\n")[0].splitlines()
    assert first[0].startswith("sections - ")
    assert [line.split()[0] for line in first[1:] if not line.startswith("   ")] == list(SECTIONS)


def test_a_key_is_explained_as_its_docstring_does(fedsim: Any) -> None:
    assert "required; concentration; 0.1 is severe skew" in fedsim("list", "dirichlet")[1]


def test_a_metric_can_be_looked_up(fedsim: Any) -> None:
    out = fedsim("list", "auroc")[1]
    assert "higher is better; for binary, multiclass, ordinal tasks" in out
    assert "Area under the ROC curve" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list"],
        ["list", "dirichlet"],
        ["schema"],
        ["validate", "QUICKSTART"],
        ["data", "--help"],
        ["data", "list"],
    ],
)
def test_describing_a_study_loads_nothing_heavy(
    quickstart: Path, tmp_path: Path, arguments: list[str]
) -> None:
    arguments = [str(quickstart) if a == "QUICKSTART" else a for a in arguments]
    script = (
        "import json, sys\nfrom fedsim.cli import main\n"
        "try:\n    main()\nexcept SystemExit as exit_:\n    assert not exit_.code, exit_.code\n"
        f"json.dump([m for m in {HEAVY} if m in sys.modules], sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"FEDSIM_CACHE_DIR": str(tmp_path)},
    )
    assert done.stdout
    assert json.loads(done.stderr) == []
    assert not list(tmp_path.iterdir()), "nothing is drawn"
